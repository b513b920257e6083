// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/mxc.h"
#include "base/sha256.h"
#include "blobs/blob_store.h"
#include "catalog/catalog.h"
#include "repository/following_hasher.h"
#include "repository/quota.h"
#include "repository/stored_cache.h"
#include "runtime/task.h"
#include "transfer/transfer.h"

namespace sluice::repository {

class Repository;

struct UploadRequest {
  std::string server_name;
  std::string media_id;                         // empty: a new id is made, and shown when the upload is sealed
  std::string content_type;                     // empty: what the reservation says, else application/octet-stream
  std::string filename;                         // empty: what the reservation says, if anything
  std::optional<std::uint64_t> content_length;  // nothing: unknown until the end
};

/// One attempt to fill a media id. Bytes are written, shown to followers and hashed as they come. Destroying it
/// unsealed breaks it off: followers see a broken transfer, the id is free for another attempt, no file stays. Lives on
/// one loop.
///
/// A small one is held in memory until it is sealed, when nobody can read it before: because nobody knows its id yet,
/// or because it has come at once.
class Upload {
 public:
  /// The most that is held; with `Limits::max_running_uploads`, 64 MiB in all.
  static constexpr std::uint64_t kMaxHeldBytes = 64 * 1024;
  /// The most that is held for an id that is known: what can come in one read with the request's head. A larger one
  /// comes in pieces and needs a file at once, which is better made before.
  static constexpr std::uint64_t kMaxHeldAtOnceBytes = 16 * 1024;

  /// `spool` is null for one that may be held, whose length is declared.
  Upload(Repository& repository, catalog::StoredMedia media, WallTime expires_at, std::uint64_t max_size,
         std::optional<std::uint64_t> content_length, std::unique_ptr<blobs::SpoolFile> spool);
  ~Upload();
  Upload(const Upload&) = delete;
  Upload& operator=(const Upload&) = delete;

  const Mxc& mxc() const { return media_.mxc; }

  /// Appends. 413 M_TOO_LARGE once the whole exceeds the limit, 403 once it exceeds what its user may store; 404 once
  /// the id was deleted; 507 or 500 when the disk fails.
  Result<> write(std::span<const std::byte> data);

  /// Returns when bytes and metadata are on stable storage: from then on the upload may be acknowledged. Called once.
  /// 403 when the content is quarantined; 403 or 429 when its user has no room for it any more; 404 when the id was
  /// deleted. Nothing of it is kept then.
  Task<Result<>> seal();

 private:
  friend class Repository;

  bool take_id();
  bool is_broken() const;  // the id was deleted
  bool may_hold(std::uint64_t size) const;
  void hash(std::span<const std::byte> data);
  Task<Result<>> finish_hash();
  Result<> spool_what_is_held();
  Task<Result<>> publish();
  Task<> keep_at_hand(StoredCache::Moment moment);

  Repository& repository_;
  catalog::StoredMedia media_;
  const WallTime expires_at_;                // of the reservation that it fills
  const std::uint64_t max_size_;             // as it was when it began
  std::unique_ptr<blobs::SpoolFile> spool_;  // null while it is held
  std::vector<std::byte> held_;
  const std::shared_ptr<transfer::Transfer> transfer_;
  Sha256Hasher hasher_;                         // of the first bytes, or of all
  std::shared_ptr<FollowingHasher> following_;  // null while it is small, or where there is one processor
  std::uint64_t begun_to_sync_ = 0;             // the bytes that the disk was told to write
  bool holds_id_ = false;
  std::unique_ptr<Quotas::Share> share_;  // null: its user may store any amount
};

}  // namespace sluice::repository
