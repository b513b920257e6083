// SPDX-License-Identifier: Apache-2.0
#include "repository/commit_queue.h"

#include <span>

namespace sluice::repository {

CommitQueue::CommitQueue(catalog::Catalog& catalog)
    : pool_("sluice-catalog", 1, kMaxGroup, [&catalog](std::span<Change* const> group) {
        const Result<> committed = catalog.in_one_transaction([group] {
          for (Change* change : group) change->make();
        });
        for (Change* change : group) change->committed = committed;
      }) {}

}  // namespace sluice::repository
