// SPDX-License-Identifier: Apache-2.0
#include "auth/turns.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <string>
#include <vector>

#include "auth/manual_clock_test.h"
#include "runtime/run_on_loop_test.h"

namespace sluice::auth {
namespace {

using std::chrono::seconds;
using ::testing::ElementsAre;

Task<void> do_nothing() { co_return; }

class TurnsTest : public ::testing::Test {
 protected:
  TurnsTest() { take("first"); }  // the only place

  std::future<Turns::Outcome> start(const std::string& network) {
    return loop_.start(turns_.take(network, clock_.steady() + seconds(10)));
  }
  Turns::Outcome take(const std::string& network) { return start(network).get(); }

  // Waits for a turn, notes that it came, and passes it on.
  static Task<void> take_part(TurnsTest& test, std::string network) {
    if (co_await test.turns_.take(network, test.clock_.steady() + seconds(10)) != Turns::Outcome::kGranted) co_return;
    test.order_.push_back(network);  // on the one loop
    test.turns_.give_back();
  }
  std::future<void> join(const std::string& network) { return loop_.start(take_part(*this, network)); }
  // Returns when everything that was started before has come to its wait.
  void settle() { loop_.start(do_nothing()).get(); }

  ManualClock clock_;
  Turns turns_{1, 3, clock_};
  std::vector<std::string> order_;
  LoopThread loop_;
};

TEST_F(TurnsTest, GrantsAtOnceWhileThereIsRoom) {
  turns_.give_back();
  EXPECT_EQ(take("a"), Turns::Outcome::kGranted);
  turns_.give_back();
  EXPECT_EQ(take("a"), Turns::Outcome::kGranted);
}

TEST_F(TurnsTest, ServesTheNetworksInTurnHoweverManyOfOneWait) {
  std::vector<std::future<void>> all;
  for (const char* network : {"a", "a", "a", "b", "c", "b"}) all.push_back(join(network));
  settle();
  turns_.give_back();
  for (std::future<void>& one : all) one.get();
  EXPECT_THAT(order_, ElementsAre("a", "b", "c", "a", "b", "a"));
  EXPECT_EQ(take("a"), Turns::Outcome::kGranted) << "the place is free again";
}

TEST_F(TurnsTest, ANetworkMayKeepSoManyWaitingAndNoMore) {
  std::vector<std::future<void>> all;
  for (int i = 0; i < 3; ++i) all.push_back(join("a"));
  settle();
  EXPECT_EQ(take("a"), Turns::Outcome::kCrowded);
  all.push_back(join("b"));
  settle();
  turns_.give_back();
  for (std::future<void>& one : all) one.get();
  EXPECT_EQ(order_.size(), 4u);
}

TEST_F(TurnsTest, WhoseTimeIsOverLeavesTheQueue) {
  clock_.advance(seconds(20));
  // Its time is over when it begins to wait; the one behind it has time.
  auto late = loop_.start(turns_.take("a", SteadyTime{}));
  EXPECT_EQ(late.get(), Turns::Outcome::kTooLate);
  auto other = join("b");
  settle();
  turns_.give_back();
  other.get();
  EXPECT_THAT(order_, ElementsAre("b"));
}

// Many take turns from two loops, some of them out of time at once: nothing is lost, and no place is.
Task<void> take_often(Turns& turns, std::string network, const Clock& clock, int times) {
  for (int i = 0; i < times; ++i) {
    const SteadyTime until = i % 3 == 0 ? SteadyTime{} : clock.steady() + seconds(30);
    if (co_await turns.take(network, until) == Turns::Outcome::kGranted) turns.give_back();
    co_await yield_to_loop();
  }
}

TEST_F(TurnsTest, ManyLoopsAtOnce) {
  turns_.give_back();
  clock_.advance(seconds(1));
  LoopThread other;
  std::vector<std::future<void>> all;
  for (int i = 0; i < 3; ++i) {
    all.push_back(loop_.start(take_often(turns_, std::to_string(i), clock_, 300)));
    all.push_back(other.start(take_often(turns_, std::to_string(i), clock_, 300)));
  }
  for (std::future<void>& one : all) one.get();
  EXPECT_EQ(take("a"), Turns::Outcome::kGranted);
}

}  // namespace
}  // namespace sluice::auth
