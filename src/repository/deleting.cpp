// SPDX-License-Identifier: Apache-2.0
#include <optional>
#include <utility>

#include "repository/repository.h"

namespace sluice::repository {
namespace {

Result<> check_may_remove(const catalog::Record& record, const auth::Requester& requester, WallTime now) {
  const bool is_pending = record.reservation && !record.reservation->is_expired(now);
  const bool is_hidden = record.is_quarantined && !requester.admin;
  if ((!record.stored && !is_pending) || is_hidden) return fail::not_found("Unknown media ID");
  const std::string& owner = record.stored ? record.stored->user : record.reservation->user;
  if (owner != requester.user && !requester.admin) return fail::forbidden("This media ID belongs to another user");
  return {};
}

}  // namespace

// The id is closed first. So an upload that has it is broken off, and finds itself broken when it comes to the thread
// that changes the catalog; or it was there before, and then its row is what is removed. No other can take the id
// before the catalog has forgotten it, and after that it is unknown. This is also why an id that was deleted needs no
// tombstone.
Task<Result<>> Repository::remove(auth::Requester requester, Mxc mxc) {
  if (!is_local(mxc.server_name())) co_return fail::not_found("Unknown media ID");
  std::optional<transfer::ClosedId> closed;
  for (;;) {
    const Result<catalog::Record> found = co_await look_pool_.run([&] { return catalog_.find(mxc); });
    if (!found) co_return std::unexpected(found.error());
    if (Result<> check = check_may_remove(*found, requester, clock_.now()); !check) co_return check;
    if (!closed) closed.emplace(transfers_, mxc);

    std::unique_ptr<blobs::SpoolFile> removal;
    if (found->stored) {
      auto begun = co_await disk_pool_.run([&] { return blobs_.begin_removal(found->stored->sha256); });
      if (!begun) co_return std::unexpected(begun.error());
      removal = *std::move(begun);
    }
    const Result<bool> removed = co_await commits_.run([&] { return catalog_.remove(*found); });
    stored_cache_.forget(
        mxc);  // also after a failure, which may be on disk after all: the next start's sweep finds out
    const bool is_certain = removed || catalog::has_certainly_not_committed(removed.error());
    if (removal && is_certain) {
      blobs_.finish_removal(*removal);
      tidier_.note();
    }
    if (!removed) co_return std::unexpected(removed.error());
    if (*removed) break;
    // It was filled, or removed by somebody else, since we looked.
  }
  closed.reset();
  waiting_room_.announce(mxc);
  co_return Result<>();
}

}  // namespace sluice::repository
