// SPDX-License-Identifier: Apache-2.0
#include "repository/upload.h"

#include <fmt/format.h>

#include <utility>

#include "base/units.h"
#include "repository/repository.h"

namespace sluice::repository {
namespace {

// How much of a large upload may wait for the disk: it writes while more is received, and the fsync at the end has
// little left to do.
constexpr std::uint64_t kBeginSyncBytes = 8 * 1024 * 1024;

// From here on another thread hashes, if there is another processor.
constexpr std::uint64_t kFollowFromBytes = 1024 * 1024;

Failure was_deleted() { return fail::not_found("This media ID was deleted"); }

}  // namespace

Upload::Upload(Repository& repository, catalog::StoredMedia media, WallTime expires_at, std::uint64_t max_size,
               std::optional<std::uint64_t> content_length, std::unique_ptr<blobs::SpoolFile> spool)
    : repository_(repository),
      media_(std::move(media)),
      expires_at_(expires_at),
      max_size_(max_size),
      spool_(std::move(spool)),
      transfer_(std::make_shared<transfer::Transfer>(
          transfer::Description{media_.content_type, media_.filename, content_length, media_.attempt},
          spool_ ? spool_->descriptor() : nullptr)) {
  ++repository_.running_uploads_;
}

Upload::~Upload() {
  // The id first: who sees the transfer broken must find the id free.
  if (holds_id_) repository_.transfers_.end(media_.mxc);
  transfer_->break_off();
  // Nothing to read; but if the id expired meanwhile, those who wait for it need not go on.
  if (holds_id_ && repository_.clock_.now() >= expires_at_) repository_.waiting_room_.announce(media_.mxc);
  --repository_.running_uploads_;
  if (following_) following_->abandon();
  if (spool_) repository_.disk_pool_.submit([spool = std::move(spool_)]() mutable { spool.reset(); });
}

bool Upload::take_id() { return holds_id_ = repository_.transfers_.begin(media_.mxc, transfer_); }

Result<> Upload::write(std::span<const std::byte> data) {
  if (is_broken()) return was_deleted();
  if (share_) {
    if (Result<> grown = share_->grow(data.size()); !grown) return grown;
  }
  if (data.size() > max_size_ - media_.size) {
    return fail::too_large(fmt::format("Cannot upload files larger than {}", describe_byte_size(max_size_)));
  }
  if (!spool_) {
    if (may_hold(media_.size + data.size())) {
      held_.insert(held_.end(), data.begin(), data.end());
      media_.size += data.size();
      hasher_.update(data);
      return {};
    }
    if (Result<> spooled = spool_what_is_held(); !spooled) return spooled;
  }
  if (Result<> written = repository_.blobs_.write_at(*spool_, data, media_.size); !written) return written;
  media_.size += data.size();
  // Readers first: they have the bytes while we still hash them.
  if (transfer_->advance(media_.size)) repository_.waiting_room_.announce(media_.mxc);
  hash(data);
  if (media_.size - begun_to_sync_ >= kBeginSyncBytes) {
    begun_to_sync_ = media_.size;
    repository_.disk_pool_.submit(
        [&blobs = repository_.blobs_, file = spool_->descriptor()] { blobs.begin_sync(*file); });
  }
  return {};
}

void Upload::hash(std::span<const std::byte> data) {
  if (following_) return following_->advance(media_.size);
  hasher_.update(data);
  if (media_.size < kFollowFromBytes || !repository_.hash_pool_) return;
  following_ =
      std::make_shared<FollowingHasher>(std::move(hasher_), media_.size, spool_->descriptor(), *repository_.hash_pool_);
}

Task<Result<>> Upload::finish_hash() {
  if (!following_) {
    media_.sha256 = hasher_.finish();
    co_return Result<>();
  }
  // Not on the threads that follow: they are busy with what still runs.
  const Result<Sha256Digest> digest =
      co_await repository_.disk_pool_.run([this] { return following_->finish(media_.size); });
  if (!digest) co_return std::unexpected(digest.error());
  media_.sha256 = *digest;
  co_return Result<>();
}

bool Upload::is_broken() const { return transfer_->progress().state == transfer::State::kBroken; }

bool Upload::may_hold(std::uint64_t size) const {
  const std::uint64_t declared = *transfer_->description().size;
  return size == declared || (size < declared && !holds_id_);
}

// On the loop, as writing is; for small files only that come in pieces, to an id that may be read meanwhile.
Result<> Upload::spool_what_is_held() {
  Result<std::unique_ptr<blobs::SpoolFile>> spool = repository_.blobs_.create_spool();
  if (!spool) return std::unexpected(spool.error());
  if (!held_.empty()) {
    if (Result<> written = repository_.blobs_.write_at(**spool, held_, 0); !written) return written;
  }
  spool_ = *std::move(spool);
  held_ = {};
  transfer_->set_file(spool_->descriptor());
  return {};
}

Task<Result<>> Upload::publish() {
  if (media_.size > Repository::kMaxGroupedBytes) {
    co_return co_await repository_.disk_pool_.run(
        [this] { return repository_.blobs_.publish(*spool_, media_.sha256); });
  }
  blobs::Publication publication{spool_.get(), media_.sha256};
  co_await repository_.publish_pool_.run(publication);
  co_return publication.outcome;
}

// All who wait for it come when it is announced, and find it without asking the catalog.
Task<> Upload::keep_at_hand(StoredCache::Moment moment) {
  // Of the blob, not of the spool file: equal content may have been there, and the spool file's name goes.
  auto file = co_await repository_.look_pool_.run([this] { return repository_.blobs_.open(media_.sha256); });
  if (!file || file_size(**file) != media_.size) co_return;
  repository_.stored_cache_.keep(std::make_shared<const StoredFile>(media_, *std::move(file)), moment);
}

Task<Result<>> Upload::seal() {
  if (Result<> hashed = co_await finish_hash(); !hashed) co_return hashed;
  const bool was_held = !spool_;
  if (was_held) spool_ = repository_.blobs_.hold(std::move(held_));
  Result<> published = co_await publish();
  if (!published) co_return published;
  const StoredCache::Moment moment = repository_.stored_cache_.now(media_.mxc);
  Result<> stored = co_await repository_.commits_.run([this]() -> Result<> {
    if (is_broken()) return was_deleted();
    media_.stored_at = repository_.clock_.now();
    return repository_.catalog_.store(media_, share_ ? share_->allowance() : catalog::Allowance());
  });
  if (!stored) {
    // What was refused, and a catalog that was full, has certainly not committed; whatever else failed is left to the
    // next start's sweep.
    if (catalog::has_certainly_not_committed(stored.error())) {
      co_await repository_.disk_pool_.run([this] {
        repository_.blobs_.discard(*spool_, repository_.refers_to_);
        return true;
      });
    }
    co_return stored;
  }
  share_.reset();  // counted by the catalog from now on, and before the uploader hears of it
  // What was held has no file to follow: everybody finds it stored.
  if (!was_held) transfer_->finish_whole();
  if (repository_.waiting_room_.waiting() > 0) co_await keep_at_hand(moment);
  if (std::exchange(holds_id_, false)) repository_.transfers_.end(media_.mxc);
  repository_.waiting_room_.announce(media_.mxc);
  repository_.blobs_.settle(*spool_);
  if (was_held) spool_.reset();  // nothing of it is left to remove or to close
  repository_.tidier_.note();
  repository_.prepare_thumbnails(media_.sha256);
  co_return Result<>();
}

}  // namespace sluice::repository
