// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <condition_variable>
#include <coroutine>
#include <cstddef>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/blocking_pool.h"
#include "runtime/loop.h"

namespace sluice {

/// A few threads for blocking work that is cheaper done for many at once, such as a commit. A thread that is free takes
/// all the jobs that wait, at most `max_group`, and serves them together: what comes while a group is served is the
/// next group. So nobody is made to wait for company, and the more there is to do, the larger the groups are. The queue
/// needs no limit of its own: each connection has at most one job in it.
template <class Job>
class GroupPool {
 public:
  /// Serves the jobs of one group, in the order in which they came; leaves in each what became of it. Must not throw.
  using Serve = std::move_only_function<void(std::span<Job* const>) const>;

  GroupPool(const std::string& name, std::size_t threads, std::size_t max_group, Serve serve)
      : max_group_(max_group), serve_(std::move(serve)) {
    for (std::size_t i = 0; i < threads; ++i) {
      threads_.emplace_back([this] { run_thread(); });
      name_thread(threads_.back(), name);
    }
  }
  /// Serves what is queued, then joins.
  ~GroupPool() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    jobs_arrived_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  GroupPool(const GroupPool&) = delete;
  GroupPool& operator=(const GroupPool&) = delete;

  /// Awaitable on a loop; comes back to it when the job's group has been served. The job must outlive the await.
  auto run(Job& job) {
    struct Awaiter {
      GroupPool& pool;
      Job& job;
      bool await_ready() const noexcept { return false; }
      void await_suspend(std::coroutine_handle<> waiter) { pool.submit({&job, waiter, &Loop::current()}); }
      void await_resume() const noexcept {}
    };
    return Awaiter{*this, job};
  }

 private:
  struct Entry {
    Job* job;
    std::coroutine_handle<> waiter;
    Loop* loop;
  };

  void submit(Entry entry) {
    {
      const std::lock_guard lock(mutex_);
      waiting_.push_back(entry);
    }
    jobs_arrived_.notify_one();
  }

  void run_thread() {
    std::vector<Entry> group;
    std::vector<Job*> jobs;
    while (take(group)) {
      jobs.clear();
      for (const Entry& entry : group) jobs.push_back(entry.job);
      serve_(std::span<Job* const>(jobs));
      answer(group);
    }
  }

  /// False when there will be no more.
  bool take(std::vector<Entry>& group) {
    std::unique_lock lock(mutex_);
    jobs_arrived_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    const auto end = waiting_.begin() + static_cast<std::ptrdiff_t>(std::min(waiting_.size(), max_group_));
    group.assign(waiting_.begin(), end);
    waiting_.erase(waiting_.begin(), end);
    return !group.empty();
  }

  // One post for all who live on the same loop: one for each would wake it as often.
  static void answer(std::vector<Entry>& group) {
    while (!group.empty()) {
      Loop* const loop = group.front().loop;
      std::vector<std::coroutine_handle<>> waiters;
      std::erase_if(group, [&](const Entry& entry) {
        if (entry.loop != loop) return false;
        waiters.push_back(entry.waiter);
        return true;
      });
      loop->post([waiters = std::move(waiters)] {
        for (const std::coroutine_handle<> waiter : waiters) waiter.resume();
      });
    }
  }

  const std::size_t max_group_;
  const Serve serve_;
  std::mutex mutex_;  // guards all but the threads
  std::condition_variable jobs_arrived_;
  std::vector<Entry> waiting_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace sluice
