// SPDX-License-Identifier: Apache-2.0
#include "repository/following_hasher.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <span>
#include <utility>
#include <vector>

namespace sluice::repository {

FollowingHasher::FollowingHasher(Sha256Hasher begun, std::uint64_t hashed, std::shared_ptr<const FileDescriptor> file,
                                 BlockingPool& pool)
    : file_(std::move(file)), pool_(pool), size_(hashed), hasher_(std::move(begun)), hashed_(hashed) {}

void FollowingHasher::advance(std::uint64_t size) {
  size_ = size;
  if (size > kMaxLagBytes) hash_until(size - kMaxLagBytes);
  follow_if_behind();
}

Result<Sha256Digest> FollowingHasher::finish(std::uint64_t size) {
  hash_until(size);
  const std::lock_guard lock(mutex_);
  if (failure_) return fail::from_system(failure_, "Reading a file");
  return hasher_.finish();
}

// A turn at a time: there are fewer threads than uploads.
void FollowingHasher::catch_up() {
  for (int pieces = 0; pieces < kPiecesInTurn && is_wanted(); ++pieces) hash_until(hashed_ + kPieceBytes);
  is_following_ = false;
  // The writer may have gone on since the look and before this, and have woken nobody.
  follow_if_behind();
}

void FollowingHasher::follow_if_behind() {
  if (is_wanted() && !is_following_.exchange(true)) pool_.submit([self = shared_from_this()] { self->catch_up(); });
}

// Whoever comes takes the next piece, so writer and follower may be here at once.
void FollowingHasher::hash_until(std::uint64_t size) {
  thread_local std::vector<std::byte> piece(kPieceBytes);
  while (hashed_ < size) {
    const std::lock_guard lock(mutex_);
    const std::uint64_t from = hashed_;
    if (from >= size) return;
    const auto wanted = static_cast<std::size_t>(std::min(size - from, kPieceBytes));
    const ssize_t got = failure_ ? -1 : ::pread(file_->get(), piece.data(), wanted, static_cast<off_t>(from));
    if (got > 0) {
      hasher_.update(std::span(piece).first(static_cast<std::size_t>(got)));
      hashed_ = from + static_cast<std::uint64_t>(got);
      continue;
    }
    if (got < 0 && !failure_ && errno == EINTR) continue;
    // A file that is shorter than what was written to it is broken, too.
    if (!failure_) failure_ = std::error_code(got < 0 ? errno : EIO, std::generic_category());
    hashed_ = size;
  }
}

}  // namespace sluice::repository
