// SPDX-License-Identifier: Apache-2.0
#include "runtime/blocking_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <latch>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "runtime/run_on_loop_test.h"

namespace sluice {
namespace {

struct Places {
  bool worked_elsewhere = false;
  bool came_back = false;
};

Task<Places> work_and_come_back(BlockingPool& pool) {
  const std::thread::id here = std::this_thread::get_id();
  Loop* const home = &Loop::current();
  const std::thread::id there = co_await pool.run([] { return std::this_thread::get_id(); });
  co_return Places{there != here, std::this_thread::get_id() == here && &Loop::current() == home};
}

TEST(BlockingPool, WorksOnItsOwnThreadAndComesBackToTheLoop) {
  BlockingPool pool("test", 2);
  const Places places = run_on_loop(work_and_come_back(pool));
  EXPECT_TRUE(places.worked_elsewhere);
  EXPECT_TRUE(places.came_back);
}

Task<bool> come_back_often(BlockingPool& pool, int times) {
  for (int i = 0; i < times; ++i) {
    if (!(co_await work_and_come_back(pool)).came_back) co_return false;
  }
  co_return true;
}

TEST(BlockingPool, EachOfSeveralLoopsGetsItsOwnBack) {
  BlockingPool pool("test", 2);
  LoopThread first;
  LoopThread second;
  std::vector<std::future<bool>> results;
  for (int i = 0; i < 10; ++i) {
    results.push_back(first.start(come_back_often(pool, 100)));
    results.push_back(second.start(come_back_often(pool, 100)));
  }
  for (std::future<bool>& result : results) EXPECT_TRUE(result.get());
}

Task<std::unique_ptr<std::string>> bring_back(BlockingPool& pool, std::unique_ptr<std::string> owned) {
  co_return co_await pool.run([owned = std::move(owned)]() mutable {
    *owned += " and back";
    return std::move(owned);
  });
}

TEST(BlockingPool, CarriesMoveOnlyValues) {
  BlockingPool pool("test", 1);
  EXPECT_EQ(*run_on_loop(bring_back(pool, std::make_unique<std::string>("there"))), "there and back");
}

Task<std::string> catch_from(BlockingPool& pool) {
  Loop* const home = &Loop::current();
  try {
    co_await pool.run([]() -> int { throw std::runtime_error("the disk is gone"); });
  } catch (const std::runtime_error& error) {
    EXPECT_EQ(&Loop::current(), home);
    co_return error.what();
  }
  co_return "nothing thrown";
}

TEST(BlockingPool, ThrowsToTheAwaiterWhatTheWorkThrew) {
  BlockingPool pool("test", 1);
  EXPECT_EQ(run_on_loop(catch_from(pool)), "the disk is gone");
}

Task<int> meet(BlockingPool& pool, std::latch& both) {
  co_return co_await pool.run([&both] {
    both.arrive_and_wait();
    return 1;
  });
}

TEST(BlockingPool, WorksOnAsManyAtOnceAsItHasThreads) {
  BlockingPool pool("test", 2);
  LoopThread thread;
  std::latch both(2);
  auto first = thread.start(meet(pool, both));
  auto second = thread.start(meet(pool, both));
  EXPECT_EQ(first.get() + second.get(), 2);
}

TEST(BlockingPool, FinishesWhatIsQueuedBeforeItEnds) {
  constexpr int kWorks = 100;
  std::atomic<int> done = 0;
  std::latch all_queued(1);
  {
    BlockingPool pool("test", 1);
    pool.submit([&all_queued] { all_queued.wait(); });
    for (int i = 0; i < kWorks; ++i) pool.submit([&done] { ++done; });
    all_queued.count_down();
  }
  EXPECT_EQ(done.load(), kWorks);
}

TEST(BlockingPool, TakesANameLongerThanTheKernelDoes) {
  const BlockingPool pool("a name of more than fifteen bytes", 1);
}

}  // namespace
}  // namespace sluice
