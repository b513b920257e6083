// SPDX-License-Identifier: Apache-2.0
#include "repository/stored_cache.h"

#include <cassert>
#include <iterator>
#include <set>
#include <utility>

namespace sluice::repository {

StoredCache::StoredCache(std::size_t max_files, std::size_t max_records)
    : max_open_in_shard_(max_files / kShards), max_records_in_shard_(max_records / kShards) {}

std::shared_ptr<const StoredFile> StoredCache::find(const Mxc& mxc) {
  Shard& shard = shard_of(mxc);
  const std::lock_guard lock(shard.mutex);
  const auto found = shard.by_id.find(mxc);
  if (found == shard.by_id.end()) return nullptr;
  Entries& entries = (*found->second)->file ? shard.open : shard.records;
  entries.splice(entries.begin(), entries, found->second);
  return *found->second;
}

StoredCache::Moment StoredCache::now(const Mxc& mxc) const {
  const Shard& shard = shard_of(mxc);
  const std::lock_guard lock(shard.mutex);
  return shard.forgotten;
}

void StoredCache::keep(std::shared_ptr<const StoredFile> stored, Moment looked_up_at) {
  assert(stored->file);
  const Mxc& mxc = stored->media.mxc;
  Entries give_way;  // destroyed after the lock: that may close a file
  Shard& shard = shard_of(mxc);
  const std::lock_guard lock(shard.mutex);
  if (max_open_in_shard_ == 0 || shard.forgotten != looked_up_at) return;
  const auto [place, is_new] = shard.by_id.try_emplace(mxc);
  if (!is_new) {
    if ((*place->second)->file) return;
    give_way.splice(give_way.end(), shard.records, place->second);
  }
  shard.open.push_front(std::move(stored));
  place->second = shard.open.begin();

  if (shard.open.size() <= max_open_in_shard_) return;
  const auto last = std::prev(shard.open.end());
  give_way.push_back(*last);
  shard.records.splice(shard.records.begin(), shard.open, last);
  *last = std::make_shared<const StoredFile>((*last)->media, nullptr);
  if (shard.records.size() <= max_records_in_shard_) return;
  shard.by_id.erase(shard.records.back()->media.mxc);
  give_way.splice(give_way.end(), shard.records, std::prev(shard.records.end()));
}

void StoredCache::forget(const Mxc& mxc) {
  Shard& shard = shard_of(mxc);
  const std::lock_guard lock(shard.mutex);
  ++shard.forgotten;
  const auto found = shard.by_id.find(mxc);
  if (found == shard.by_id.end()) return;
  ((*found->second)->file ? shard.open : shard.records).erase(found->second);
  shard.by_id.erase(found);
}

void StoredCache::forget_contents(std::span<const Sha256Digest> contents) {
  const std::set<Sha256Digest> forgotten(contents.begin(), contents.end());
  for (Shard& shard : shards_) {
    Entries gone;  // destroyed after the lock, as above
    const std::lock_guard lock(shard.mutex);
    ++shard.forgotten;
    for (Entries* const entries : {&shard.open, &shard.records}) {
      for (auto it = entries->begin(); it != entries->end();) {
        const auto entry = it++;
        if (!forgotten.contains((*entry)->media.sha256)) continue;
        shard.by_id.erase((*entry)->media.mxc);
        gone.splice(gone.end(), *entries, entry);
      }
    }
  }
}

}  // namespace sluice::repository
