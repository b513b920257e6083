// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <coroutine>
#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/blocking_pool.h"
#include "runtime/loop.h"
#include "runtime/work_queue.h"

namespace sluice {

/// A few threads for blocking work that is cheaper done for many at once, such as a commit. A thread that is free takes
/// its share of the jobs that wait, at most `max_group`, and serves them together: what comes while a group is served
/// is the next group. So nobody is made to wait for company, and the more there is to do, the larger the groups are.
/// The queue needs no limit of its own: each connection has at most one job in it.
template <class Job>
class GroupPool {
 public:
  /// Serves the jobs of one group, in the order in which they came; leaves in each what became of it. Must not throw.
  using Serve = std::move_only_function<void(std::span<Job* const>) const>;

  GroupPool(const std::string& name, std::size_t threads, std::size_t max_group, Serve serve)
      : serve_(std::move(serve)), queue_(threads, max_group) {
    for (std::size_t i = 0; i < threads; ++i) {
      threads_.emplace_back([this] { run_thread(); });
      name_thread(threads_.back(), name);
    }
  }
  /// Serves what is queued, then joins.
  ~GroupPool() {
    queue_.close();
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
      void await_suspend(std::coroutine_handle<> waiter) { pool.queue_.add({&job, {waiter, &Loop::current()}}); }
      void await_resume() const noexcept {}
    };
    return Awaiter{*this, job};
  }

 private:
  struct Entry {
    Job* job;
    Waiter waiter;
  };

  void run_thread() {
    std::vector<Entry> group;
    std::vector<Job*> jobs;
    std::vector<Waiter> waiters;
    for (queue_.take(group); !group.empty(); queue_.take(group)) {
      jobs.clear();
      for (const Entry& entry : group) {
        jobs.push_back(entry.job);
        waiters.push_back(entry.waiter);
      }
      serve_(std::span<Job* const>(jobs));
      resume_all(waiters);
    }
  }

  const Serve serve_;
  WorkQueue<Entry> queue_;
  std::vector<std::thread> threads_;
};

}  // namespace sluice
