// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <coroutine>
#include <cstdint>
#include <memory>

#include "base/clock.h"
#include "runtime/loop.h"

namespace sluice {

/// The reasons for which one coroutine can be woken. Any number of them may be raised before it looks.
enum class Wake : std::uint32_t {
  kReadable = 1,  // the connection has bytes, or its end, to read
  kWritable = 2,  // the connection takes bytes again
  kProgress = 4,  // a transfer has grown or ended; a media id changed its state
  kDeadline = 8,  // the armed Deadline has passed
};

/// A set of Wake reasons.
class WakeSet {
 public:
  explicit WakeSet(std::uint32_t bits) : bits_(bits) {}
  bool has(Wake reason) const { return (bits_ & static_cast<std::uint32_t>(reason)) != 0; }

 private:
  std::uint32_t bits_;
};

/// Where one coroutine sleeps, and what everything that could concern it raises. A raise is never lost: one that
/// comes before the wait makes the wait return at once, so "register first, then look, then wait" has no gap. Raises
/// may be spurious; a waiter looks again at what it waits for.
///
/// Held by shared_ptr, because those who raise it may outlive the coroutine that waits.
class Signal : public std::enable_shared_from_this<Signal> {
 public:
  /// The coroutine that waits lives on `loop`.
  explicit Signal(Loop& loop) : loop_(loop) {}

  /// From any thread. Wakes the waiting coroutine, on its own loop, if there is one.
  void raise(Wake reason) noexcept;

  /// Sleeps until something has been raised since the last wait; returns all of it and forgets it.
  /// One coroutine waits at a time, on the signal's loop.
  auto wait() noexcept {
    struct Awaiter {
      Signal& signal;
      bool await_ready() const noexcept { return signal.state_.load() != 0; }
      bool await_suspend(std::coroutine_handle<> waiter) noexcept { return signal.park(waiter); }
      WakeSet await_resume() const noexcept { return WakeSet(signal.state_.exchange(0)); }
    };
    return Awaiter{*this};
  }

 private:
  static constexpr std::uint32_t kParked = 1u << 31;

  bool park(std::coroutine_handle<> waiter) noexcept;

  Loop& loop_;
  std::atomic<std::uint32_t> state_{0};  // Wake bits, and kParked while waiter_ sleeps
  std::coroutine_handle<> waiter_;
};

/// Raises Wake::kDeadline on a signal at a time; at most one time is armed. All calls on the signal's loop.
///
/// Arming is cheap, as every request does it several times and hardly any deadline passes: the loop's timer stays where
/// it is while it is early enough, and looks at its time what is armed by then.
class Deadline final : Loop::Timer {
 public:
  explicit Deadline(std::shared_ptr<Signal> signal);
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;

  void arm(SteadyTime at);  // replaces what was armed
  void disarm();            // afterwards nothing is raised any more, but what was raised stays raised

 private:
  void on_time() override;

  const std::shared_ptr<Signal> signal_;
  SteadyTime armed_ = SteadyTime::max();  // max: nothing
};

/// The one on whose behalf a coroutine waits: a signal to be woken by, and whether they are still there.
/// An HTTP connection is a caller; tests bring their own.
class Caller {
 public:
  virtual ~Caller() = default;
  virtual const std::shared_ptr<Signal>& signal() = 0;
  /// False once the client has left. From a call that returned true on, the signal is raised when that changes.
  virtual bool is_present() = 0;
};

}  // namespace sluice
