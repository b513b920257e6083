// SPDX-License-Identifier: Apache-2.0
#include "http/range.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>

#include "base/text.h"

namespace sluice::http {
namespace {

std::optional<std::uint64_t> parse_position(std::string_view text) {
  const bool digits_only = text.find_first_not_of("0123456789") == std::string_view::npos;
  if (text.empty() || !digits_only) return std::nullopt;
  std::uint64_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec == std::errc::result_out_of_range) return std::numeric_limits<std::uint64_t>::max();
  return value;
}

}  // namespace

std::optional<ByteRange> parse_range(std::string_view field) {
  constexpr std::string_view kUnit = "bytes=";
  if (field.size() < kUnit.size() || !equals_ignoring_case(field.substr(0, kUnit.size()), kUnit)) return std::nullopt;
  const std::string_view spec = trim(field.substr(kUnit.size()));
  const std::size_t dash = spec.find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  const std::string_view first_text = spec.substr(0, dash);
  const std::string_view last_text = spec.substr(dash + 1);
  const auto first = parse_position(first_text);
  const auto last = parse_position(last_text);
  if ((!first && !first_text.empty()) || (!last && !last_text.empty()) || (!first && !last)) return std::nullopt;
  if (first && last && *last < *first) return std::nullopt;
  return ByteRange{first, last};
}

std::optional<Span> resolve(const ByteRange& range, std::uint64_t size) {
  if (range.is_suffix()) {
    const std::uint64_t length = std::min(*range.last, size);
    if (length == 0) return std::nullopt;
    return Span{size - length, length};
  }
  if (*range.first >= size) return std::nullopt;
  const std::uint64_t last = std::min(range.last.value_or(size - 1), size - 1);
  return Span{*range.first, last - *range.first + 1};
}

std::string content_range(const Span& span, std::optional<std::uint64_t> size) {
  return fmt::format("bytes {}-{}/{}", span.offset, span.offset + span.length - 1, size ? std::to_string(*size) : "*");
}

std::string unsatisfied_content_range(std::uint64_t size) { return fmt::format("bytes */{}", size); }

bool matches_any_etag(std::string_view if_none_match, std::string_view etag) {
  if (trim(if_none_match) == "*") return true;
  // Our entity tags hold no comma, so splitting at commas cannot find one inside a tag that would match.
  return std::ranges::any_of(split(if_none_match, ','), [&](std::string_view candidate) {
    candidate = trim(candidate);
    if (candidate.starts_with("W/")) candidate.remove_prefix(2);
    return candidate == etag;
  });
}

bool matches_if_range(std::string_view if_range, std::string_view etag) {
  return trim(if_range) == etag && etag.starts_with('"');
}

}  // namespace sluice::http
