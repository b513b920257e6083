// SPDX-License-Identifier: Apache-2.0
// What becomes of an upload when the disk or the catalog fails under it.
#include <gtest/gtest.h>

#include <cerrno>
#include <string>
#include <vector>

#include "repository/repository_fixture_test.h"

namespace sluice::repository {
namespace {

using Call = FaultyFileSystem::Call;

enum class Way {
  kInPieces,
  kLarge,  // so that it is published by itself, not in a group
  kHeld,   // of declared length, and in one piece
};

struct Fault {
  std::string step;
  Call call;
  std::size_t nth;       // of these calls in one upload
  bool leaves_its_mark;  // the content may have been published: only the sweep at the next start can tell
  Way way = Way::kInPieces;
};

const std::vector<Fault> kFaults = {
    {"creating the file", Call::kCreate, 1, false},
    {"writing the first bytes", Call::kWriteAt, 1, false},
    {"writing the last bytes", Call::kWriteAt, 2, false},
    {"marking the file", Call::kRename, 1, false},
    {"syncing the file", Call::kSync, 1, false},
    {"syncing the mark", Call::kSyncDirectory, 1, false},
    {"publishing", Call::kLink, 1, false},
    {"syncing a large file", Call::kSync, 1, false, Way::kLarge},
    {"syncing the mark of a large file", Call::kSyncDirectory, 1, false, Way::kLarge},
    {"publishing a large file", Call::kLink, 1, false, Way::kLarge},
    {"syncing a large file that is published", Call::kSyncDirectory, 2, true, Way::kLarge},
    {"creating a held file", Call::kCreate, 1, false, Way::kHeld},
    {"writing a held file", Call::kWriteAt, 1, false, Way::kHeld},
    {"syncing a held file", Call::kSync, 1, false, Way::kHeld},
    {"syncing the mark of a held file", Call::kSyncDirectory, 1, false, Way::kHeld},
    {"publishing a held file", Call::kLink, 1, false, Way::kHeld},
};

class DiskFaultTest : public RepositoryTest, public ::testing::WithParamInterface<Fault> {
 protected:
  static constexpr std::string_view kLastPiece = "the last piece";

  static bool is_held() { return GetParam().way == Way::kHeld; }
  Result<UploadPtr> begin_upload(const Mxc& mxc) {
    return begin(mxc, kAlice, is_held() ? UploadOptions{.content_length = content_.size()} : UploadOptions{});
  }
  Result<> upload(const Mxc& mxc) {
    auto upload = begin_upload(mxc);
    if (!upload) return Failure(upload.error());
    if (is_held()) {
      if (Result<> written = write(*upload, content_); !written) return written;
      return seal(*upload);
    }
    for (const std::string_view piece : {std::string_view(first_piece_), kLastPiece}) {
      if (Result<> written = write(*upload, piece); !written) return written;
    }
    return seal(*upload);
  }
  Result<> upload_on_failing_disk(const Mxc& mxc, int error_number) {
    disk_.fail_call(GetParam().call, GetParam().nth, error_number);
    return upload(mxc);
  }
  /// As at the next start.
  void restart() {
    close();
    blobs_ = or_throw(blobs::open_folder_store(disk_, random_, directory_.path()));
    ASSERT_TRUE(blobs_->sweep([this](const Sha256Digest& digest) { return catalog_.refers_to(digest); }));
  }

  const std::string first_piece_ = "the first piece, " + std::string(GetParam().way == Way::kLarge ? 300'000 : 0, 'x');
  const std::string content_ = first_piece_ + std::string(kLastPiece);
};

TEST_P(DiskFaultTest, OfFullDiskIs507AndTheIdIsFree) {
  const Mxc mxc = reserve();
  const Result<> failed = upload_on_failing_disk(mxc, ENOSPC);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().http_status, 507);
  EXPECT_EQ(look(mxc).errcode(), "M_NOT_YET_UPLOADED");
  EXPECT_EQ(repository().running_uploads(), 0u);

  ASSERT_TRUE(upload(mxc)) << "the disk works again";
  EXPECT_EQ(look(mxc).content, content_);
}

TEST_P(DiskFaultTest, LeavesNothingInTheSpool) {
  ASSERT_FALSE(upload_on_failing_disk(reserve(), ENOSPC));
  close();
  EXPECT_EQ(spool().size(), GetParam().leaves_its_mark ? 1u : 0u);
  restart();
  EXPECT_EQ(spool(), std::vector<std::string>{});
  EXPECT_EQ(count_blobs(), 0u);
}

TEST_P(DiskFaultTest, OfBrokenDiskIs500) {
  const Mxc mxc = reserve();
  const Result<> failed = upload_on_failing_disk(mxc, EIO);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().http_status, 500);
  ASSERT_TRUE(upload(mxc));
}

TEST_P(DiskFaultTest, LetsThoseWhoWaitGoOn) {
  limits_.downloads.live = false;
  const Mxc mxc = reserve();
  auto reader = stall_download(mxc);
  ASSERT_FALSE(upload_on_failing_disk(mxc, ENOSPC));
  reader->await_asleep();
  EXPECT_EQ(repository().stalled_downloads(), 1u);
  ASSERT_TRUE(upload(mxc));
  EXPECT_EQ(reader->outcome().content, content_);
}

TEST_P(DiskFaultTest, NeverShowsALiveReaderAWhole) {
  const Mxc mxc = reserve();
  disk_.fail_call(GetParam().call, GetParam().nth, ENOSPC);
  auto upload = begin_upload(mxc);
  if (!upload) return;
  if (is_held()) {
    auto reader = stall_download(mxc);
    ASSERT_TRUE(write(*upload, content_));
    EXPECT_FALSE(seal(*upload));
    upload->reset();
    repository().stop_waiting();
    EXPECT_EQ(reader->outcome().errcode(), "M_NOT_YET_UPLOADED");
    return;
  }
  if (!write(*upload, first_piece_)) return;
  auto reader = start_download(mxc);
  reader->await_opened();
  EXPECT_FALSE(write(*upload, kLastPiece) && seal(*upload));
  upload->reset();
  const Outcome outcome = reader->outcome();
  EXPECT_TRUE(outcome.was_live);
  EXPECT_FALSE(outcome.is_whole);
  EXPECT_TRUE(content_.starts_with(outcome.content));
}

// Another upload of the same content comes between: what it has published and committed must survive the failure.
TEST_P(DiskFaultTest, DoesNoHarmToEqualContent) {
  const Mxc stored = reserve();
  ASSERT_TRUE(upload(stored));
  EXPECT_FALSE(upload_on_failing_disk(reserve(), ENOSPC));
  EXPECT_EQ(look(stored).content, content_);
  restart();
  EXPECT_EQ(look(stored).content, content_);
  EXPECT_EQ(count_blobs(), 1u);
}

INSTANTIATE_TEST_SUITE_P(EachStep, DiskFaultTest, ::testing::ValuesIn(kFaults), [](const auto& info) {
  std::string name = info.param.step;
  std::erase(name, ' ');
  return name;
});

TEST_F(RepositoryTest, AcknowledgesAnUploadWhoseSpoolNameCannotBeRemoved) {
  const Mxc mxc = reserve();
  disk_.fail_call(Call::kRemove, 1, EIO);
  ASSERT_TRUE(fill(mxc, "content"));
  EXPECT_EQ(look(mxc).content, "content");
  close();
  EXPECT_EQ(spool().size(), 1u);
  EXPECT_EQ(blobs_->sweep([this](const Sha256Digest& digest) { return catalog_.refers_to(digest); }), 1u);
  EXPECT_EQ(look(mxc).content, "content");
}

TEST_F(RepositoryTest, RefusesTheFirstPieceOfAnUploadForWhichThereIsNoFile) {
  const Mxc mxc = reserve();
  auto upload = *begin(mxc, kAlice, {.content_length = 7});
  disk_.fail_call(Call::kCreate, 1, ENOSPC);
  const Result<> refused = write(upload, "con");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().http_status, 507);
  upload.reset();
  EXPECT_EQ(look(mxc).errcode(), "M_NOT_YET_UPLOADED");
  EXPECT_TRUE(fill(mxc, "content"));
}

TEST_F(RepositoryTest, IsShortOfDescriptorsForAMomentOnly) {
  const Mxc mxc = reserve();
  disk_.fail_call(Call::kCreate, 1, EMFILE);
  const auto refused = begin(mxc);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().http_status, 503);
  EXPECT_TRUE(refused.error().retry_after);
  EXPECT_TRUE(begin(mxc));
}

// ---- the catalog ----

class CatalogFaultTest : public RepositoryTest {
 protected:
  const Error error_{507, "M_UNKNOWN", "the catalog's disk is full", {}, false};
};

TEST_F(CatalogFaultTest, WhenStoringBreaksTheTransferAndFreesTheId) {
  const Mxc mxc = reserve();
  auto upload = *begin(mxc);
  ASSERT_TRUE(write(upload, "content"));
  auto reader = start_download(mxc);
  reader->await_opened();
  catalog_.fail_store(error_);
  const Result<> failed = seal(upload);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error(), error_);
  upload.reset();
  const Outcome outcome = reader->outcome();
  EXPECT_TRUE(outcome.was_live);
  EXPECT_FALSE(outcome.is_whole) << "taken for whole, though it was not stored";
  EXPECT_EQ(look(mxc).errcode(), "M_NOT_YET_UPLOADED");

  ASSERT_TRUE(fill(mxc, "another content"));
  const Outcome whole = look(mxc);
  EXPECT_EQ(whole.content, "another content");
  EXPECT_NE(whole.attempt, outcome.attempt);
}

TEST_F(CatalogFaultTest, WhenStoringHoldsTheLastByteBack) {
  const Mxc mxc = reserve();
  auto upload = *begin(mxc, kAlice, {.content_length = 7});
  ASSERT_TRUE(write(upload, "con"));
  ASSERT_TRUE(write(upload, "tent"));
  auto reader = start_download(mxc);
  reader->await_opened();
  catalog_.fail_store(error_);
  ASSERT_FALSE(seal(upload));
  upload.reset();
  EXPECT_EQ(reader->outcome().content, "conten") << "a reader that counts would take it for the whole";
}

TEST_F(CatalogFaultTest, WhenItIsFullGivesTheSpaceBackAtOnce) {
  const Mxc mxc = reserve();
  catalog_.fail_store(error_);
  ASSERT_FALSE(fill(mxc, "content"));
  close();
  EXPECT_EQ(spool().size(), 0u);
  EXPECT_EQ(count_blobs(), 0u);
}

TEST_F(CatalogFaultTest, WhenItIsFullKeepsWhatOthersReferTo) {
  const Mxc stored = store("content");
  catalog_.fail_store(error_);
  ASSERT_FALSE(fill(reserve(), "content"));
  close();
  EXPECT_EQ(count_blobs(), 1u);
  EXPECT_EQ(look(stored).content, "content");
}

TEST_F(CatalogFaultTest, WhenNobodyKnowsWhetherItStoredLeavesTheContentToTheSweep) {
  const Mxc mxc = reserve();
  catalog_.fail_store(Error{500, "M_UNKNOWN", "the catalog's disk is broken", {}, false});
  ASSERT_FALSE(fill(mxc, "content"));
  close();
  EXPECT_EQ(spool().size(), 1u) << "the commit may turn out to be on disk after all";
  EXPECT_EQ(count_blobs(), 1u);
  EXPECT_EQ(blobs_->sweep([this](const Sha256Digest& digest) { return catalog_.refers_to(digest); }), 1u);
  EXPECT_EQ(spool().size(), 0u);
  EXPECT_EQ(count_blobs(), 0u);
}

TEST_F(CatalogFaultTest, WhenTheCommitFailsBreaksTheUploadAndKeepsWhatMayBeReferredTo) {
  const Mxc mxc = reserve();
  catalog_.fail_commit(Error{500, "M_UNKNOWN", "the catalog's disk is broken", {}, false});
  const Result<> failed = fill(mxc, "content");
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().http_status, 500);
  EXPECT_EQ(look(mxc).errcode(), "M_NOT_YET_UPLOADED");
  close();
  EXPECT_EQ(spool().size(), 1u);
  EXPECT_EQ(count_blobs(), 1u);
}

TEST_F(CatalogFaultTest, WhenTheCommitIsFullGivesTheSpaceBackAtOnce) {
  const Mxc mxc = reserve();
  catalog_.fail_commit(error_);
  ASSERT_FALSE(fill(mxc, "content"));
  EXPECT_EQ(look(mxc).errcode(), "M_NOT_YET_UPLOADED");
  close();
  EXPECT_EQ(spool().size(), 0u);
  EXPECT_EQ(count_blobs(), 0u);
}

TEST_F(CatalogFaultTest, WhenTheCommitFailsNothingIsReserved) {
  catalog_.fail_commit(error_);
  const auto refused = create();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error(), error_);
  EXPECT_TRUE(create());
}

TEST_F(CatalogFaultTest, WhenLookingLeavesTheIdFree) {
  const Mxc mxc = reserve();
  for (const int lookup : {1, 2}) {
    catalog_.set_find_hooks({.after = [&](int number) {
      if (number == lookup) catalog_.fail_find(error_);
    }});
    const auto begun = begin(mxc);
    catalog_.clear_find_hooks();
    ASSERT_FALSE(begun);
    EXPECT_EQ(begun.error(), error_);
  }
  EXPECT_EQ(repository().running_uploads(), 0u);
  ASSERT_TRUE(fill(mxc, "content"));
  close();
  EXPECT_EQ(spool(), std::vector<std::string>{});
}

}  // namespace
}  // namespace sluice::repository
