// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/clock.h"
#include "config/config.h"

namespace sluice::repository {

/// A token bucket for each key: `burst` at once, `per_second` in the long run. A bucket that has filled up again is
/// forgotten, so what is kept is bounded by the keys active within the time that filling takes. From any thread.
///
/// The rate comes with each call and may change from one to the next: what is kept of a key is how long its bucket
/// needs to fill up.
class RateLimiter {
 public:
  /// Takes one token, and yields nothing; or, if there is none, how long until there is one.
  std::optional<Milliseconds> take(std::string_view key, const config::Rate& rate, SteadyTime now);

  /// How long until there is a token; nothing if there is one.
  std::optional<Milliseconds> wait(std::string_view key, const config::Rate& rate, SteadyTime now) const;
  /// Takes so many tokens, more than there are if need be; or gives them back, if it is less than none.
  void charge(std::string_view key, double tokens, const config::Rate& rate, SteadyTime now);

  std::size_t size() const;

 private:
  struct Bucket {
    double seconds_to_fill = 0;
    SteadyTime at;
  };

  static double seconds_to_fill(const Bucket& bucket, SteadyTime now);
  std::optional<Milliseconds> wait_locked(std::string_view key, const config::Rate& rate, SteadyTime now) const;
  void charge_locked(std::string_view key, double tokens, const config::Rate& rate, SteadyTime now);
  void forget_full_locked(SteadyTime now);

  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  mutable std::mutex mutex_;
  std::unordered_map<std::string, Bucket, Hash, std::equal_to<>> buckets_;
  std::size_t forget_at_size_ = 1024;  // doubles with what stays, so that forgetting costs a constant share
};

}  // namespace sluice::repository
