// SPDX-License-Identifier: Apache-2.0
#include "runtime/work_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <latch>
#include <optional>
#include <thread>
#include <vector>

#include "runtime/run_on_loop_test.h"
#include "runtime/task.h"

namespace sluice {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<int> take(WorkQueue<int>& queue) {
  std::vector<int> taken;
  queue.take(taken);
  return taken;
}

TEST(WorkQueue, GivesInOrderAndNoMoreThanAtOnce) {
  WorkQueue<int> queue(1, 2);
  for (int i = 0; i < 3; ++i) queue.add(i);
  EXPECT_THAT(take(queue), ElementsAre(0, 1));
  EXPECT_THAT(take(queue), ElementsAre(2));
}

TEST(WorkQueue, SharesWhatWaitsAmongItsThreads) {
  WorkQueue<int> queue(2, 10);
  for (int i = 0; i < 5; ++i) queue.add(i);
  EXPECT_THAT(take(queue), ElementsAre(0, 1, 2));
  EXPECT_THAT(take(queue), ElementsAre(3));
  EXPECT_THAT(take(queue), ElementsAre(4));
}

TEST(WorkQueue, GivesWhatIsLeftAfterItWasClosed) {
  WorkQueue<int> queue(1, 10);
  queue.add(1);
  queue.close();
  EXPECT_THAT(take(queue), ElementsAre(1));
  EXPECT_THAT(take(queue), IsEmpty());
}

// Each wakes another while there is more, also those that were not told.
TEST(WorkQueue, AsManyThreadsTakeAsThereIsWorkFor) {
  WorkQueue<int> queue(2, 1);
  std::latch both(2);
  std::vector<std::jthread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      take(queue);
      both.arrive_and_wait();
    });
  }
  run_on_loop([](WorkQueue<int>& to) -> Task<int> {
    to.add(1);
    to.add(2);
    co_return 0;
  }(queue));
}

Task<int> add_in_two_turns(WorkQueue<int>& queue, std::jthread& taker, std::vector<int>& taken) {
  queue.add(1);
  co_await yield_to_loop();
  co_await yield_to_loop();  // the turn after the one that the first was in
  taker.join();
  EXPECT_THAT(taken, ElementsAre(1));
  queue.add(2);
  co_return 0;
}

TEST(WorkQueue, IsToldAtTheEndOfEachTurn) {
  WorkQueue<int> queue(1, 10);
  std::vector<int> taken;
  std::jthread taker([&] { queue.take(taken); });
  run_on_loop(add_in_two_turns(queue, taker, taken));
  EXPECT_THAT(take(queue), ElementsAre(2));
}

// One loop is in its turn and will tell the threads; another does not rely on that, since it may be a long turn.
TEST(WorkQueue, NoLoopWaitsForTheTurnOfAnother) {
  WorkQueue<int> queue(1, 10);
  std::vector<int> taken;
  LoopThread other;
  const auto add_meanwhile = [](WorkQueue<int>& to, LoopThread& on, std::vector<int>& into) -> Task<int> {
    to.add(1);
    std::jthread taker([&] { to.take(into); });
    on.start([](WorkQueue<int>& of_both) -> Task<int> {
        of_both.add(2);
        co_return 0;
      }(to))
        .get();
    taker.join();
    co_return 0;
  };
  run_on_loop(add_meanwhile(queue, other, taken));
  EXPECT_FALSE(taken.empty());
}

// The turn of a loop that stops is its last: what it promised to tell is told.
TEST(WorkQueue, IsToldByALoopThatEnds) {
  WorkQueue<int> queue(1, 10);
  std::vector<int> taken;
  std::jthread taker([&] { queue.take(taken); });
  {
    Loop loop;
    loop.post([&] {
      queue.add(1);
      loop.stop();
    });
    loop.run();
  }
  taker.join();
  EXPECT_THAT(taken, ElementsAre(1));
}

TEST(WorkQueue, MayBeGoneBeforeTheTurnEnds) {
  std::optional<WorkQueue<int>> queue(std::in_place, 1, 10);
  run_on_loop([](std::optional<WorkQueue<int>>& going) -> Task<int> {
    going->add(1);
    going.reset();
    co_await yield_to_loop();
    co_return 0;
  }(queue));
}

}  // namespace
}  // namespace sluice
