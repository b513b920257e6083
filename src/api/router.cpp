// SPDX-License-Identifier: Apache-2.0
#include "api/router.h"

#include <algorithm>

#include "base/text.h"

namespace sluice::api::detail {
namespace {

constexpr std::string_view kVersion = "{v}";

bool is_version(std::string_view segment) { return segment == "r0" || segment == "v1" || segment == "v3"; }

}  // namespace

std::vector<std::string_view> split_pattern(std::string_view pattern) { return split(pattern.substr(1), '/'); }

std::vector<std::string_view> split_methods(std::string_view methods) { return split(methods, ' '); }

bool matches(const std::vector<std::string_view>& pattern, const std::vector<std::string>& segments) {
  return std::ranges::equal(pattern, segments, [](std::string_view expected, std::string_view segment) {
    if (expected == kVersion) return is_version(segment);
    return expected.starts_with('{') || expected == segment;
  });
}

std::vector<std::string> capture(const std::vector<std::string_view>& pattern,
                                 const std::vector<std::string>& segments) {
  std::vector<std::string> captured;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i].starts_with('{') && pattern[i] != kVersion) captured.push_back(segments[i]);
  }
  return captured;
}

bool contains(const std::vector<std::string_view>& methods, std::string_view method) {
  return std::ranges::find(methods, method) != methods.end();
}

}  // namespace sluice::api::detail
