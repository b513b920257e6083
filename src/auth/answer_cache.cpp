// SPDX-License-Identifier: Apache-2.0
#include "auth/answer_cache.h"

#include <iterator>
#include <utility>

namespace sluice::auth {

const AnswerCache::Answer* AnswerCache::find(const Key& key, SteadyTime now) {
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return nullptr;
  const Entries::iterator entry = found->second;
  if (now >= entry->good_until) {
    drop(entry);
    return nullptr;
  }
  entries_.splice(entries_.begin(), entries_, entry);
  return &entry->answer;
}

void AnswerCache::keep(const Key& key, Answer answer, SteadyTime good_until) {
  if (max_entries_ == 0) return;
  if (const auto found = by_key_.find(key); found != by_key_.end()) {
    drop(found->second);
  } else if (entries_.size() == max_entries_) {
    drop(std::prev(entries_.end()));
  }
  entries_.push_front({key, std::move(answer), good_until});
  by_key_.emplace(key, entries_.begin());
}

void AnswerCache::drop(Entries::iterator entry) {
  by_key_.erase(entry->key);
  entries_.erase(entry);
}

}  // namespace sluice::auth
