// SPDX-License-Identifier: Apache-2.0
#include "http/client_address.h"

#include <algorithm>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/network_v4.hpp>
#include <boost/asio/ip/network_v6.hpp>
#include <ranges>

#include "base/text.h"

namespace sluice::http {
namespace {

namespace ip = boost::asio::ip;
using boost::system::error_code;

std::optional<ip::address> parse_address(std::string_view text) {
  error_code error;
  const ip::address address = ip::make_address(std::string(text), error);
  if (error) return std::nullopt;
  // A dual-stack listener shows IPv4 peers as ::ffff:a.b.c.d.
  if (address.is_v6() && address.to_v6().is_v4_mapped()) return ip::make_address_v4(ip::v4_mapped, address.to_v6());
  return address;
}

// Proxies write `a.b.c.d`, `a.b.c.d:port`, `[v6]`, `[v6]:port` and bare v6.
std::string_view strip_port(std::string_view text) {
  if (text.starts_with('[')) return text.substr(1, std::min(text.find(']'), text.size()) - 1);
  if (std::ranges::count(text, ':') == 1) return text.substr(0, text.find(':'));
  return text;
}

}  // namespace

struct TrustedProxies::Ranges {
  std::vector<ip::network_v4> v4;
  std::vector<ip::network_v6> v6;

  void add(std::string_view entry) {
    const std::size_t slash = entry.find('/');
    const auto address = parse_address(entry.substr(0, slash));
    if (!address) return;
    std::string text = address->to_string();
    text += slash == std::string_view::npos ? (address->is_v4() ? "/32" : "/128") : std::string(entry.substr(slash));
    error_code error;
    if (address->is_v4()) {
      const auto network = ip::make_network_v4(text, error);
      if (!error) v4.push_back(network.canonical());
    } else {
      const auto network = ip::make_network_v6(text, error);
      if (!error) v6.push_back(network.canonical());
    }
  }

  bool contain(const ip::address& address) const {
    if (address.is_v4()) {
      return std::ranges::any_of(v4, [&](const ip::network_v4& network) {
        return ip::network_v4(address.to_v4(), network.prefix_length()).canonical() == network;
      });
    }
    return std::ranges::any_of(v6, [&](const ip::network_v6& network) {
      return ip::network_v6(address.to_v6(), network.prefix_length()).canonical() == network;
    });
  }
};

TrustedProxies::TrustedProxies(const std::vector<std::string>& entries) : ranges_(std::make_unique<Ranges>()) {
  for (const std::string& entry : entries) ranges_->add(entry);
}
TrustedProxies::~TrustedProxies() = default;
TrustedProxies::TrustedProxies(TrustedProxies&&) noexcept = default;

std::string TrustedProxies::client_of(std::string_view peer, std::optional<std::string_view> x_forwarded_for) const {
  const auto peer_address = parse_address(peer);
  if (!peer_address) return {};
  if (!ranges_->contain(*peer_address)) return peer_address->to_string();
  if (!x_forwarded_for) return {};
  const std::vector<std::string_view> hops = split(*x_forwarded_for, ',');
  std::string client;
  for (const std::string_view hop : hops | std::views::reverse) {
    const auto address = parse_address(strip_port(trim(hop)));
    if (!address) return {};  // what a client wrote before it counts for nothing
    client = address->to_string();
    if (!ranges_->contain(*address)) break;
  }
  return client;
}

std::string network_of(std::string_view address) {
  const auto parsed = parse_address(address);
  if (!parsed) return {};
  if (parsed->is_v4()) return parsed->to_string();
  return ip::network_v6(parsed->to_v6(), 64).canonical().to_string();
}

}  // namespace sluice::http
