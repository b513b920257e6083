// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/container/static_vector.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace sluice::api {

/// A request target taken apart: decoded path segments and query parameters. The path is split before it is decoded,
/// so an encoded slash stays inside its segment, and never normalised: `..` is a segment like any other.
///
/// Refers to the text that it was parsed from, which must outlive it: most targets hold nothing to decode.
class Target {
 public:
  /// No path that is known has as many; of a longer one the rest is left out.
  static constexpr std::size_t kMaxSegments = 12;

  /// Of at most 64 KiB, which a request head has not. 400 M_INVALID_PARAM when a percent sign does not begin an encoded
  /// byte.
  static Result<Target> parse(std::string_view target);

  using Segments = boost::container::static_vector<std::string_view, kMaxSegments>;
  Segments segments() const;
  /// The first parameter of that name, decoded, `+` as a space; nothing if there is none.
  std::optional<std::string_view> parameter(std::string_view name) const;

 private:
  struct Segment {  // of a request head, whose size is limited
    std::uint16_t offset = 0;
    std::uint16_t size = 0;
  };
  Result<> parse_path(std::string_view path);
  Result<> parse_query(std::string_view query);

  std::unique_ptr<char[]> decoded_;  // the path, if there was something to decode
  std::string_view path_;
  boost::container::static_vector<Segment, kMaxSegments> segments_;
  std::vector<std::pair<std::string, std::string>> parameters_;
};

}  // namespace sluice::api
