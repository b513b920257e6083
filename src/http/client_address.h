// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::http {

/// The proxies whose X-Forwarded-For is believed: addresses and CIDR ranges, IPv4 and IPv6. Immutable; any thread.
class TrustedProxies {
 public:
  /// Entries that are not addresses or ranges are left out: the configuration has checked them.
  explicit TrustedProxies(const std::vector<std::string>& entries);
  ~TrustedProxies();
  TrustedProxies(TrustedProxies&&) noexcept;

  /// Whether that is the address of a trusted proxy.
  bool contain(std::string_view address) const;

  /// Who the client is: the peer, unless it is a trusted proxy; then the last address in X-Forwarded-For that is not
  /// a trusted proxy too, or the first of all if each is one: a client on a proxy's machine. Empty when a trusted proxy
  /// did not say: then the client is unknown, not the proxy.
  std::string client_of(std::string_view peer, std::optional<std::string_view> x_forwarded_for) const;

 private:
  struct Ranges;
  std::unique_ptr<Ranges> ranges_;
};

/// The one form of an address: without the IPv6 mapping of an IPv4 address. Empty for what is no address.
std::string canonical_address(std::string_view address);

/// What limits per client address count by: an IPv4 address itself, an IPv6 address's /64, which is one customer.
/// Empty for an empty address.
std::string network_of(std::string_view address);

}  // namespace sluice::http
