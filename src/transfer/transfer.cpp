// SPDX-License-Identifier: Apache-2.0
#include "transfer/transfer.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "runtime/loop.h"

namespace sluice::transfer {
namespace {

// To wake a crowd costs each of its members a call to the kernel, whatever it then sends, and packets that find the
// connection empty, which are the dearest. So while bytes come fast, in slices of this size or more, the writer has
// some turns of its loop before the crowd has one.
constexpr std::size_t kCrowd = 32;
constexpr std::uint64_t kFastSliceBytes = 64 * 1024;
constexpr std::uint64_t kGatheredBytes = 1024 * 1024;
// What is gathered for all of them together: it is what their loops then send before others have a turn.
constexpr std::uint64_t kGatheredForAllBytes = 128 * 1024 * 1024;

}  // namespace

Transfer::Transfer(Description description, std::shared_ptr<const FileDescriptor> file)
    : description_(std::move(description)), file_(std::move(file)) {}

Progress Transfer::progress() const { return unpack(progress_); }

void Transfer::set_file(std::shared_ptr<const FileDescriptor> file) {
  assert(!file_ && !progress().has_begun());
  file_ = std::move(file);
}

bool Transfer::advance(std::uint64_t size) {
  std::uint64_t word = progress_;
  const Progress before = unpack(word);
  assert(before.state != State::kWhole && size >= size_ && (file_ || size == 0));
  size_ = size;
  std::uint64_t now_readable = size;
  // 19,000 stalled downloads of 1 KiB that came at once: 730 ms of processor time with two wake-ups each, 330 with one.
  if (description_.size && size >= *description_.size) now_readable = before.readable == 0 ? 0 : *description_.size - 1;
  if (before.state != State::kRunning) return false;
  // Nobody else changes what is readable; but it may be broken off now.
  if (!progress_.compare_exchange_strong(word, pack({now_readable, State::kRunning}))) return false;
  if (is_worth_gathering(now_readable - before.readable)) {
    gather();
  } else if (now_readable > before.readable) {
    wake();
  }
  return before.readable == 0 && now_readable > 0;
}

void Transfer::end(State state) {
  std::uint64_t word = progress_;
  do {
    if (unpack(word).state != State::kRunning) return;
  } while (
      !progress_.compare_exchange_weak(word, pack({state == State::kWhole ? size_ : unpack(word).readable, state})));
  wake();
}

bool Transfer::is_worth_gathering(std::uint64_t slice) const {
  if (woken_ < kCrowd || slice < kFastSliceBytes) return false;
  return progress().readable - readable_when_woken_ < std::min(kGatheredBytes, kGatheredForAllBytes / woken_);
}

// Nobody waits for more than two turns of the loop after the last slice: an idle loop's turn takes a microsecond, and
// in a busy one the writer has its own meanwhile.
void Transfer::gather() {
  if (is_gathering_) return;
  Loop* const loop = Loop::current_or_null();
  if (loop == nullptr) return wake();
  is_gathering_ = true;
  loop->post([self = shared_from_this(), seen = progress().readable] { self->look_after_gathering(seen, true); });
}

// The first look comes before the writer's next turn.
void Transfer::look_after_gathering(std::uint64_t seen, bool is_first) {
  const Progress now = progress();
  is_gathering_ = false;
  if (now.readable == readable_when_woken_ || now.state != State::kRunning) return;
  if (!is_first && now.readable == seen) return wake();
  is_gathering_ = true;
  Loop::current().post([self = shared_from_this(), now] { self->look_after_gathering(now.readable, false); });
}

// No wake-up is lost: a follower looks at the progress under the mutex before it is among those that sleep. Either that
// was before this, and it is found here, or after, and then it saw the progress that was written before.
void Transfer::wake() {
  const std::lock_guard lock(mutex_);
  const Progress now = progress();
  std::size_t woken = 0;
  for (auto it = sleeping_.begin(); it != sleeping_.end();) {
    Follower& follower = *it++;
    if (!follower.is_concerned_by(now)) continue;
    follower.unlink();
    follower.signal_->raise(Wake::kProgress);
    ++woken;
  }
  if (now.state != State::kRunning) return;  // perhaps on another thread than the writer's, whose the next two are
  readable_when_woken_ = now.readable;
  woken_ = woken;
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
