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

int take_all(RateLimiter& limiter, std::string_view key, const config::Rate& rate, SteadyTime now) {
  int taken = 0;
  while (!limiter.take(key, rate, now)) ++taken;
  return taken;
}

TEST(RateLimiter, GivesTheBurstAtOnce) {
  RateLimiter limiter;
  const config::Rate rate{10, 5};
  EXPECT_EQ(take_all(limiter, "alice", rate, kStart), 5);
}

TEST(RateLimiter, SaysHowLongUntilTheNext) {
  RateLimiter limiter;
  const config::Rate rate{10, 1};
  EXPECT_EQ(limiter.take("alice", rate, kStart), std::nullopt);
  EXPECT_EQ(limiter.take("alice", rate, kStart), milliseconds(100));
  EXPECT_EQ(limiter.take("alice", rate, kStart + milliseconds(40)), milliseconds(60));
  EXPECT_EQ(limiter.take("alice", rate, kStart + milliseconds(100)), std::nullopt) << "what was said is kept";
}

TEST(RateLimiter, AskingInVainCostsNothing) {
  RateLimiter limiter;
  const config::Rate rate{10, 1};
  EXPECT_EQ(limiter.take("alice", rate, kStart), std::nullopt);
  for (int i = 0; i < 1000; ++i) EXPECT_NE(limiter.take("alice", rate, kStart + milliseconds(i % 100)), std::nullopt);
  EXPECT_EQ(limiter.take("alice", rate, kStart + milliseconds(101)), std::nullopt);
}

TEST(RateLimiter, RefillsAtItsRateAndNotBeyondTheBurst) {
  RateLimiter limiter;
  const config::Rate rate{10, 5};
  EXPECT_EQ(take_all(limiter, "alice", rate, kStart), 5);
  EXPECT_EQ(take_all(limiter, "alice", rate, kStart + milliseconds(250)), 2);
  EXPECT_EQ(take_all(limiter, "alice", rate, kStart + hours(1)), 5);
}

TEST(RateLimiter, CountsForEachKeyByItself) {
  RateLimiter limiter;
  const config::Rate rate{10, 1};
  EXPECT_EQ(limiter.take("alice", rate, kStart), std::nullopt);
  EXPECT_EQ(limiter.take("bob", rate, kStart), std::nullopt);
  EXPECT_NE(limiter.take("alice", rate, kStart), std::nullopt);
}

TEST(RateLimiter, AllowsItsRateInTheLongRun) {
  RateLimiter limiter;
  const config::Rate rate{3, 10};
  int taken = 0;
  for (milliseconds time(0); time < seconds(1000); time += milliseconds(50)) {
    if (!limiter.take("alice", rate, kStart + time)) ++taken;
  }
  EXPECT_NEAR(taken, 3 * 1000 + 10, 2);
}

TEST(RateLimiter, ForgetsThoseWhoseBurstIsFullAgain) {
  RateLimiter limiter;
  const config::Rate rate{1, 2};
  for (int i = 0; i < 100'000; ++i) limiter.take("user" + std::to_string(i), rate, kStart + seconds(i));
  EXPECT_LE(limiter.size(), 1024u) << "only two of them were active within the last two seconds";
}

TEST(RateLimiter, ForgetsNobodyWhoIsStillLimited) {
  RateLimiter limiter;
  const config::Rate rate{0.001, 1};
  EXPECT_EQ(limiter.take("alice", rate, kStart), std::nullopt);
  for (int i = 0; i < 10'000; ++i) limiter.take("user" + std::to_string(i), rate, kStart);
  EXPECT_NE(limiter.take("alice", rate, kStart + seconds(1)), std::nullopt);
}

TEST(RateLimiter, KeepsAtMostTwiceTheActive) {
  constexpr std::size_t kActive = 5'000;
  RateLimiter limiter;
  const config::Rate rate{1, 1};
  std::size_t most = 0;
  for (std::size_t i = 0; i < 20 * kActive; ++i) {
    // Each is active for a second, in which kActive others come.
    limiter.take("user" + std::to_string(i), rate, kStart + std::chrono::microseconds(i * 1'000'000 / kActive));
    most = std::max(most, limiter.size());
  }
  EXPECT_LE(most, 2 * kActive + 1);
}

TEST(RateLimiter, TellsATimeWhateverTheRate) {
  RateLimiter limiter;
  const config::Rate rate{1e-300, 1};
  EXPECT_EQ(limiter.take("alice", rate, kStart), std::nullopt);
  const auto wait = limiter.take("alice", rate, kStart);
  ASSERT_TRUE(wait);
  EXPECT_GT(*wait, hours(1));
}

TEST(RateLimiter, ChargesMoreThanThereIs) {
  RateLimiter limiter;
  const config::Rate rate{.per_second = 10, .burst = 5};
  EXPECT_EQ(limiter.wait("alice", rate, kStart), std::nullopt);
  limiter.charge("alice", 105, rate, kStart);
  EXPECT_EQ(limiter.wait("alice", rate, kStart), milliseconds(10'100));
  EXPECT_EQ(limiter.wait("alice", rate, kStart + seconds(10)), milliseconds(100));
  EXPECT_EQ(limiter.wait("alice", rate, kStart + milliseconds(10'100)), std::nullopt);
  EXPECT_EQ(limiter.wait("bob", rate, kStart), std::nullopt);
  EXPECT_EQ(limiter.size(), 1u) << "asking leaves nothing behind";
}

TEST(RateLimiter, TakesBackWhatWasChargedInVain) {
  RateLimiter limiter;
  const config::Rate rate{.per_second = 10, .burst = 5};
  limiter.charge("alice", 100, rate, kStart);
  limiter.charge("alice", -98, rate, kStart);
  EXPECT_EQ(take_all(limiter, "alice", rate, kStart), 3);
  limiter.charge("alice", -1000, rate, kStart);
  EXPECT_EQ(take_all(limiter, "alice", rate, kStart), 5) << "never more than the burst";
}

TEST(RateLimiter, FollowsARateThatChanges) {
  RateLimiter limiter;
  EXPECT_EQ(take_all(limiter, "alice", {.per_second = 1, .burst = 5}, kStart), 5);
  EXPECT_EQ(take_all(limiter, "alice", {.per_second = 1, .burst = 7}, kStart), 2);
  EXPECT_EQ(limiter.take("alice", {.per_second = 1, .burst = 1}, kStart), seconds(7));
  EXPECT_EQ(take_all(limiter, "alice", {.per_second = 10, .burst = 75}, kStart), 5);
}

TEST(RateLimiter, GivesNoMoreThanTheBurstToManyThreads) {
  RateLimiter limiter;
  const config::Rate rate{1, 100};
  std::atomic<int> taken = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        for (int n = 0; n < 1000; ++n) taken += limiter.take("alice", rate, kStart) ? 0 : 1;
      });
    }
  }
  EXPECT_EQ(taken, 100);
}

}  // namespace
}  // namespace sluice::repository
