// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "config/config.h"

namespace sluice::config {

/// Where a key got its value: a line of the file, or a variable (line 0).
struct Place {
  std::string source;
  int line = 0;
};

/// Collects mistakes, and remembers where each key was set so that a later check can name the place.
class Report {
 public:
  explicit Report(std::string_view file_name) : file_name_(file_name) {}

  /// A mistake in the file.
  void complain(int line, std::string_view key, std::string_view message);
  void complain(const Place& place, std::string_view key, std::string_view message);
  /// A mistake where `key` was set, or where its nearest ancestor was. Does nothing for a key that already has a
  /// mistake: the second often only follows from the first.
  void complain_once(const std::string& key, std::string_view message);

  void remember(const std::string& key, int line) { remember(key, Place{file_name_, line}); }
  void remember(const std::string& key, Place place) { places_[key] = std::move(place); }
  bool was_set(const std::string& key) const { return places_.contains(key); }

  /// Every mistake: the file's by line, then those that concern no line. At most 100, and a last word if there were
  /// more.
  Mistakes take() &&;

 private:
  Place place_of(std::string_view key) const;

  std::string file_name_;
  std::map<std::string, Place> places_;
  Mistakes mistakes_;
  std::size_t left_out_ = 0;
};

/// `text` fit to stand in a message of one line: without control characters or broken UTF-8, cut when it is long.
std::string printable(std::string_view text);

}  // namespace sluice::config
