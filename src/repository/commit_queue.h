// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exception>
#include <functional>
#include <optional>
#include <type_traits>
#include <utility>

#include "base/error.h"
#include "catalog/catalog.h"
#include "runtime/group_pool.h"
#include "runtime/task.h"

namespace sluice::repository {

/// The one thread that changes the catalog. Changes that come while a commit is under way share the next one, so a
/// hundred at once cost about two fsyncs, not a hundred; one that comes alone is not kept waiting. `catalog` must
/// outlive the queue.
class CommitQueue {
 public:
  explicit CommitQueue(catalog::Catalog& catalog);

  /// Runs `work`, which makes one change and returns a Result, on that thread; yields what it returned once it is on
  /// stable storage, or the error of the commit. Throws what it throws. On a loop.
  template <class Work>
  Task<std::invoke_result_t<Work&>> run(Work work);

 private:
  // What one commit may hold. 250 random rows of a large catalog are some 3 MB of changed pages and 5 ms of work.
  static constexpr std::size_t kMaxGroup = 256;

  struct Change {
    std::function<void()> make;  // must not throw
    Result<> committed;
  };

  GroupPool<Change> pool_;
};

template <class Work>
Task<std::invoke_result_t<Work&>> CommitQueue::run(Work work) {
  std::optional<std::invoke_result_t<Work&>> outcome;
  std::exception_ptr exception;
  Change change{[&] {
                  try {
                    outcome.emplace(work());
                  } catch (...) {
                    exception = std::current_exception();
                  }
                },
                {}};
  co_await pool_.run(change);
  if (exception) std::rethrow_exception(exception);
  if (!change.committed) co_return std::unexpected(change.committed.error());
  co_return *std::move(outcome);
}

}  // namespace sluice::repository
