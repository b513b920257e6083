// SPDX-License-Identifier: Apache-2.0
#include "http/client_address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <ranges>
#include <span>

#include "base/text.h"

namespace sluice::http {
namespace {

// IPv4 addresses in their IPv6-mapped form, which is also how a dual-stack listener shows IPv4 peers.
struct Address {
  std::array<std::uint8_t, 16> bytes{};

  bool is_v4() const { return std::ranges::equal(std::span(bytes).first(kV4Prefix.size()), kV4Prefix); }
  bool operator==(const Address&) const = default;

  static constexpr std::array<std::uint8_t, 12> kV4Prefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
};
constexpr unsigned kV4PrefixBits = Address::kV4Prefix.size() * 8;
constexpr unsigned kAddressBits = 128;

std::optional<Address> parse_address(std::string_view text) {
  std::array<char, INET6_ADDRSTRLEN> terminated{};
  if (text.size() >= terminated.size()) return std::nullopt;
  std::ranges::copy(text, terminated.begin());
  Address address;
  if (::inet_pton(AF_INET6, terminated.data(), address.bytes.data()) == 1) return address;
  std::ranges::copy(Address::kV4Prefix, address.bytes.begin());
  if (::inet_pton(AF_INET, terminated.data(), &address.bytes[Address::kV4Prefix.size()]) == 1) return address;
  return std::nullopt;
}

std::string to_string(const Address& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const bool is_v4 = address.is_v4();
  const void* bytes = is_v4 ? &address.bytes[Address::kV4Prefix.size()] : address.bytes.data();
  return ::inet_ntop(is_v4 ? AF_INET : AF_INET6, bytes, text.data(), text.size());
}

Address without_host_bits(Address address, unsigned prefix_bits) {
  for (unsigned bit = prefix_bits; bit < kAddressBits; ++bit) {
    address.bytes[bit / 8] &= static_cast<std::uint8_t>(~(0x80u >> (bit % 8)));
  }
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
  struct Range {
    Address network;
    unsigned prefix_bits = 0;
  };
  std::vector<Range> ranges;

  void add(std::string_view entry) {
    const std::size_t slash = entry.find('/');
    const auto address = parse_address(entry.substr(0, slash));
    if (!address) return;
    unsigned prefix_bits = kAddressBits;
    if (slash != std::string_view::npos) {
      const std::string_view text = entry.substr(slash + 1);
      const bool is_v4 = address->is_v4() && entry.find(':') == std::string_view::npos;
      const auto read = std::from_chars(text.data(), text.data() + text.size(), prefix_bits);
      if (read.ec != std::errc() || read.ptr != text.data() + text.size()) return;
      if (prefix_bits > (is_v4 ? kAddressBits - kV4PrefixBits : kAddressBits)) return;
      if (is_v4) prefix_bits += kV4PrefixBits;
    }
    ranges.push_back({without_host_bits(*address, prefix_bits), prefix_bits});
  }

  bool contain(const Address& address) const {
    return std::ranges::any_of(
        ranges, [&](const Range& range) { return without_host_bits(address, range.prefix_bits) == range.network; });
  }
};

TrustedProxies::TrustedProxies(const std::vector<std::string>& entries) : ranges_(std::make_unique<Ranges>()) {
  for (const std::string& entry : entries) ranges_->add(entry);
}
TrustedProxies::~TrustedProxies() = default;
TrustedProxies::TrustedProxies(TrustedProxies&&) noexcept = default;

bool TrustedProxies::contain(std::string_view address) const {
  const auto parsed = parse_address(address);
  return parsed && ranges_->contain(*parsed);
}

std::string TrustedProxies::client_of(std::string_view peer, std::optional<std::string_view> x_forwarded_for) const {
  const auto peer_address = parse_address(peer);
  if (!peer_address) return {};
  if (!ranges_->contain(*peer_address)) return to_string(*peer_address);
  if (!x_forwarded_for) return {};
  const std::vector<std::string_view> hops = split(*x_forwarded_for, ',');
  std::string client;
  for (const std::string_view hop : hops | std::views::reverse) {
    const auto address = parse_address(strip_port(trim(hop)));
    if (!address) return {};  // what a client wrote before it counts for nothing
    client = to_string(*address);
    if (!ranges_->contain(*address)) break;
  }
  return client;
}

std::string canonical_address(std::string_view address) {
  const auto parsed = parse_address(address);
  return parsed ? to_string(*parsed) : std::string();
}

std::string network_of(std::string_view address) {
  constexpr unsigned kCustomerBits = 64;
  const auto parsed = parse_address(address);
  if (!parsed) return {};
  return parsed->is_v4() ? to_string(*parsed) : to_string(without_host_bits(*parsed, kCustomerBits)) + "/64";
}

}  // namespace sluice::http
