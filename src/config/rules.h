// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <type_traits>

#include "base/mxc.h"

namespace sluice::config {

/// What a single value must satisfy beyond its type, and the sentence for one that does not. On a list it applies to
/// each element, on an optional value to the value.
template <class Test>
struct Rule {
  Test holds;
  std::string_view demand;
};

bool is_host(std::string_view text);        // a server name without a port
bool is_token(std::string_view text);       // fit for an Authorization header
bool is_client_api(std::string_view text);  // an http(s) URL of host, port and path, with at most one trailing slash
bool is_network(std::string_view text);     // an IPv4 or IPv6 address, or a CIDR block of them
bool is_media_type_pattern(std::string_view text);  // a media type without parameters, or "image/*", or "*/*"

inline constexpr Rule kAnything{[](const auto&) { return true; }, ""};
inline constexpr Rule kPositive{[](const auto& value) { return value > std::decay_t<decltype(value)>{}; },
                                "must be more than 0"};
inline constexpr Rule kAtLeastOne{[](double value) { return value >= 1; }, "must be at least 1"};
inline constexpr Rule kThreads{[](std::uint32_t value) { return value <= 1024; }, "must be at most 1024"};
inline constexpr Rule kThumbnailSide{[](std::uint32_t value) { return value > 0 && value <= 8192; },
                                     "must be from 1 to 8192 pixels"};
inline constexpr Rule kThumbnailWorkers{[](std::uint32_t value) { return value <= 256; }, "must be at most 256"};
/// The limit is told to clients as JSON (`m.upload.size`), where Matrix's integers end at 2^53 - 1.
inline constexpr Rule kMediaSize{[](std::uint64_t value) { return value > 0 && value < (std::uint64_t{1} << 53); },
                                 "must be more than 0 and less than 8192TiB"};
inline constexpr Rule kNotEmpty{[](const std::string& text) { return !text.empty(); }, "must not be empty"};
inline constexpr Rule kServerName{is_server_name, "must be a server name such as example.org or example.org:8448"};
inline constexpr Rule kHost{is_host, "must be a host name such as media.example.org, without a port"};
inline constexpr Rule kUserId{is_user_id, "must be a full user id such as @alice:example.org"};
inline constexpr Rule kToken{is_token, "must be one or more visible ASCII characters, without spaces"};
inline constexpr Rule kClientApi{is_client_api,
                                 "must be an http or https URL such as https://matrix.example.org, without user name, "
                                 "query or fragment"};
inline constexpr Rule kMediaTypePattern{is_media_type_pattern,
                                        "must be a media type such as image/png, or a pattern such as image/*"};
inline constexpr Rule kNetwork{is_network, "must be an IP address or a block such as 10.0.0.0/8 or fd00::/8"};

}  // namespace sluice::config
