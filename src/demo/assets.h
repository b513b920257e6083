// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "http/message.h"

namespace sluice::demo {

/// One file of the page. The texts live as long as the program.
struct Asset {
  std::string_view name;
  std::string_view content_type;
  std::string_view text;
};

/// Every file; the page itself comes first.
std::span<const Asset> assets();

/// The response with the file of that name, or 304 when `if_none_match` names it; the page for an empty name. Nothing
/// for a name that no file has.
std::optional<http::Response> respond(std::string_view name, std::string_view if_none_match);

}  // namespace sluice::demo
