// SPDX-License-Identifier: Apache-2.0
#include "runtime/group_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <latch>
#include <thread>
#include <vector>

#include "runtime/run_on_loop_test.h"

namespace sluice {
namespace {

using ::testing::ElementsAre;

struct Job {
  int number = 0;
  std::size_t group_size = 0;  // of the group that it was served in
};

Task<Job> ask(GroupPool<Job>& pool, int number) {
  Loop* const home = &Loop::current();
  Job job{number};
  co_await pool.run(job);
  EXPECT_EQ(&Loop::current(), home);
  co_return job;
}

/// Starts each job when those before it are queued.
std::future<Job> start(LoopThread& thread, GroupPool<Job>& pool, int number) {
  auto started = thread.start(ask(pool, number));
  thread.start([]() -> Task<> { co_return; }()).get();
  return started;
}

class GroupPoolTest : public ::testing::Test {
 protected:
  /// The first group is held until it is let go, so that the others gather.
  GroupPool<Job>::Serve serve_slowly() {
    return [this](std::span<Job* const> group) {
      std::vector<int> numbers;
      for (Job* job : group) {
        job->group_size = group.size();
        numbers.push_back(job->number);
      }
      {
        const std::lock_guard lock(mutex_);
        groups_.push_back(std::move(numbers));
      }
      if (group.front()->number == 0) {
        holding_.count_down();
        go_on_.wait();
      }
    };
  }

  std::mutex mutex_;
  std::vector<std::vector<int>> groups_;
  std::latch holding_{1};
  std::latch go_on_{1};
  LoopThread thread_;
};

TEST_F(GroupPoolTest, ServesAJobThatComesAloneAtOnce) {
  GroupPool<Job> pool("test", 1, 10, serve_slowly());
  EXPECT_EQ(start(thread_, pool, 1).get().group_size, 1u);
}

TEST_F(GroupPoolTest, WhatComesWhileAGroupIsServedIsTheNextGroupInOrder) {
  GroupPool<Job> pool("test", 1, 3, serve_slowly());
  std::vector<std::future<Job>> jobs;
  jobs.push_back(start(thread_, pool, 0));
  holding_.wait();
  for (int number = 1; number <= 5; ++number) jobs.push_back(start(thread_, pool, number));
  go_on_.count_down();
  for (auto& job : jobs) job.get();
  EXPECT_THAT(groups_, ElementsAre(ElementsAre(0), ElementsAre(1, 2, 3), ElementsAre(4, 5)));
}

TEST_F(GroupPoolTest, AnotherThreadTakesWhatComesMeanwhile) {
  GroupPool<Job> pool("test", 2, 10, serve_slowly());
  auto held = start(thread_, pool, 0);
  holding_.wait();
  EXPECT_EQ(start(thread_, pool, 1).get().group_size, 1u);
  go_on_.count_down();
  held.get();
}

TEST_F(GroupPoolTest, EachComesBackToItsOwnLoop) {
  LoopThread other;
  GroupPool<Job> pool("test", 1, 100, serve_slowly());
  std::vector<std::future<Job>> jobs;
  jobs.push_back(start(thread_, pool, 0));
  holding_.wait();
  for (int number = 1; number <= 20; ++number) jobs.push_back(start(number % 2 ? thread_ : other, pool, number));
  go_on_.count_down();
  for (int number = 0; number <= 20; ++number) EXPECT_EQ(jobs[static_cast<std::size_t>(number)].get().number, number);
  EXPECT_EQ(groups_.size(), 2u);
}

Task<int> ask_often(GroupPool<Job>& pool, int times) {
  int answered = 0;
  for (int number = 1; number <= times; ++number) {
    if ((co_await ask(pool, number)).group_size > 0) ++answered;
  }
  co_return answered;
}

TEST_F(GroupPoolTest, LosesNoJobAmongManyLoopsAndThreads) {
  GroupPool<Job> pool("test", 3, 4, serve_slowly());
  LoopThread other;
  std::vector<std::future<int>> results;
  for (int i = 0; i < 10; ++i) {
    results.push_back(thread_.start(ask_often(pool, 200)));
    results.push_back(other.start(ask_often(pool, 200)));
  }
  for (auto& result : results) EXPECT_EQ(result.get(), 200);
}

}  // namespace
}  // namespace sluice
