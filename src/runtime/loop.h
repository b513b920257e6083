// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/intrusive/set.hpp>
#include <coroutine>
#include <functional>
#include <memory>

#include "base/clock.h"

namespace sluice {

/// One event loop, driven by one thread. A connection and its coroutine live on one loop from first to last, so
/// what belongs to a connection needs no lock. Everything else reaches a loop through `post`.
///
/// It is epoll, edge-triggered: a descriptor is told to the kernel once, and not again each time somebody waits for it.
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

  // What follows is for the loop's own thread.

  /// Is told when a descriptor becomes ready. Once told, it is sure to be told again only after the descriptor was
  /// found not to be ready (a call that yielded EAGAIN) and new bytes or new room came; it may be told sooner
  /// (epoll(7)).
  class Watcher {
   public:
    struct Readiness {
      bool readable = false;
      bool writable = false;
      bool hung_up = false;  // the other side has ended, or the connection broke: reading will tell
    };
    virtual void on_ready(Readiness readiness) = 0;

   protected:
    ~Watcher() = default;
  };
  /// Watches a descriptor until `unwatch`, which comes before its closing. False, with errno, when the kernel refuses.
  /// Also from other threads; the watcher is told on the loop's.
  bool watch(int descriptor, Watcher& watcher);
  void unwatch(int descriptor, Watcher& watcher);

  /// Something to be done at a time. It leaves the loop when its time has come, or when it is destroyed.
  class Timer : public boost::intrusive::set_base_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
   public:
    SteadyTime at() const { return at_; }
    bool is_set() const { return is_linked(); }

   protected:
    Timer() = default;
    ~Timer() = default;
    virtual void on_time() = 0;

   private:
    friend class Loop;
    SteadyTime at_{};
  };
  /// In place of the time that it was set to before.
  void set(Timer& timer, SteadyTime at);

 private:
  struct Impl;
  const std::unique_ptr<Impl> impl_;
};

/// Awaitable on a loop: lets what is queued there, and the sockets, have their turn.
inline auto yield_to_loop() {
  struct Awaiter {
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter) const {
      Loop::current().post([waiter] { waiter.resume(); });
    }
    void await_resume() const noexcept {}
  };
  return Awaiter{};
}

}  // namespace sluice
