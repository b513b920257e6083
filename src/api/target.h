// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace sluice::api {

/// A request target taken apart: decoded path segments and query parameters. The path is split before it is decoded,
/// so an encoded slash stays inside its segment, and never normalised: `..` is a segment like any other.
class Target {
 public:
  /// 400 M_INVALID_PARAM when a percent sign does not begin an encoded byte.
  static Result<Target> parse(std::string_view target);

  const std::vector<std::string>& segments() const { return segments_; }
  /// The first parameter of that name, decoded, `+` as a space; nothing if there is none.
  std::optional<std::string_view> parameter(std::string_view name) const;

 private:
  std::vector<std::string> segments_;
  std::vector<std::pair<std::string, std::string>> parameters_;
};

}  // namespace sluice::api
