// SPDX-License-Identifier: Apache-2.0
#include "repository/rate_limiter.h"

#include <algorithm>
#include <cmath>

namespace sluice::repository {
namespace {

constexpr double kLongestWaitMs = 24.0 * 60 * 60 * 1000;  // what is told: nobody plans further, and it always fits
// Of a token, and of a millisecond: what reckoning with fractions may be off by.
constexpr double kRounding = 1e-6;

}  // namespace

std::optional<Milliseconds> RateLimiter::take(std::string_view key, const config::Rate& rate, SteadyTime now) {
  const std::lock_guard lock(mutex_);
  auto wait = wait_locked(key, rate, now);
  if (!wait) charge_locked(key, 1, rate, now);
  return wait;
}

std::optional<Milliseconds> RateLimiter::wait(std::string_view key, const config::Rate& rate, SteadyTime now) const {
  const std::lock_guard lock(mutex_);
  return wait_locked(key, rate, now);
}

void RateLimiter::charge(std::string_view key, double tokens, const config::Rate& rate, SteadyTime now) {
  const std::lock_guard lock(mutex_);
  charge_locked(key, tokens, rate, now);
}

std::size_t RateLimiter::size() const {
  const std::lock_guard lock(mutex_);
  return buckets_.size();
}

std::optional<Milliseconds> RateLimiter::wait_locked(std::string_view key, const config::Rate& rate,
                                                     SteadyTime now) const {
  const auto found = buckets_.find(key);
  if (found == buckets_.end()) return std::nullopt;
  const double tokens = rate.burst - seconds_to_fill(found->second, now) * rate.per_second;
  if (tokens >= 1 - kRounding) return std::nullopt;
  const double wait_ms = std::min((1 - tokens) / rate.per_second * 1000, kLongestWaitMs);
  return Milliseconds(static_cast<Milliseconds::rep>(std::ceil(wait_ms - kRounding)));
}

void RateLimiter::charge_locked(std::string_view key, double tokens, const config::Rate& rate, SteadyTime now) {
  if (buckets_.size() >= forget_at_size_) forget_full_locked(now);
  const auto found = buckets_.find(key);
  Bucket& bucket = found != buckets_.end() ? found->second : buckets_[std::string(key)];
  bucket.seconds_to_fill = std::max(0.0, seconds_to_fill(bucket, now) + tokens / rate.per_second);
  bucket.at = now;
}

double RateLimiter::seconds_to_fill(const Bucket& bucket, SteadyTime now) {
  return std::max(0.0, bucket.seconds_to_fill - std::chrono::duration<double>(now - bucket.at).count());
}

void RateLimiter::forget_full_locked(SteadyTime now) {
  std::erase_if(buckets_, [&](const auto& entry) { return seconds_to_fill(entry.second, now) <= 0; });
  forget_at_size_ = std::max<std::size_t>(1024, buckets_.size() * 2);
}

}  // namespace sluice::repository
