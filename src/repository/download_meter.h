// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/clock.h"
#include "config/config.h"
#include "repository/rate_limiter.h"

namespace sluice::repository {

/// How fast each payer, a user or a client network, is sent content: a bucket of bytes for each. Who is in debt has to
/// wait; who is not may have a file of any size, and be in debt afterwards. From any thread; in shards by payer, so
/// that loops seldom meet.
class DownloadMeter {
 public:
  /// How long until the payer may have more; nothing if it may now.
  std::optional<Milliseconds> wait(std::string_view payer, const config::ByteRate& rate, SteadyTime now) const;
  /// Less than nothing gives back what was charged and not sent.
  void charge(std::string_view payer, std::int64_t bytes, const config::ByteRate& rate, SteadyTime now);

 private:
  static constexpr std::size_t kShards = 16;
  static std::size_t shard_of(std::string_view payer) { return std::hash<std::string_view>{}(payer) % kShards; }

  std::array<RateLimiter, kShards> shards_;
};

}  // namespace sluice::repository
