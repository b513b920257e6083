// SPDX-License-Identifier: Apache-2.0
#include "transfer/transfer_table.h"

#include <cassert>
#include <utility>

namespace sluice::transfer {

bool TransferTable::begin(const Mxc& mxc, std::shared_ptr<Transfer> transfer) {
  Shard& shard = shard_of(mxc);
  const std::lock_guard lock(shard.mutex);
  if (shard.closed.contains(mxc)) return false;
  if (!shard.transfers.try_emplace(mxc, std::move(transfer)).second) return false;
  // Before `begin` returns: whoever looks afterwards must not find the table empty.
  ++size_;
  ++shard.size;
  return true;
}

std::shared_ptr<Transfer> TransferTable::find(const Mxc& mxc) const {
  if (size_ == 0) return nullptr;
  const Shard& shard = shard_of(mxc);
  if (shard.size == 0) return nullptr;
  const std::lock_guard lock(shard.mutex);
  const auto found = shard.transfers.find(mxc);
  return found == shard.transfers.end() ? nullptr : found->second;
}

void TransferTable::end(const Mxc& mxc) {
  Shard& shard = shard_of(mxc);
  const std::lock_guard lock(shard.mutex);
  [[maybe_unused]] const std::size_t erased = shard.transfers.erase(mxc);
  assert(erased == 1);
  --shard.size;
  --size_;
}

void TransferTable::close(const Mxc& mxc) {
  Shard& shard = shard_of(mxc);
  std::shared_ptr<Transfer> running;
  {
    const std::lock_guard lock(shard.mutex);
    ++shard.closed[mxc];
    if (const auto found = shard.transfers.find(mxc); found != shard.transfers.end()) running = found->second;
  }
  if (running) running->break_off();
}

void TransferTable::reopen(const Mxc& mxc) {
  Shard& shard = shard_of(mxc);
  const std::lock_guard lock(shard.mutex);
  const auto found = shard.closed.find(mxc);
  if (--found->second == 0) shard.closed.erase(found);
}

}  // namespace sluice::transfer
