// SPDX-License-Identifier: Apache-2.0
#include "config/reader.h"

#include <fmt/ranges.h>

#include <unordered_map>
#include <vector>

#include "base/text.h"
#include "config/keys.h"
#include "config/schema.h"

namespace sluice::config {
namespace {

/// The visitor that takes a section's values from a mapping.
class SectionReader {
 public:
  SectionReader(const Node& mapping, std::string section, Report& report)
      : section_(std::move(section)), report_(report) {
    for (const Node::Entry& entry : mapping.entries) {
      const auto [first, is_new] = entries_.emplace(entry.key, &entry);
      if (!is_new) {
        report_.complain(entry.line, join_key(section_, printable(entry.key)),
                         fmt::format("is given twice; the first is on line {}", first->second->line));
      }
    }
  }

  template <class T, class R = decltype(kAnything)>
  void operator()(std::string_view key, T& member, const R& rule = kAnything) {
    known_.push_back(key);
    if (const auto found = entries_.find(key); found != entries_.end()) {
      read(found->second->value, join_key(section_, key), member, rule);
    }
  }

  /// To be called when every member was visited: only then are the known keys known.
  void report_unknown_keys(const Node& mapping) {
    for (const Node::Entry& entry : mapping.entries) {
      if (std::ranges::find(known_, entry.key) == known_.end()) {
        report_.complain(entry.line, join_key(section_, printable(entry.key)), "unknown key; " + suggest(entry.key));
      }
    }
  }

 private:
  template <Section T, class R>
  void read(const Node& node, const std::string& key, T& section, const R&) {
    report_.remember(key, node.line);
    if (node.kind == Node::Kind::kNull) return;  // a heading whose lines are all commented out
    if (node.kind != Node::Kind::kMapping) return report_.complain(node.line, key, "must be a mapping of keys");
    SectionReader reader(node, key, report_);
    describe(reader, section);
    reader.report_unknown_keys(node);
  }

  template <class T, class R>
  void read(const Node& node, const std::string& key, std::vector<T>& list, const R& rule) {
    report_.remember(key, node.line);
    if (node.kind != Node::Kind::kList) return report_.complain(node.line, key, "must be a list, or [] for none");
    list.clear();
    for (const Node& element : node.elements) {
      read(element, element_key(key, list.size()), list.emplace_back(), rule);
    }
  }

  template <class T, class R>
  void read(const Node& node, const std::string& key, std::optional<T>& member, const R& rule) {
    if (node.kind != Node::Kind::kNull) return read(node, key, member.emplace(), rule);
    report_.remember(key, node.line);
    member.reset();
  }

  template <Scalar T, class R>
  void read(const Node& node, const std::string& key, T& member, const R& rule) {
    report_.remember(key, node.line);
    if (node.kind == Node::Kind::kNull) {
      report_.complain(node.line, key, "has no value; must be " + Form<T>::description());
    } else if (node.kind != Node::Kind::kScalar) {
      report_.complain(node.line, key, "must be a single value: " + Form<T>::description());
    } else if (const auto complaint = assign(node.text, member, rule)) {
      report_.complain(node.line, key, *complaint);
    }
  }

  std::string suggest(std::string_view unknown) const {
    if (const auto sibling = nearest(unknown, known_)) return fmt::format("did you mean {}?", *sibling);
    // Perhaps the right key in the wrong section.
    for (const KnownKey& known : known_keys()) {
      if (known.key.ends_with(fmt::format(".{}", unknown))) return fmt::format("did you mean {}?", known.key);
    }
    return fmt::format("the keys here are {}", fmt::join(known_, ", "));
  }

  std::string section_;
  Report& report_;
  std::unordered_map<std::string_view, const Node::Entry*> entries_;
  std::vector<std::string_view> known_;
};

}  // namespace

void read_document(const Node& document, Config& config, Report& report) {
  if (document.kind == Node::Kind::kNull) return;
  if (document.kind != Node::Kind::kMapping) return report.complain(document.line, "", "must be a mapping of keys");
  SectionReader reader(document, "", report);
  describe(reader, config);
  reader.report_unknown_keys(document);
}

}  // namespace sluice::config
