// SPDX-License-Identifier: Apache-2.0
#include "runtime/signal.h"

#include "runtime/loop_asio.h"

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

struct Deadline::State : std::enable_shared_from_this<Deadline::State> {
  explicit State(std::shared_ptr<Signal> to_raise)
      : signal(std::move(to_raise)), timer(Loop::current().impl().context) {}

  std::shared_ptr<Signal> signal;
  LoopTimer timer;
  // A handler that is already queued can no longer be cancelled; its number tells that it is out of date.
  std::uint64_t arming = 0;
};

Deadline::Deadline(std::shared_ptr<Signal> signal) : state_(std::make_shared<State>(std::move(signal))) {}
Deadline::Deadline(Deadline&&) noexcept = default;

Deadline::~Deadline() {
  if (state_) disarm();
}

void Deadline::arm(SteadyTime at) {
  state_->timer.expires_at(at);
  state_->timer.async_wait([state = state_, arming = ++state_->arming](boost::system::error_code error) {
    if (!error && arming == state->arming) state->signal->raise(Wake::kDeadline);
  });
}

void Deadline::disarm() {
  ++state_->arming;
  state_->timer.cancel();
}

}  // namespace sluice
