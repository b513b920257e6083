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

bool matches(std::span<const std::string_view> pattern, std::span<const std::string_view> segments) {
  return std::ranges::equal(pattern, segments, [](std::string_view expected, std::string_view segment) {
    if (expected == kVersion) return is_version(segment);
    return expected.starts_with('{') || expected == segment;
  });
}

bool is_captured(std::string_view pattern) { return pattern.starts_with('{') && pattern != kVersion; }

bool contains(const std::vector<std::string_view>& methods, std::string_view method) {
  return std::ranges::find(methods, method) != methods.end();
}

}  // namespace sluice::api::detail
