// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace sluice {

/// Where chance comes from, so that tests can repeat it. Callable from any thread.
class RandomSource {
 public:
  virtual ~RandomSource() = default;
  virtual void fill(std::span<std::byte> out) = 0;
};

/// The kernel's generator (getrandom). Throws std::system_error if it fails, which it does not after boot.
class SystemRandom final : public RandomSource {
 public:
  void fill(std::span<std::byte> out) override;
};

/// `bytes` random bytes as base64url without padding: 24 bytes give 32 characters of [A-Za-z0-9_-].
std::string random_id(RandomSource& random, std::size_t bytes);

}  // namespace sluice
