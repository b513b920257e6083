// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <iterator>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "base/sha256.h"

namespace sluice::thumbnails {

/// The values that were used last, at most so many; the least recently used of a shard gives way. Keys are pairs of a
/// content's digest and more, and sharded by the former. From any thread.
template <class Key, class Value>
class Recent {
 public:
  explicit Recent(std::size_t max_entries) : max_in_shard_(max_entries / kShards) {}

  std::optional<Value> find(const Key& key) {
    Shard& shard = shard_of(key.first);
    const std::lock_guard lock(shard.mutex);
    const auto found = shard.by_key.find(key);
    if (found == shard.by_key.end()) return std::nullopt;
    shard.entries.splice(shard.entries.begin(), shard.entries, found->second);
    return found->second->second;
  }

  void keep(const Key& key, Value value) {
    std::list<Entry> gives_way;  // destroyed after the lock: that may close a file
    Shard& shard = shard_of(key.first);
    const std::lock_guard lock(shard.mutex);
    if (max_in_shard_ == 0 || shard.by_key.contains(key)) return;
    if (shard.entries.size() >= max_in_shard_) {
      shard.by_key.erase(shard.entries.back().first);
      gives_way.splice(gives_way.begin(), shard.entries, std::prev(shard.entries.end()));
    }
    shard.entries.emplace_front(key, std::move(value));
    shard.by_key.emplace(key, shard.entries.begin());
  }

  /// All of one content.
  void forget(const Sha256Digest& content) {
    std::list<Entry> gone;
    Shard& shard = shard_of(content);
    const std::lock_guard lock(shard.mutex);
    for (auto at = shard.by_key.lower_bound({content, {}}); at != shard.by_key.end() && at->first.first == content;) {
      gone.splice(gone.begin(), shard.entries, at->second);
      at = shard.by_key.erase(at);
    }
  }

 private:
  static constexpr std::size_t kShards = 16;
  using Entry = std::pair<Key, Value>;
  struct alignas(64) Shard {
    std::mutex mutex;
    std::list<Entry> entries;  // the most recently used first
    std::map<Key, typename std::list<Entry>::iterator> by_key;
  };
  Shard& shard_of(const Sha256Digest& content) {
    return shards_[std::to_integer<std::size_t>(content.bytes.front()) % kShards];
  }

  const std::size_t max_in_shard_;
  std::array<Shard, kShards> shards_;
};

}  // namespace sluice::thumbnails
