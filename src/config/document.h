// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::config {

/// A piece of a YAML document. Every scalar is text here: what it means is for the one who knows its type.
struct Node {
  enum class Kind { kNull, kScalar, kList, kMapping };
  struct Entry;

  Kind kind = Kind::kNull;
  int line = 0;                // from 1
  std::string text;            // of a scalar
  std::vector<Node> elements;  // of a list
  std::vector<Entry> entries;  // of a mapping, in order; keys may repeat
};

struct Node::Entry {
  std::string key;
  int line = 0;  // of the key
  Node value;
};

struct SyntaxError {
  int line = 0;
  std::string message;
};

/// Reads one YAML document of UTF-8 text; an empty text is a null node. Refuses what a configuration has no use for and
/// an attacker has: nesting beyond 16 levels, anchors and aliases, tags, keys that are no scalars, a second document.
/// Never throws for a bad text.
std::expected<Node, SyntaxError> parse_document(std::string_view yaml);

}  // namespace sluice::config
