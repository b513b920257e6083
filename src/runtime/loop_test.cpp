// SPDX-License-Identifier: Apache-2.0
#include "runtime/loop.h"

#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <vector>

namespace sluice {
namespace {

TEST(Loop, RunsWorkInTheOrderOfPosting) {
  Loop loop;
  std::vector<int> order;
  for (int i = 0; i < 5; ++i) {
    loop.post([&order, i] { order.push_back(i); });
  }
  loop.post([&loop] { loop.stop(); });
  loop.run();
  EXPECT_EQ(order, (std::vector{0, 1, 2, 3, 4}));
}

TEST(Loop, NeverRunsWorkInsidePost) {
  Loop loop;
  bool ran = false;
  bool ran_inside = true;
  loop.post([&] {
    loop.post([&] {
      ran = true;
      loop.stop();
    });
    ran_inside = ran;
  });
  loop.run();
  EXPECT_TRUE(ran);
  EXPECT_FALSE(ran_inside);
}

TEST(Loop, IsCurrentOnlyWhileItRuns) {
  Loop loop;
  EXPECT_EQ(Loop::current_or_null(), nullptr);
  Loop* inside = nullptr;
  loop.post([&] {
    inside = &Loop::current();
    loop.stop();
  });
  loop.run();
  EXPECT_EQ(inside, &loop);
  EXPECT_EQ(Loop::current_or_null(), nullptr);
}

TEST(Loop, WaitsForWorkUntilStoppedFromAnotherThread) {
  Loop loop;
  std::thread runner([&loop] { loop.run(); });
  loop.stop();
  runner.join();
}

TEST(Loop, TakesWorkFromManyThreads) {
  constexpr int kThreads = 4;
  constexpr int kEach = 1000;
  Loop loop;
  int done = 0;  // touched on the loop alone
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < kEach; ++n) {
        loop.post([&] {
          if (++done == kThreads * kEach) loop.stop();
        });
      }
    });
  }
  loop.run();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(done, kThreads * kEach);
}

TEST(Loop, MayBeDestroyedWhileTheThreadThatEndedItIsStillPosting) {
  for (int i = 0; i < 200; ++i) {
    auto loop = std::make_unique<Loop>();
    std::thread poster([raw = loop.get()] { raw->post([raw] { raw->stop(); }); });
    loop->run();
    loop.reset();
    poster.join();
  }
}

TEST(Loop, DestroysWorkThatItNeverRan) {
  const auto held = std::make_shared<int>(1);
  bool ran = false;
  {
    Loop loop;
    loop.post([held, &ran] { ran = true; });
    EXPECT_EQ(held.use_count(), 2);
  }
  EXPECT_EQ(held.use_count(), 1);
  EXPECT_FALSE(ran);
}

}  // namespace
}  // namespace sluice
