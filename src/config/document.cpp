// SPDX-License-Identifier: Apache-2.0
#include "config/document.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <optional>
#include <sstream>
#include <utility>

#include "base/text.h"
#include "config/report.h"

namespace sluice::config {
namespace {

constexpr std::size_t kMaxDepth = 16;

int line_of(const YAML::Mark& mark) { return std::max(mark.line, 0) + 1; }

/// Builds the tree while the parser reads, so that what is refused is refused before it has cost anything. Refuses by
/// the parser's own exception, which the caller expects anyway.
class TreeBuilder final : public YAML::EventHandler {
 public:
  Node take() && { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (std::exchange(started_, true)) refuse(mark, "a second document; a configuration is one document");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    refuse_decorations(mark, "", anchor);
    if (expects_key()) refuse(mark, "a key is missing here");
    place({Node::Kind::kNull, line_of(mark)});
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { refuse(mark, "aliases (*name) are not read here"); }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& text) override {
    refuse_decorations(mark, tag, anchor);
    if (expects_key()) {
      open_.back().key.emplace(text, line_of(mark));
    } else {
      place({Node::Kind::kScalar, line_of(mark), text});
    }
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(Node::Kind::kList, mark, tag, anchor);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(Node::Kind::kMapping, mark, tag, anchor);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Key {
    std::string text;
    int line;
  };
  struct Open {
    Node node;
    std::optional<Key> key;  // read, while its value is not
  };

  [[noreturn]] static void refuse(const YAML::Mark& mark, const std::string& message) {
    throw YAML::ParserException(mark, message);
  }
  static void refuse_decorations(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    if (anchor != 0) refuse(mark, "anchors (&name) are not read here");
    // yaml-cpp gives "!" for a quoted scalar and "?" for everything else that carries no tag.
    if (!tag.empty() && tag != "!" && tag != "?") refuse(mark, "tags (!name) are not read here");
  }

  bool expects_key() const {
    return !open_.empty() && open_.back().node.kind == Node::Kind::kMapping && !open_.back().key;
  }
  void open(Node::Kind kind, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    refuse_decorations(mark, tag, anchor);
    if (expects_key()) refuse(mark, "a key must be a single word");
    if (open_.size() == kMaxDepth) refuse(mark, "nested too deeply");
    open_.push_back({{kind, line_of(mark)}, {}});
  }
  void close() {
    Node node = std::move(open_.back().node);
    open_.pop_back();
    place(std::move(node));
  }
  void place(Node node) {
    if (open_.empty()) {
      root_ = std::move(node);
    } else if (Open& parent = open_.back(); parent.node.kind == Node::Kind::kList) {
      parent.node.elements.push_back(std::move(node));
    } else {
      parent.node.entries.push_back({std::move(parent.key->text), parent.key->line, std::move(node)});
      parent.key.reset();
    }
  }

  bool started_ = false;
  std::vector<Open> open_;
  Node root_;
};

// yaml-cpp takes some control characters for its own marks and guesses at encodings, so neither reaches it.
std::optional<SyntaxError> find_bad_character(std::string_view yaml) {
  int line = 1;
  for (const std::string_view text : split(yaml, '\n')) {
    if (!is_utf8(text)) return SyntaxError{line, "is not UTF-8 text"};
    const bool bad =
        std::ranges::any_of(text, [](char c) { return (c >= 0 && c < 0x20 && c != '\t' && c != '\r') || c == 0x7f; });
    if (bad) return SyntaxError{line, "holds a control character"};
    ++line;
  }
  return std::nullopt;
}

}  // namespace

std::expected<Node, SyntaxError> parse_document(std::string_view yaml) {
  if (std::optional<SyntaxError> error = find_bad_character(yaml)) return std::unexpected(*std::move(error));
  try {
    std::istringstream stream{std::string(yaml)};
    YAML::Parser parser(stream);
    TreeBuilder builder;
    while (parser.HandleNextDocument(builder)) {
    }
    return std::move(builder).take();
  } catch (const YAML::Exception& error) {
    // It may quote what it stumbled over byte by byte, the end of the file as a control character.
    return std::unexpected(SyntaxError{line_of(error.mark), "bad YAML: " + printable(error.msg)});
  }
}

}  // namespace sluice::config
