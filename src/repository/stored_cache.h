// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>

#include "base/file_system.h"
#include "base/mxc.h"
#include "catalog/catalog.h"

namespace sluice::repository {

/// A file at rest, with all that is known of it. Immutable.
struct StoredFile {
  catalog::StoredMedia media;
  std::shared_ptr<const FileDescriptor> file;  // in the cache alone: null when it is not open
};

/// The stored media that were downloaded last. A few have their files open, so that a hot download asks neither the
/// catalog nor the file system, and leaves its loop for nobody. Of many more the record is kept, which costs half a
/// kilobyte and no descriptor: to open a file is all that they need. The least recently used of a shard gives way,
/// first its file, then its record.
///
/// Exact: what is forgotten is not found again, not even if somebody had looked it up before and keeps it after. From
/// any thread; sharded by media id, so that loops seldom meet.
class StoredCache {
 public:
  StoredCache(std::size_t max_files, std::size_t max_records);

  /// Null when it is not here.
  std::shared_ptr<const StoredFile> find(const Mxc& mxc);

  /// Names a moment. Taken before something is looked up in the catalog, and given back when it is kept.
  using Moment = std::uint64_t;
  Moment now(const Mxc& mxc) const;
  /// Keeps it, with its file, unless something of its shard was forgotten since: then it may be what was looked up
  /// before that.
  void keep(std::shared_ptr<const StoredFile> stored, Moment looked_up_at);

  /// For media that are deleted or hidden; after the catalog knows.
  void forget(const Mxc& mxc);
  /// All that have one of these contents. Looks at everything that is kept.
  void forget_contents(std::span<const Sha256Digest> contents);

 private:
  static constexpr std::size_t kShards = 16;
  using Entries = std::list<std::shared_ptr<const StoredFile>>;
  struct alignas(64) Shard {
    mutable std::mutex mutex;
    Entries open;     // the most recently used first, as in the next
    Entries records;  // without their files
    std::unordered_map<Mxc, Entries::iterator> by_id;
    Moment forgotten = 0;  // how often something was
  };
  Shard& shard_of(const Mxc& mxc) { return shards_[std::hash<Mxc>{}(mxc) % kShards]; }
  const Shard& shard_of(const Mxc& mxc) const { return shards_[std::hash<Mxc>{}(mxc) % kShards]; }

  const std::size_t max_open_in_shard_;
  const std::size_t max_records_in_shard_;
  std::array<Shard, kShards> shards_;
};

}  // namespace sluice::repository
