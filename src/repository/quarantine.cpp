// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>

#include "repository/repository.h"

namespace sluice::repository {
namespace {

constexpr std::size_t kBatch = 100;  // of a user's media, for one change of the catalog, so that others wait briefly

}  // namespace

Task<Result<std::size_t>> Repository::set_visibility(std::vector<Sha256Digest> contents, Visibility visibility) {
  Result<std::size_t> changed = co_await commits_.run(
      [&] { return visibility == Visibility::kHidden ? catalog_.quarantine(contents) : catalog_.release(contents); });
  // Also after a failure: what failed may be on disk after all.
  if (visibility == Visibility::kHidden) stored_cache_.forget_contents(contents);
  co_return changed;
}

Task<Result<std::size_t>> Repository::set_visibility(Mxc mxc, Visibility visibility) {
  const Result<catalog::Record> found = co_await look_pool_.run([&] { return catalog_.find(mxc); });
  if (!found) co_return std::unexpected(found.error());
  if (!found->stored) co_return fail::not_found("Nothing is stored under this media ID");
  co_return co_await set_visibility(std::vector{found->stored->sha256}, visibility);
}

Task<Result<std::size_t>> Repository::set_visibility_of_user(std::string user, Visibility visibility) {
  const WallTime began = clock_.now();
  std::optional<catalog::StoredMedia> last;
  std::size_t changed = 0;
  for (;;) {
    const auto page = co_await look_pool_.run([&] { return catalog_.stored_by(user, last, kBatch); });
    if (!page) co_return std::unexpected(page.error());
    std::vector<Sha256Digest> contents;
    for (const catalog::StoredMedia& media : *page) {
      if (media.stored_at <= began) contents.push_back(media.sha256);
    }
    const Result<std::size_t> batch = co_await set_visibility(contents, visibility);
    if (!batch) co_return batch;
    changed += *batch;
    if (contents.size() < kBatch) co_return changed;
    last = page->back();
  }
}

}  // namespace sluice::repository
