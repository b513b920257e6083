// SPDX-License-Identifier: Apache-2.0
#include "base/random.h"

#include <sys/random.h>

#include <cerrno>
#include <cstdint>
#include <string_view>
#include <system_error>
#include <vector>

namespace sluice {

void SystemRandom::fill(std::span<std::byte> out) {
  while (!out.empty()) {
    const ssize_t got = ::getrandom(out.data(), out.size(), 0);
    if (got < 0) {
      if (errno == EINTR) continue;
      throw std::system_error(errno, std::generic_category(), "getrandom");
    }
    out = out.subspan(static_cast<std::size_t>(got));
  }
}

std::string random_id(RandomSource& random, std::size_t bytes) {
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::vector<std::byte> raw(bytes);
  random.fill(raw);
  std::string id;
  id.reserve((bytes * 8 + 5) / 6);
  std::uint32_t pending = 0;
  int pending_bits = 0;
  for (const std::byte byte : raw) {
    pending = (pending << 8) | std::to_integer<std::uint32_t>(byte);
    pending_bits += 8;
    while (pending_bits >= 6) {
      pending_bits -= 6;
      id.push_back(kAlphabet[(pending >> pending_bits) & 63]);
    }
  }
  if (pending_bits > 0) id.push_back(kAlphabet[(pending << (6 - pending_bits)) & 63]);
  return id;
}

}  // namespace sluice
