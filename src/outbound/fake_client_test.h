// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <cstddef>
#include <expected>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "outbound/client.h"
#include "runtime/loop.h"
#include "runtime/signal.h"

namespace sluice::outbound {

/// A client for tests: answers by a script, at once or when released, and remembers what it was asked.
/// From any thread.
class FakeClient final : public Client {
 public:
  using Outcome = std::expected<Response, Failure>;
  using Script = std::function<Outcome(const Request&)>;  // may throw, as a broken client would

  explicit FakeClient(Script script) : script_(std::move(script)) {}
  explicit FakeClient(Outcome outcome)
      : FakeClient([outcome = std::move(outcome)](const Request&) { return outcome; }) {}

  void set_script(Script script) {
    const std::lock_guard lock(mutex_);
    script_ = std::move(script);
  }

  /// From now on requests wait for `release`, which lets all go that wait and all that come.
  void hold() {
    const std::lock_guard lock(mutex_);
    held_ = true;
  }
  void release() {
    std::vector<std::shared_ptr<Signal>> waiting;
    {
      const std::lock_guard lock(mutex_);
      held_ = false;
      waiting.swap(waiting_);
    }
    for (const std::shared_ptr<Signal>& signal : waiting) signal->raise(Wake::kProgress);
  }

  std::vector<Request> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }
  std::size_t count() const { return requests().size(); }
  /// Blocks the calling thread until so many requests have come.
  void await_count(std::size_t count) {
    std::unique_lock lock(mutex_);
    request_came_.wait(lock, [&] { return requests_.size() >= count; });
  }

  Task<Outcome> get(Request request) override {
    const auto signal = std::make_shared<Signal>(Loop::current());
    note(request, signal);
    while (is_held()) co_await signal->wait();
    co_return answer(request);
  }

 private:
  void note(const Request& request, const std::shared_ptr<Signal>& signal) {
    const std::lock_guard lock(mutex_);
    requests_.push_back(request);
    waiting_.push_back(signal);
    request_came_.notify_all();
  }
  bool is_held() const {
    const std::lock_guard lock(mutex_);
    return held_;
  }
  Outcome answer(const Request& request) const {
    const std::lock_guard lock(mutex_);
    return script_(request);
  }

  mutable std::mutex mutex_;
  std::condition_variable request_came_;
  Script script_;
  bool held_ = false;
  std::vector<Request> requests_;
  std::vector<std::shared_ptr<Signal>> waiting_;
};

}  // namespace sluice::outbound
