// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace sluice {

/// True for a server name by the specification's grammar (appendices, "Server Name"):
/// a DNS name, an IPv4 literal or a bracketed IPv6 literal, with an optional port; at most 255 bytes.
bool is_server_name(std::string_view text);

/// True for an opaque media id: 1 to 255 characters of A-Z a-z 0-9 _ - and nothing else
/// (client-server API, "Security considerations": ids must not be able to name a path).
bool is_media_id(std::string_view text);

/// True for a user id `@localpart:server` of at most 255 bytes. Historical localparts are allowed.
bool is_user_id(std::string_view text);

/// The name of one piece of media. An Mxc is always well-formed: it can only be made by `of` and `parse`.
class Mxc {
 public:
  static std::optional<Mxc> of(std::string_view server_name, std::string_view media_id);
  /// Reads `mxc://server/id`; nothing may follow the id.
  static std::optional<Mxc> parse(std::string_view uri);

  const std::string& server_name() const { return server_name_; }
  const std::string& media_id() const { return media_id_; }
  std::string to_uri() const;

  bool operator==(const Mxc&) const = default;

 private:
  Mxc(std::string_view server_name, std::string_view media_id) : server_name_(server_name), media_id_(media_id) {}
  std::string server_name_;
  std::string media_id_;
};

}  // namespace sluice

template <>
struct std::hash<sluice::Mxc> {
  std::size_t operator()(const sluice::Mxc& mxc) const noexcept {
    // Media ids are random, so the id alone spreads well; the server name keeps equal ids apart.
    return std::hash<std::string>{}(mxc.media_id()) * 31 + std::hash<std::string>{}(mxc.server_name());
  }
};
