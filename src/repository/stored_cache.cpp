// SPDX-License-Identifier: Apache-2.0
#include "repository/stored_cache.h"

#include <algorithm>
#include <set>
#include <utility>

namespace sluice::repository {

StoredCache::StoredCache(std::size_t max_files) : max_in_shard_(max_files / kShards) {}

std::shared_ptr<const StoredFile> StoredCache::find(const Mxc& mxc) {
  Shard& shard = shard_of(mxc);
  const std::lock_guard lock(shard.mutex);
  const auto found = shard.by_id.find(mxc);
  if (found == shard.by_id.end()) return nullptr;
  shard.entries.splice(shard.entries.begin(), shard.entries, found->second);
  return *found->second;
}

StoredCache::Moment StoredCache::now(const Mxc& mxc) const {
  const Shard& shard = shard_of(mxc);
  const std::lock_guard lock(shard.mutex);
  return shard.forgotten;
}

void StoredCache::keep(std::shared_ptr<const StoredFile> stored, Moment looked_up_at) {
  const Mxc& mxc = stored->media.mxc;
  std::shared_ptr<const StoredFile> gives_way;  // destroyed after the lock: that may close a file
  Shard& shard = shard_of(mxc);
  const std::lock_guard lock(shard.mutex);
  if (max_in_shard_ == 0 || shard.forgotten != looked_up_at || shard.by_id.contains(mxc)) return;
  if (shard.entries.size() >= max_in_shard_) {
    gives_way = std::move(shard.entries.back());
    shard.by_id.erase(gives_way->media.mxc);
    shard.entries.pop_back();
  }
  shard.entries.push_front(std::move(stored));
  shard.by_id.emplace(shard.entries.front()->media.mxc, shard.entries.begin());
}

void StoredCache::forget(const Mxc& mxc) {
  Shard& shard = shard_of(mxc);
  const std::lock_guard lock(shard.mutex);
  ++shard.forgotten;
  const auto found = shard.by_id.find(mxc);
  if (found == shard.by_id.end()) return;
  shard.entries.erase(found->second);
  shard.by_id.erase(found);
}

void StoredCache::forget_contents(std::span<const Sha256Digest> contents) {
  const std::set<Sha256Digest> forgotten(contents.begin(), contents.end());
  for (Shard& shard : shards_) {
    Entries gone;  // destroyed after the lock, as above
    const std::lock_guard lock(shard.mutex);
    ++shard.forgotten;
    for (auto it = shard.entries.begin(); it != shard.entries.end();) {
      const auto entry = it++;
      if (!forgotten.contains((*entry)->media.sha256)) continue;
      shard.by_id.erase((*entry)->media.mxc);
      gone.splice(gone.end(), shard.entries, entry);
    }
  }
}

}  // namespace sluice::repository
