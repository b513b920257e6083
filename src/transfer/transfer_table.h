// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "base/mxc.h"
#include "transfer/transfer.h"

namespace sluice::transfer {

/// The transfers that run, each under the media id it fills: at most one per id. From any thread.
class TransferTable {
 public:
  /// True, and the id is taken, unless another transfer holds it.
  bool begin(const Mxc& mxc, std::shared_ptr<Transfer> transfer);
  std::shared_ptr<Transfer> find(const Mxc& mxc) const;
  /// Gives the id back. Requires that `begin` took it.
  void end(const Mxc& mxc);
  std::size_t size() const;

 private:
  mutable std::mutex mutex_;
  std::unordered_map<Mxc, std::shared_ptr<Transfer>> transfers_;
};

}  // namespace sluice::transfer
