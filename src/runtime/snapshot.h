// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <utility>

#include "runtime/loop.h"

namespace sluice {

/// A value that loops read all the time, and that is replaced as a whole now and then. Reading is one load: no lock,
/// and no count that all loops would write to.
template <class T>
class Snapshot {
 public:
  explicit Snapshot(T value) : owner_(std::make_shared<const T>(std::move(value))), current_(owner_.get()) {}
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;

  /// What is in force now. On one of the loops; good until the caller goes back to its loop, so not across a co_await.
  const T& read() const { return *current_.load(std::memory_order_acquire); }

  /// One thread at a time. `readers` are all loops that may read. Each of them holds what was replaced until its queue
  /// has come to where it is now: whoever had read it there has gone back to the loop by then.
  void replace(T value, std::span<Loop* const> readers) {
    auto next = std::make_shared<const T>(std::move(value));
    current_.store(next.get(), std::memory_order_release);
    const std::shared_ptr<const T> replaced = std::exchange(owner_, std::move(next));
    for (Loop* loop : readers) loop->post([replaced] {});
  }

 private:
  std::shared_ptr<const T> owner_;
  std::atomic<const T*> current_;
};

}  // namespace sluice
