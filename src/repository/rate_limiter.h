// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/clock.h"

namespace sluice::repository {

/// A token bucket for each key: `burst` at once, `per_second` in the long run. A bucket that has filled up again is
/// forgotten, so what is kept is bounded by the keys active within the time that filling takes. From any thread.
class RateLimiter {
 public:
  RateLimiter(double per_second, double burst) : per_second_(per_second), burst_(burst) {}

  /// Takes one token, and yields nothing; or, if there is none, how long until there is one.
  std::optional<Milliseconds> take(std::string_view key, SteadyTime now);

  std::size_t size() const;

 private:
  struct Bucket {
    double tokens = 0;
    SteadyTime filled_at;
  };

  double tokens_at(const Bucket& bucket, SteadyTime now) const;
  void forget_full_locked(SteadyTime now);

  const double per_second_;
  const double burst_;
  mutable std::mutex mutex_;
  std::unordered_map<std::string, Bucket> buckets_;
  std::size_t forget_at_size_ = 1024;  // doubles with what stays, so that forgetting costs a constant share
};

}  // namespace sluice::repository
