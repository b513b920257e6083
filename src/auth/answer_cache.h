// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <list>
#include <map>

#include "auth/authenticator.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/sha256.h"

namespace sluice::auth {

/// Answers of a homeserver, each until a time of its own; of the rest, the least recently used gives way.
/// One thread at a time: the owner locks.
class AnswerCache {
 public:
  using Key = Sha256Digest;
  using Answer = Result<Requester>;

  explicit AnswerCache(std::size_t max_entries) : max_entries_(max_entries) {}

  /// The answer kept under `key` that is still good at `now`, or null. Stays valid until the next call.
  const Answer* find(const Key& key, SteadyTime now);
  /// Keeps `answer` for as long as it is before `good_until`, in place of what was kept under `key`.
  void keep(const Key& key, Answer answer, SteadyTime good_until);

  std::size_t size() const { return by_key_.size(); }

 private:
  struct Entry {
    Key key;
    Answer answer;
    SteadyTime good_until;
  };
  using Entries = std::list<Entry>;

  void drop(Entries::iterator entry);

  const std::size_t max_entries_;
  Entries entries_;  // the most recently used first
  // A tree, not a hash table: whoever can choose tokens could choose digests that fall into one bucket.
  std::map<Key, Entries::iterator> by_key_;
};

}  // namespace sluice::auth
