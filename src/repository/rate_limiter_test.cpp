// SPDX-License-Identifier: Apache-2.0
#include "repository/rate_limiter.h"

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

namespace sluice::repository {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

const SteadyTime kStart{hours(1)};

int take_all(RateLimiter& limiter, std::string_view key, SteadyTime now) {
  int taken = 0;
  while (!limiter.take(key, now)) ++taken;
  return taken;
}

TEST(RateLimiter, GivesTheBurstAtOnce) {
  RateLimiter limiter(10, 5);
  EXPECT_EQ(take_all(limiter, "alice", kStart), 5);
}

TEST(RateLimiter, SaysHowLongUntilTheNext) {
  RateLimiter limiter(10, 1);
  EXPECT_EQ(limiter.take("alice", kStart), std::nullopt);
  EXPECT_EQ(limiter.take("alice", kStart), milliseconds(100));
  EXPECT_EQ(limiter.take("alice", kStart + milliseconds(40)), milliseconds(60));
  EXPECT_EQ(limiter.take("alice", kStart + milliseconds(100)), std::nullopt) << "what was said is kept";
}

TEST(RateLimiter, AskingInVainCostsNothing) {
  RateLimiter limiter(10, 1);
  EXPECT_EQ(limiter.take("alice", kStart), std::nullopt);
  for (int i = 0; i < 1000; ++i) EXPECT_NE(limiter.take("alice", kStart + milliseconds(i % 100)), std::nullopt);
  EXPECT_EQ(limiter.take("alice", kStart + milliseconds(101)), std::nullopt);
}

TEST(RateLimiter, RefillsAtItsRateAndNotBeyondTheBurst) {
  RateLimiter limiter(10, 5);
  EXPECT_EQ(take_all(limiter, "alice", kStart), 5);
  EXPECT_EQ(take_all(limiter, "alice", kStart + milliseconds(250)), 2);
  EXPECT_EQ(take_all(limiter, "alice", kStart + hours(1)), 5);
}

TEST(RateLimiter, CountsForEachKeyByItself) {
  RateLimiter limiter(10, 1);
  EXPECT_EQ(limiter.take("alice", kStart), std::nullopt);
  EXPECT_EQ(limiter.take("bob", kStart), std::nullopt);
  EXPECT_NE(limiter.take("alice", kStart), std::nullopt);
}

TEST(RateLimiter, AllowsItsRateInTheLongRun) {
  RateLimiter limiter(3, 10);
  int taken = 0;
  for (milliseconds time(0); time < seconds(1000); time += milliseconds(50)) {
    if (!limiter.take("alice", kStart + time)) ++taken;
  }
  EXPECT_NEAR(taken, 3 * 1000 + 10, 2);
}

TEST(RateLimiter, ForgetsThoseWhoseBurstIsFullAgain) {
  RateLimiter limiter(1, 2);
  for (int i = 0; i < 100'000; ++i) limiter.take("user" + std::to_string(i), kStart + seconds(i));
  EXPECT_LE(limiter.size(), 1024u) << "only two of them were active within the last two seconds";
}

TEST(RateLimiter, ForgetsNobodyWhoIsStillLimited) {
  RateLimiter limiter(0.001, 1);
  EXPECT_EQ(limiter.take("alice", kStart), std::nullopt);
  for (int i = 0; i < 10'000; ++i) limiter.take("user" + std::to_string(i), kStart);
  EXPECT_NE(limiter.take("alice", kStart + seconds(1)), std::nullopt);
}

TEST(RateLimiter, KeepsAtMostTwiceTheActive) {
  constexpr std::size_t kActive = 5'000;
  RateLimiter limiter(1, 1);
  std::size_t most = 0;
  for (std::size_t i = 0; i < 20 * kActive; ++i) {
    // Each is active for a second, in which kActive others come.
    limiter.take("user" + std::to_string(i), kStart + std::chrono::microseconds(i * 1'000'000 / kActive));
    most = std::max(most, limiter.size());
  }
  EXPECT_LE(most, 2 * kActive + 1);
}

TEST(RateLimiter, TellsATimeWhateverTheRate) {
  RateLimiter limiter(1e-300, 1);
  EXPECT_EQ(limiter.take("alice", kStart), std::nullopt);
  const auto wait = limiter.take("alice", kStart);
  ASSERT_TRUE(wait);
  EXPECT_GT(*wait, hours(1));
}

TEST(RateLimiter, GivesNoMoreThanTheBurstToManyThreads) {
  RateLimiter limiter(1, 100);
  std::atomic<int> taken = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        for (int n = 0; n < 1000; ++n) taken += limiter.take("alice", kStart) ? 0 : 1;
      });
    }
  }
  EXPECT_EQ(taken, 100);
}

}  // namespace
}  // namespace sluice::repository
