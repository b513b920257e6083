// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <coroutine>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "runtime/loop.h"

namespace sluice {

/// For those who look at a running process; cut to what the kernel takes.
void name_thread(std::thread& thread, const std::string& name);

/// A few threads for work that blocks: SQLite, fsync, directories. `co_await pool.run(f)` runs `f` there and comes
/// back to the loop it left. The queue needs no limit of its own: each connection has at most one piece of work in it.
class BlockingPool {
 public:
  BlockingPool(std::string name, std::size_t threads);
  /// Finishes what is queued, then joins.
  ~BlockingPool();
  BlockingPool(const BlockingPool&) = delete;
  BlockingPool& operator=(const BlockingPool&) = delete;

  /// Awaitable on a loop. Yields what `work` returns (not void); throws what it throws.
  template <class Work>
  auto run(Work work);

  /// For callers that have no loop, and do not wait. From any thread.
  void submit(std::move_only_function<void()> work);

 private:
  void serve();

  std::mutex mutex_;
  std::condition_variable work_arrived_;
  std::deque<std::move_only_function<void()>> queue_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

template <class Work>
auto BlockingPool::run(Work work) {
  using Value = std::invoke_result_t<Work&>;
  struct Awaiter {
    BlockingPool& pool;
    Work work;
    std::optional<Value> value{};
    std::exception_ptr exception{};

    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter) {
      pool.submit([this, waiter, &loop = Loop::current()] {
        try {
          value.emplace(work());
        } catch (...) {
          exception = std::current_exception();
        }
        loop.post([waiter] { waiter.resume(); });
      });
    }
    Value await_resume() {
      if (exception) std::rethrow_exception(exception);
      return std::move(*value);
    }
  };
  return Awaiter{*this, std::move(work)};
}

}  // namespace sluice
