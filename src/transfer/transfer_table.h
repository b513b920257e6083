// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "base/mxc.h"
#include "transfer/transfer.h"

namespace sluice::transfer {

/// The transfers that run, each under the media id it fills: at most one per id. From any thread.
///
/// Every download that is not hot asks `find`, and mostly for what has rested for long: then it takes no lock. What
/// `begin` and `end` have done is seen by each `find` that comes later in the one order of all sequentially consistent
/// operations, so the protocols that say "first the table, then the catalog" may rely on it as on a lock.
class TransferTable {
 public:
  /// True, and the id is taken, unless another transfer holds it or the id is closed.
  bool begin(const Mxc& mxc, std::shared_ptr<Transfer> transfer);
  std::shared_ptr<Transfer> find(const Mxc& mxc) const;
  /// Gives the id back. Requires that `begin` took it.
  void end(const Mxc& mxc);
  std::size_t size() const { return size_; }

  /// Breaks the id's transfer off, if one runs, and lets none begin until `reopen` was called as often.
  void close(const Mxc& mxc);
  void reopen(const Mxc& mxc);

 private:
  // So many that a few running uploads leave most shards empty, and a find in an empty shard takes no lock.
  static constexpr std::size_t kShards = 64;

  // A cache line of its own, so that a transfer that begins does not slow down who looks elsewhere.
  struct alignas(64) Shard {
    mutable std::mutex mutex;
    std::unordered_map<Mxc, std::shared_ptr<Transfer>> transfers;
    std::unordered_map<Mxc, std::size_t> closed;  // how often
    // How many it holds; changed under the mutex, read without.
    std::atomic<std::size_t> size{0};
  };

  Shard& shard_of(const Mxc& mxc) { return shards_[std::hash<Mxc>{}(mxc) % kShards]; }
  const Shard& shard_of(const Mxc& mxc) const { return shards_[std::hash<Mxc>{}(mxc) % kShards]; }

  std::array<Shard, kShards> shards_;
  std::atomic<std::size_t> size_{0};  // of all shards
};

/// An id that is closed while this lives.
class ClosedId {
 public:
  ClosedId(TransferTable& table, Mxc mxc) : table_(table), mxc_(std::move(mxc)) { table_.close(mxc_); }
  ClosedId(const ClosedId&) = delete;
  ClosedId& operator=(const ClosedId&) = delete;
  ~ClosedId() { table_.reopen(mxc_); }

 private:
  TransferTable& table_;
  const Mxc mxc_;
};

}  // namespace sluice::transfer
