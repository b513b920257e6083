// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>

#include "runtime/loop.h"
#include "runtime/signal.h"

namespace sluice::repository {

/// A caller for tests, who is there until told to leave. It knows when it is about to be put to sleep: its signal is
/// asked for by the ticket, by the deadline, and from the third time on to sleep on it.
class CallerDouble final : public Caller {
 public:
  static constexpr int kAskedToSleep = 3;

  using OnAsked = std::function<void(Signal&)>;

  /// `on_asked`, if given, runs each time the signal is asked for, before it is handed out.
  explicit CallerDouble(Loop& loop, OnAsked on_asked = {})
      : signal_(std::make_shared<Signal>(loop)), on_asked_(std::move(on_asked)) {}

  const std::shared_ptr<Signal>& signal() override {
    if (on_asked_) on_asked_(*signal_);
    {
      const std::lock_guard lock(mutex_);
      ++asked_;
    }
    was_asked_.notify_all();
    return signal_;
  }
  bool is_present() override { return is_present_; }

  /// From any thread.
  void leave() {
    is_present_ = false;
    signal_->raise(Wake::kReadable);
  }
  void await_asked(int times) {
    std::unique_lock lock(mutex_);
    was_asked_.wait(lock, [&] { return asked_ >= times; });
  }
  const std::shared_ptr<Signal>& signal_unasked() const { return signal_; }

 private:
  const std::shared_ptr<Signal> signal_;
  const OnAsked on_asked_;
  std::atomic<bool> is_present_ = true;
  std::mutex mutex_;
  std::condition_variable was_asked_;
  int asked_ = 0;
};

}  // namespace sluice::repository
