// SPDX-License-Identifier: Apache-2.0
#include "config/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/text.h"

namespace sluice::config {
namespace {

// More mistakes than a person corrects before trying again, and few enough that a hostile file cannot fill memory.
constexpr std::size_t kMaxMistakes = 100;
constexpr std::size_t kMaxPrintableBytes = 64;

}  // namespace

void Report::complain(int line, std::string_view key, std::string_view message) {
  complain(Place{file_name_, line}, key, message);
}

void Report::complain(const Place& place, std::string_view key, std::string_view message) {
  if (mistakes_.size() == kMaxMistakes) {
    ++left_out_;
    return;
  }
  Mistake mistake{place.source, place.line, std::string(key), std::string(message)};
  const auto by_line = [](const Mistake& each) { return std::pair(each.line == 0, each.line); };
  mistakes_.insert(std::ranges::upper_bound(mistakes_, by_line(mistake), {}, by_line), std::move(mistake));
}

void Report::complain_once(const std::string& key, std::string_view message) {
  if (std::ranges::find(mistakes_, key, &Mistake::key) == mistakes_.end()) complain(place_of(key), key, message);
}

Mistakes Report::take() && {
  if (left_out_ > 0) mistakes_.push_back({file_name_, 0, "", fmt::format("and {} more mistakes", left_out_)});
  return std::move(mistakes_);
}

Place Report::place_of(std::string_view key) const {
  while (!key.empty()) {
    if (const auto found = places_.find(std::string(key)); found != places_.end()) return found->second;
    key = key.substr(0, std::max<std::size_t>(key.find_last_of(".[") + 1, 1) - 1);
  }
  return {file_name_, 0};
}

std::string printable(std::string_view text) {
  const bool utf8 = is_utf8(text);
  std::size_t end = std::min(text.size(), kMaxPrintableBytes);
  // A cut must not fall within a character.
  while (utf8 && end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  std::string shown(text.substr(0, end));
  std::ranges::replace_if(shown, [utf8](char c) { return (c >= 0 && c < 0x20) || c == 0x7f || (c < 0 && !utf8); }, '?');
  return end < text.size() ? shown + "..." : shown;
}

}  // namespace sluice::config
