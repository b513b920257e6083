// SPDX-License-Identifier: Apache-2.0
#include "repository/rate_limiter.h"

#include <algorithm>
#include <cmath>

namespace sluice::repository {
namespace {

constexpr double kLongestWaitMs = 24.0 * 60 * 60 * 1000;  // what is told: nobody plans further, and it always fits

}  // namespace

std::optional<Milliseconds> RateLimiter::take(std::string_view key, SteadyTime now) {
  const std::lock_guard lock(mutex_);
  if (buckets_.size() >= forget_at_size_) forget_full_locked(now);
  Bucket& bucket = buckets_.try_emplace(std::string(key), Bucket{burst_, now}).first->second;
  bucket.tokens = tokens_at(bucket, now);
  bucket.filled_at = now;
  if (bucket.tokens < 1) {
    const double wait_ms = (1 - bucket.tokens) / per_second_ * 1000;
    return Milliseconds(static_cast<Milliseconds::rep>(std::ceil(std::min(wait_ms, kLongestWaitMs))));
  }
  bucket.tokens -= 1;
  return std::nullopt;
}

std::size_t RateLimiter::size() const {
  const std::lock_guard lock(mutex_);
  return buckets_.size();
}

double RateLimiter::tokens_at(const Bucket& bucket, SteadyTime now) const {
  const double seconds = std::chrono::duration<double>(now - bucket.filled_at).count();
  return std::min(burst_, bucket.tokens + seconds * per_second_);
}

void RateLimiter::forget_full_locked(SteadyTime now) {
  std::erase_if(buckets_, [&](const auto& entry) { return tokens_at(entry.second, now) >= burst_; });
  forget_at_size_ = std::max<std::size_t>(1024, buckets_.size() * 2);
}

}  // namespace sluice::repository
