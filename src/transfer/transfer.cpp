// SPDX-License-Identifier: Apache-2.0
#include "transfer/transfer.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace sluice::transfer {

Transfer::Transfer(Description description, std::shared_ptr<const FileDescriptor> file)
    : description_(std::move(description)), file_(std::move(file)) {}

Progress Transfer::progress() const {
  const std::lock_guard lock(mutex_);
  return Progress{readable_locked(), state_};
}

bool Transfer::advance(std::uint64_t size) {
  const std::lock_guard lock(mutex_);
  assert(state_ == State::kRunning && size >= size_);
  const bool was_readable = readable_locked() > 0;
  size_ = size;
  wake_locked();
  return !was_readable && readable_locked() > 0;
}

void Transfer::finish_whole() { end(State::kWhole); }
void Transfer::break_off() { end(State::kBroken); }

void Transfer::end(State state) {
  const std::lock_guard lock(mutex_);
  if (state_ != State::kRunning) return;
  state_ = state;
  wake_locked();
}

std::uint64_t Transfer::readable_locked() const {
  if (state_ == State::kWhole || !description_.size || size_ < *description_.size) return size_;
  return *description_.size - std::min<std::uint64_t>(*description_.size, 1);
}

bool Transfer::concerns_locked(const Follower& follower) const {
  return state_ != State::kRunning || readable_locked() > follower.offset_;
}

void Transfer::wake_locked() {
  for (auto it = sleeping_.begin(); it != sleeping_.end();) {
    Follower& follower = *it++;
    if (!concerns_locked(follower)) continue;
    follower.unlink();
    follower.signal_->raise(Wake::kProgress);
  }
}

Follower::Follower(std::shared_ptr<Transfer> transfer, std::shared_ptr<Signal> signal,
                   std::shared_ptr<std::atomic<std::size_t>> count)
    : transfer_(std::move(transfer)), signal_(std::move(signal)), count_(std::move(count)) {
  if (count_) ++*count_;
}

Follower::~Follower() {
  {
    const std::lock_guard lock(transfer_->mutex_);
    if (is_linked()) unlink();
  }
  if (count_) --*count_;
}

void Follower::wake_beyond(std::uint64_t offset) {
  const std::lock_guard lock(transfer_->mutex_);
  offset_ = offset;
  // Only this one is looked at: with all of them, a thousand readers would cost a million looks for every chunk.
  if (transfer_->concerns_locked(*this)) {
    if (is_linked()) unlink();
    signal_->raise(Wake::kProgress);
  } else if (!is_linked()) {
    transfer_->sleeping_.push_back(*this);
  }
}

}  // namespace sluice::transfer
