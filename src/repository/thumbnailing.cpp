// SPDX-License-Identifier: Apache-2.0
#include <utility>
#include <variant>

#include "repository/repository.h"
#include "thumbnails/size.h"

namespace sluice::repository {
namespace {

Failure none_are_made() { return fail::with(400, "M_UNKNOWN", "Thumbnails are not made here"); }

}  // namespace

std::optional<FoundThumbnail> Repository::open_hot_thumbnail(const DownloadRequest& request,
                                                             const thumbnails::Variant& asked) {
  if (thumbnails_ == nullptr) return std::nullopt;
  Download::Stored source = open_hot(request);
  if (!source) return std::nullopt;
  const thumbnails::Variant variant = smallest_variant(asked);
  auto thumbnail = thumbnails_->find_hot(source->media.sha256, variant);
  if (!thumbnail) return std::nullopt;
  return FoundThumbnail{std::move(source), variant, std::move(thumbnail)};
}

Task<Result<FoundThumbnail>> Repository::open_thumbnail(const DownloadRequest& request,
                                                        const thumbnails::Variant& asked, Caller& caller,
                                                        WaitReport& report) {
  if (thumbnails_ == nullptr) co_return none_are_made();
  const thumbnails::Variant variant = smallest_variant(asked);
  DownloadRequest whole = request;
  whole.whole = true;
  Result<Download> opened = co_await open(whole, caller, report);
  if (!opened) co_return std::unexpected(opened.error());
  Download::Stored source = std::get<Download::Stored>(std::move(opened->content));
  const Sha256Digest& sha256 = source->media.sha256;

  thumbnails::Thumbnails::Made thumbnail = thumbnails_->find_hot(sha256, variant);
  if (!thumbnail) {
    auto found = co_await look_pool_.run([&] { return thumbnails_->find(sha256, variant); });
    if (!found) co_return std::unexpected(found.error());
    thumbnail = *std::move(found);
  }
  if (!thumbnail) {
    auto made = co_await thumbnails_->make({sha256, source->file}, variant);
    if (!made) co_return std::unexpected(made.error());
    thumbnail = *std::move(made);
    // That took a while, in which the content may have been deleted or frozen.
    WaitReport second;
    whole.give_up_at = clock_.steady();
    opened = co_await open(whole, caller, second);
    if (!opened) co_return std::unexpected(opened.error());
  }
  co_return FoundThumbnail{std::move(source), variant, std::move(thumbnail)};
}

Task<Result<thumbnails::Description>> Repository::describe(Mxc mxc) {
  if (thumbnails_ == nullptr) co_return none_are_made();
  if (!is_local(mxc.server_name())) co_return fail::not_found("Media of other servers is not served here");
  const Result<Found> found = co_await look(mxc);
  if (!found) co_return std::unexpected(found.error());
  if (!found->stored) co_return fail::not_found("Unknown media ID");
  co_return co_await thumbnails_->describe({found->stored->media.sha256, found->stored->file});
}

thumbnails::Variant Repository::smallest_variant(const thumbnails::Variant& asked) const {
  return {thumbnails::smallest_that_satisfies(limits_.thumbnail_sizes, asked.size), asked.animated};
}

void Repository::prepare_thumbnails(const Sha256Digest& sha256) {
  if (thumbnails_ == nullptr || !limits_.thumbnails_at_upload) return;
  look_pool_.submit([this, sha256] {
    const auto file = blobs_.open(sha256);
    if (!file) return;
    for (const thumbnails::Size& size : limits_.thumbnail_sizes) {
      thumbnails_->make_later({sha256, *file}, {.size = size, .animated = false});
    }
  });
}

}  // namespace sluice::repository
