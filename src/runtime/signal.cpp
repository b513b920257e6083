// SPDX-License-Identifier: Apache-2.0
#include "runtime/signal.h"

#include <chrono>
#include <utility>

namespace sluice {

void Signal::raise(Wake reason) noexcept {
  if ((state_.fetch_or(static_cast<std::uint32_t>(reason)) & kParked) == 0) return;
  // Several may raise at once: whoever clears kParked is the one that resumes.
  if ((state_.fetch_and(~kParked) & kParked) == 0) return;
  loop_.post([self = shared_from_this()] { self->waiter_.resume(); });
}

bool Signal::park(std::coroutine_handle<> waiter) noexcept {
  waiter_ = waiter;
  const std::uint32_t raised = state_.fetch_or(kParked);
  if (raised == 0) return true;
  // Something was raised between await_ready and here. Either we take kParked back and go on without sleeping, or
  // a raiser has taken it and will resume us.
  return (state_.fetch_and(~kParked) & kParked) == 0;
}

Deadline::Deadline(std::shared_ptr<Signal> signal) : signal_(std::move(signal)) {}

void Deadline::arm(SteadyTime at) {
  armed_ = at;
  if (!is_set() || at < this->at()) Loop::current().set(*this, at);
}

void Deadline::disarm() { armed_ = SteadyTime::max(); }

void Deadline::on_time() {
  if (armed_ == SteadyTime::max()) return;
  if (std::chrono::steady_clock::now() < armed_) {
    Loop::current().set(*this, armed_);
  } else {
    disarm();
    signal_->raise(Wake::kDeadline);
  }
}

}  // namespace sluice
