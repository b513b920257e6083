// SPDX-License-Identifier: Apache-2.0
#include "api/target.h"

#include <algorithm>

#include "base/text.h"

namespace sluice::api {
namespace {

Failure malformed() { return fail::invalid_param("The request target holds a broken percent-encoding"); }

}  // namespace

Result<Target> Target::parse(std::string_view target) {
  Target parsed;
  if (target.size() > UINT16_MAX) return fail::invalid_param("The request target is too long");
  const std::size_t question = std::min(target.find('?'), target.size());
  std::string_view path = target.substr(0, question);
  if (path.starts_with('/')) path.remove_prefix(1);
  if (Result<> read = parsed.parse_path(path); !read) return std::unexpected(read.error());
  if (question == target.size()) return parsed;
  if (Result<> read = parsed.parse_query(target.substr(question + 1)); !read) return std::unexpected(read.error());
  return parsed;
}

Result<> Target::parse_path(std::string_view path) {
  path_ = path;
  if (path.find('%') != std::string_view::npos) {
    decoded_ = std::make_unique_for_overwrite<char[]>(path.size());  // decoding makes nothing longer
    path_ = {decoded_.get(), path.size()};
  }
  std::size_t offset = 0;
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    std::size_t size = end - begin;
    if (decoded_) {
      const auto decoded = percent_decode(path.substr(begin, size));
      if (!decoded) return malformed();
      std::ranges::copy(*decoded, decoded_.get() + offset);
      size = decoded->size();
    }
    if (segments_.size() < kMaxSegments) {
      segments_.push_back({static_cast<std::uint16_t>(offset), static_cast<std::uint16_t>(size)});
    }
    offset += decoded_ ? size : size + 1;
    begin = end + 1;
  }
  return {};
}

Result<> Target::parse_query(std::string_view query) {
  for (const std::string_view pair : split(query, '&')) {
    if (pair.empty()) continue;
    const std::size_t equals = std::min(pair.find('='), pair.size());
    auto name = percent_decode(pair.substr(0, equals), true);
    auto value = percent_decode(equals == pair.size() ? std::string_view() : pair.substr(equals + 1), true);
    if (!name || !value) return malformed();
    parameters_.emplace_back(*std::move(name), *std::move(value));
  }
  return {};
}

Target::Segments Target::segments() const {
  Segments segments;
  for (const Segment& segment : segments_) segments.push_back(path_.substr(segment.offset, segment.size));
  return segments;
}

std::optional<std::string_view> Target::parameter(std::string_view name) const {
  const auto found = std::ranges::find(parameters_, name, &std::pair<std::string, std::string>::first);
  if (found == parameters_.end()) return std::nullopt;
  return found->second;
}

}  // namespace sluice::api
