// SPDX-License-Identifier: Apache-2.0
#include "transfer/transfer_table.h"

#include <cassert>
#include <utility>

namespace sluice::transfer {

bool TransferTable::begin(const Mxc& mxc, std::shared_ptr<Transfer> transfer) {
  const std::lock_guard lock(mutex_);
  return transfers_.try_emplace(mxc, std::move(transfer)).second;
}

std::shared_ptr<Transfer> TransferTable::find(const Mxc& mxc) const {
  const std::lock_guard lock(mutex_);
  const auto found = transfers_.find(mxc);
  return found == transfers_.end() ? nullptr : found->second;
}

void TransferTable::end(const Mxc& mxc) {
  const std::lock_guard lock(mutex_);
  [[maybe_unused]] const std::size_t erased = transfers_.erase(mxc);
  assert(erased == 1);
}

std::size_t TransferTable::size() const {
  const std::lock_guard lock(mutex_);
  return transfers_.size();
}

}  // namespace sluice::transfer
