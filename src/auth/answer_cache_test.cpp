// SPDX-License-Identifier: Apache-2.0
#include "auth/answer_cache.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

namespace sluice::auth {
namespace {

using std::chrono::seconds;

constexpr SteadyTime kNow{seconds(1000)};

AnswerCache::Key key(int n) { return sha256(std::to_string(n)); }

Requester user(int n) { return {.user = "@" + std::to_string(n) + ":example.org"}; }

std::string user_under(AnswerCache& cache, int n, SteadyTime now = kNow) {
  const AnswerCache::Answer* answer = cache.find(key(n), now);
  return answer == nullptr ? "none" : answer->value().user;
}

TEST(AnswerCache, KeepsAnswersUntilTheirTime) {
  AnswerCache cache(10);
  cache.keep(key(1), user(1), kNow + seconds(60));
  cache.keep(key(2), fail::forbidden("no"), kNow + seconds(5));
  EXPECT_EQ(user_under(cache, 1), "@1:example.org");
  EXPECT_EQ(cache.find(key(2), kNow + seconds(4))->error().errcode, "M_FORBIDDEN");
  EXPECT_EQ(cache.find(key(2), kNow + seconds(5)), nullptr);
  EXPECT_EQ(user_under(cache, 1, kNow + seconds(59)), "@1:example.org");
  EXPECT_EQ(user_under(cache, 1, kNow + seconds(60)), "none");
  EXPECT_EQ(user_under(cache, 3), "none");
}

TEST(AnswerCache, ForgetsWhatIsOutOfDate) {
  AnswerCache cache(10);
  cache.keep(key(1), user(1), kNow);
  EXPECT_EQ(user_under(cache, 1), "none");
  EXPECT_EQ(cache.size(), 0u);
}

TEST(AnswerCache, ReplacesWhatItKept) {
  AnswerCache cache(1);
  cache.keep(key(1), user(1), kNow + seconds(1));
  cache.keep(key(1), user(2), kNow + seconds(60));
  EXPECT_EQ(cache.size(), 1u);
  EXPECT_EQ(user_under(cache, 1, kNow + seconds(30)), "@2:example.org");
}

TEST(AnswerCache, LeastRecentlyUsedGivesWay) {
  AnswerCache cache(3);
  for (int n = 1; n <= 3; ++n) cache.keep(key(n), user(n), kNow + seconds(60));
  EXPECT_EQ(user_under(cache, 1), "@1:example.org");  // now 2 is the one unused for longest
  cache.keep(key(4), user(4), kNow + seconds(60));
  EXPECT_EQ(cache.size(), 3u);
  EXPECT_EQ(user_under(cache, 2), "none");
  EXPECT_EQ(user_under(cache, 1), "@1:example.org");
  EXPECT_EQ(user_under(cache, 3), "@3:example.org");
  EXPECT_EQ(user_under(cache, 4), "@4:example.org");
}

TEST(AnswerCache, NeverGrowsBeyondItsLimit) {
  AnswerCache cache(100);
  for (int n = 0; n < 1000; ++n) cache.keep(key(n), user(n), kNow + seconds(60));
  EXPECT_EQ(cache.size(), 100u);
}

TEST(AnswerCache, OfNoEntriesKeepsNothing) {
  AnswerCache cache(0);
  cache.keep(key(1), user(1), kNow + seconds(60));
  EXPECT_EQ(user_under(cache, 1), "none");
}

}  // namespace
}  // namespace sluice::auth
