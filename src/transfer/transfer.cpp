// SPDX-License-Identifier: Apache-2.0
#include "transfer/transfer.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace sluice::transfer {

Transfer::Transfer(Description description, std::shared_ptr<const FileDescriptor> file)
    : description_(std::move(description)), file_(std::move(file)) {}

Progress Transfer::progress() const { return unpack(progress_); }

bool Transfer::advance(std::uint64_t size) {
  const Progress before = progress();
  assert(before.state == State::kRunning && size >= size_);
  size_ = size;
  const std::uint64_t now_readable = readable(size, State::kRunning);
  progress_ = pack({now_readable, State::kRunning});
  if (now_readable > before.readable) wake();
  return before.readable == 0 && now_readable > 0;
}

void Transfer::finish_whole() { end(State::kWhole); }
void Transfer::break_off() { end(State::kBroken); }

void Transfer::end(State state) {
  if (progress().state != State::kRunning) return;
  progress_ = pack({readable(size_, state), state});
  wake();
}

std::uint64_t Transfer::readable(std::uint64_t size, State state) const {
  if (state == State::kWhole || !description_.size || size < *description_.size) return size;
  return *description_.size - std::min<std::uint64_t>(*description_.size, 1);
}

// No wake-up is lost: a follower looks at the progress under the mutex before it is among those that sleep. Either that
// was before this, and it is found here, or after, and then it saw the progress that was written before.
void Transfer::wake() {
  const std::lock_guard lock(mutex_);
  const Progress now = progress();
  for (auto it = sleeping_.begin(); it != sleeping_.end();) {
    Follower& follower = *it++;
    if (!follower.is_concerned_by(now)) continue;
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

bool Follower::is_concerned_by(const Progress& progress) const {
  return progress.state != State::kRunning || progress.readable > offset_;
}

void Follower::wake_beyond(std::uint64_t offset) {
  const std::lock_guard lock(transfer_->mutex_);
  offset_ = offset;
  // Only this one is looked at: with all of them, a thousand readers would cost a million looks for every chunk.
  if (is_concerned_by(transfer_->progress())) {
    if (is_linked()) unlink();
    signal_->raise(Wake::kProgress);
  } else if (!is_linked()) {
    transfer_->sleeping_.push_back(*this);
  }
}

}  // namespace sluice::transfer
