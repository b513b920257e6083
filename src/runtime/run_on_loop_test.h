// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <coroutine>
#include <exception>
#include <future>
#include <memory>
#include <optional>
#include <thread>
#include <type_traits>
#include <utility>

#include "runtime/loop.h"
#include "runtime/task.h"

// Helpers for tests of coroutines.
namespace sluice {
namespace detail {

template <class T>
Task<void> fulfil(Task<T> task, std::shared_ptr<std::promise<T>> promise) {
  try {
    if constexpr (std::is_void_v<T>) {
      co_await std::move(task);
      promise->set_value();
    } else {
      promise->set_value(co_await std::move(task));
    }
  } catch (...) {
    promise->set_exception(std::current_exception());
  }
}

inline Task<void> stop_after(Task<void> task, Loop& loop) {
  co_await std::move(task);
  loop.post([&loop] { loop.stop(); });  // posted, so that what the task itself has posted still runs
}

}  // namespace detail

/// Runs `task` from first to last on a loop of its own, on the calling thread; yields its value or throws its
/// exception. Inside the task, `Loop::current()` is that loop. What the task spawned must have ended when it ends.
template <class T>
T run_on_loop(Task<T> task) {
  Loop loop;
  auto promise = std::make_shared<std::promise<T>>();
  std::future<T> result = promise->get_future();
  loop.post([&loop, task = std::move(task), promise = std::move(promise)]() mutable {
    spawn(detail::stop_after(detail::fulfil(std::move(task), std::move(promise)), loop));
  });
  loop.run();
  return result.get();
}

/// A loop with a thread of its own, for tests in which several loops take part. Every task that was started must have
/// ended before it is destroyed: take their futures first.
class LoopThread {
 public:
  LoopThread() : thread_([this] { loop_.run(); }) {}
  ~LoopThread() {
    loop_.post([this] { loop_.stop(); });
    thread_.join();
  }
  LoopThread(const LoopThread&) = delete;
  LoopThread& operator=(const LoopThread&) = delete;

  Loop& loop() { return loop_; }

  /// Starts `task` on the loop. From any thread.
  template <class T>
  std::future<T> start(Task<T> task) {
    auto promise = std::make_shared<std::promise<T>>();
    std::future<T> result = promise->get_future();
    loop_.post([task = std::move(task), promise = std::move(promise)]() mutable {
      spawn(detail::fulfil(std::move(task), std::move(promise)));
    });
    return result;
  }

 private:
  Loop loop_;
  std::thread thread_;
};

}  // namespace sluice
