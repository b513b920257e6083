// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <coroutine>
#include <cstddef>
#include <exception>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "runtime/loop.h"
#include "runtime/work_queue.h"

namespace sluice {

/// For those who look at a running process; cut to what the kernel takes.
void name_thread(std::thread& thread, const std::string& name);

/// A few threads for work that blocks: SQLite, fsync, directories. `co_await pool.run(f)` runs `f` there and comes
/// back to the loop it left. The queue needs no limit of its own: each connection has at most one piece of work in it.
class BlockingPool {
 public:
  /// A thread takes up to `max_at_once` pieces of what waits, but no more than its share, and answers for them
  /// together: fewer wake-ups, for work so short that a neighbour's may be waited for.
  BlockingPool(std::string name, std::size_t threads, std::size_t max_at_once = 1);
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
  struct Entry {
    std::move_only_function<void()> work;
    Waiter waiter;  // without a loop: nobody
  };

  void serve();

  WorkQueue<Entry> queue_;
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
      const auto keep_outcome = [this] {
        try {
          value.emplace(work());
        } catch (...) {
          exception = std::current_exception();
        }
      };
      pool.queue_.add({keep_outcome, {waiter, &Loop::current()}});
    }
    Value await_resume() {
      if (exception) std::rethrow_exception(exception);
      return std::move(*value);
    }
  };
  return Awaiter{*this, std::move(work)};
}

}  // namespace sluice
