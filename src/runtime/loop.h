// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>

namespace sluice {

/// One event loop, driven by one thread. A connection and its coroutine live on one loop from first to last, so
/// what belongs to a connection needs no lock. Everything else reaches a loop through `post`.
class Loop {
 public:
  Loop();
  /// After `run` has returned. Waits for those who are still inside `post`: a thread whose work made the loop end.
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  /// Runs work on the calling thread until `stop`. During it, `current()` on this thread is this loop.
  void run();
  /// Makes `run` return soon. From any thread.
  void stop();
  /// Runs `work` on the loop's thread, in the order of posting. From any thread; never runs it inside the call.
  /// Work still queued when the loop is destroyed is destroyed unrun.
  void post(std::move_only_function<void()> work);

  /// The loop that the calling thread runs. Requires that it runs one.
  static Loop& current();
  static Loop* current_or_null();

  /// The Asio side, for the rooms that own sockets or timers: see runtime/loop_asio.h.
  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice
