// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <string>
#include <thread>
#include <vector>

#include "repository/repository_fixture_test.h"

namespace sluice::repository {
namespace {

class DeletingTest : public RepositoryTest {
 protected:
  void expect_gone(const Mxc& mxc) {
    const Outcome outcome = look(mxc);
    EXPECT_EQ(outcome.status(), 404);
    EXPECT_EQ(outcome.errcode(), "M_NOT_FOUND");
    EXPECT_EQ(fill(mxc, "anew").error().http_status, 404);
  }
};

TEST_F(DeletingTest, AnIdThatWasDeletedIsUnknown) {
  const Mxc stored = store("content");
  const Mxc reserved = reserve();
  for (const Mxc& mxc : {stored, reserved}) {
    ASSERT_TRUE(remove(mxc));
    expect_gone(mxc);
    EXPECT_EQ(remove(mxc).error().http_status, 404);
  }
}

TEST_F(DeletingTest, IsForTheOwnerAndAdmins) {
  const Mxc stored = store("content");
  const Mxc reserved = reserve();
  for (const Mxc& mxc : {stored, reserved}) {
    EXPECT_EQ(remove(mxc, kMallory).error().errcode, "M_FORBIDDEN");
    EXPECT_NE(look(mxc).status(), 404);
    EXPECT_TRUE(remove(mxc, kAdmin));
    expect_gone(mxc);
  }
}

TEST_F(DeletingTest, OfSomebodyElseDisturbsNoUpload) {
  const Mxc mxc = reserve();
  auto upload = *begin(mxc);
  ASSERT_TRUE(write(upload, "con"));
  EXPECT_FALSE(remove(mxc, kMallory));
  ASSERT_TRUE(write(upload, "tent"));
  ASSERT_TRUE(seal(upload));
  EXPECT_EQ(look(mxc).content, "content");
}

TEST_F(DeletingTest, OfWhatIsUnknownExpiredOrElsewhereIs404) {
  EXPECT_EQ(remove(*Mxc::of("example.org", "unknown")).error().http_status, 404);
  EXPECT_EQ(remove(*Mxc::of("elsewhere.org", "unknown"), kAdmin).error().http_status, 404);
  const Mxc mxc = reserve();
  clock_.advance_wall(limits_.uploads.unused_expiry);
  EXPECT_EQ(remove(mxc).error().http_status, 404);
}

TEST_F(DeletingTest, WhoIsStalledIsAnsweredAtOnce) {
  const Mxc mxc = reserve();
  auto reader = stall_download(mxc);
  ASSERT_TRUE(remove(mxc));
  EXPECT_EQ(reader->outcome().status(), 404);
  EXPECT_EQ(repository().stalled_downloads(), 0u);
}

TEST_F(DeletingTest, FreesTheBytes) {
  const Mxc mxc = store("content");
  EXPECT_EQ(look(mxc).content, "content");
  ASSERT_TRUE(remove(mxc));
  close();  // what was put off is done
  EXPECT_EQ(count_blobs(), 0u);
  EXPECT_TRUE(spool().empty());
}

TEST_F(DeletingTest, KeepsEqualContentWhileAnIdRefersToIt) {
  const Mxc first = store("content");
  const Mxc second = store("content");
  ASSERT_TRUE(remove(first));
  close();
  EXPECT_EQ(count_blobs(), 1u);
  EXPECT_EQ(look(second).content, "content");
  ASSERT_TRUE(remove(second));
  close();
  EXPECT_EQ(count_blobs(), 0u);
}

TEST_F(DeletingTest, WhatIsMissingOnDiskCanBeDeleted) {
  const Mxc mxc = store("content");
  close();
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory_ / "blobs")) {
    if (entry.is_regular_file()) std::filesystem::remove(entry.path());
  }
  EXPECT_TRUE(remove(mxc));
  expect_gone(mxc);
}

// ---- beside an upload ----

TEST_F(DeletingTest, BreaksOffAnUploadAndThoseWhoFollowIt) {
  const Mxc mxc = reserve();
  auto upload = *begin(mxc);
  ASSERT_TRUE(write(upload, "begun"));
  auto reader = start_download(mxc);
  reader->await_opened();
  ASSERT_TRUE(remove(mxc));
  const Outcome outcome = reader->outcome();
  EXPECT_EQ(outcome.content, "begun");
  EXPECT_FALSE(outcome.is_whole);
  EXPECT_EQ(look(mxc).status(), 404) << "while the uploader has not heard of it";
  EXPECT_EQ(write(upload, "more").error().http_status, 404);
  upload.reset();
  expect_gone(mxc);
  close();
  EXPECT_TRUE(spool().empty());
}

TEST_F(DeletingTest, AnUploadThatHasComeWholeIsRefusedAndNotKept) {
  for (const bool is_held : {false, true}) {
    const Mxc mxc = reserve();
    UploadOptions options;
    if (is_held) options.content_length = 7;
    auto upload = *begin(mxc, kAlice, options);
    ASSERT_TRUE(write(upload, "content"));
    ASSERT_TRUE(remove(mxc));
    EXPECT_EQ(seal(upload).error().http_status, 404);
    upload.reset();
    expect_gone(mxc);
  }
  close();
  EXPECT_EQ(count_blobs(), 0u);
  EXPECT_TRUE(spool().empty());
}

TEST_F(DeletingTest, AnUploadThatComesToTheCatalogFirstIsDeletedAfterwards) {
  const Mxc mxc = reserve();
  auto upload = *begin(mxc);
  ASSERT_TRUE(write(upload, "content"));
  std::latch storing(1);
  std::latch deleting(1);
  catalog_.set_store_hook([&] {
    storing.count_down();
    deleting.wait();
  });
  auto sealed = uploading_loop_.start(upload->seal());
  storing.wait();
  std::latch found_reserved(1);
  catalog_.set_find_hooks({.before = [](int) {},
                           .after =
                               [&](int lookup) {
                                 if (lookup == 1) found_reserved.count_down();
                               }});
  auto removed = loop_.start(repository().remove(kAlice, mxc));
  found_reserved.wait();
  deleting.count_down();
  EXPECT_TRUE(sealed.get());
  EXPECT_TRUE(removed.get());
  upload.reset();
  expect_gone(mxc);
  close();
  EXPECT_EQ(count_blobs(), 0u);
}

// Between the look at the row and its removal another attempt begins: it must not survive.
TEST_F(DeletingTest, AnUploadThatBeginsWhileTheRowIsRemovedComesToNothing) {
  const Mxc mxc = reserve();
  std::optional<int> status;
  catalog_.set_remove_hook([&] {
    // On the catalog's thread: the removal is not committed, and other threads still see the reservation.
    auto begun = begin(mxc);
    status = begun ? 200 : begun.error().http_status;
  });
  ASSERT_TRUE(remove(mxc));
  EXPECT_EQ(status, 409);
  expect_gone(mxc);
}

// ---- beside downloads ----

TEST_F(DeletingTest, ADownloadThatHasBegunEndsWhole) {
  const std::string content(300'000, 'x');
  const Mxc mxc = store(content);
  const auto file = repository().open_hot({mxc, true, clock_.steady()});
  EXPECT_EQ(file, nullptr);
  EXPECT_EQ(look(mxc).content, content);
  const auto hot = repository().open_hot({mxc, true, clock_.steady()});
  ASSERT_NE(hot, nullptr);
  ASSERT_TRUE(remove(mxc));
  EXPECT_EQ(repository().open_hot({mxc, true, clock_.steady()}), nullptr);
  close();
  EXPECT_EQ(count_blobs(), 0u);
  EXPECT_EQ(detail::read_bytes(*hot->file, 0, content.size()), content);
}

// A lookup that began before the deletion must not leave in the cache what it found.
TEST_F(DeletingTest, WhatWasLookedUpBeforeIsNotFoundAfterwards) {
  const Mxc mxc = store("content");
  catalog_.set_find_hooks({.before = [](int) {},
                           .after =
                               [&](int lookup) {
                                 if (lookup == 1) {
                                   EXPECT_TRUE(uploading_loop_.start(repository().remove(kAlice, mxc)).get());
                                 }
                               }});
  look(mxc);  // either answer is right: it ran at the same time
  catalog_.clear_find_hooks();
  EXPECT_EQ(repository().open_hot({mxc, true, clock_.steady()}), nullptr);
  EXPECT_EQ(look(mxc).status(), 404);
}

// What is announced when an upload ends is kept at hand; also then.
TEST_F(DeletingTest, ManyReadersAndUploadsAtTheSameTimeNeverSeeWhatWasDeleted) {
  constexpr int kRounds = 200;
  std::vector<Mxc> ids;
  for (int i = 0; i < kRounds; ++i) ids.push_back(reserve());
  std::vector<std::atomic<bool>> deleted(kRounds);
  std::atomic<bool> is_over = false;
  std::atomic<int> wrong = 0;
  std::vector<std::jthread> readers;
  for (int thread = 0; thread < 2; ++thread) {
    readers.emplace_back([&] {
      LoopThread loop;
      while (!is_over) {
        for (std::size_t i = 0; i < ids.size() && !is_over; ++i) {
          const bool was_deleted = deleted[i];
          const DownloadRequest request{ids[i], true, clock_.steady()};
          int status = 200;
          if (repository().open_hot(request) == nullptr)
            status = Reader(loop, repository(), request).outcome().status();
          if (was_deleted && status != 404) ++wrong;
        }
      }
    });
  }
  for (std::size_t i = 0; i < ids.size(); ++i) {
    auto upload = *begin(ids[i]);
    ASSERT_TRUE(write(upload, "content"));
    auto sealed = uploading_loop_.start(upload->seal());
    if (i % 2 == 0) sealed.wait();
    ASSERT_TRUE(remove(ids[i]));
    deleted[i] = true;
    (void)sealed.get();
  }
  is_over = true;
  readers.clear();
  EXPECT_EQ(wrong, 0);
  for (const Mxc& mxc : ids) EXPECT_EQ(look(mxc).status(), 404);
  close();
  EXPECT_EQ(count_blobs(), 0u);
  EXPECT_TRUE(spool().empty());
}

// ---- broken disks ----

TEST_F(DeletingTest, ACatalogThatIsFullKeepsEverything) {
  const Mxc mxc = store("content");
  catalog_.fail_commit({507, "M_UNKNOWN", "full", {}, false});
  EXPECT_EQ(remove(mxc).error().http_status, 507);
  EXPECT_EQ(look(mxc).content, "content");
  close();
  EXPECT_EQ(count_blobs(), 1u);
  EXPECT_TRUE(spool().empty());
  EXPECT_TRUE(remove(mxc));
}

TEST_F(DeletingTest, WhenNobodyCanSayWhetherItIsGoneTheNextStartDecides) {
  const Mxc mxc = store("content");
  catalog_.fail_commit({500, "M_UNKNOWN", "broken", {}, false});
  EXPECT_EQ(remove(mxc).error().http_status, 500);
  close();
  EXPECT_EQ(count_blobs(), 1u);
  EXPECT_EQ(spool().size(), 1u);
  ASSERT_TRUE(blobs_->sweep([](const Sha256Digest&) -> Result<bool> { return false; }));
  EXPECT_EQ(count_blobs(), 0u);
}

TEST_F(DeletingTest, ADiskThatTakesNoMarkKeepsEverything) {
  const Mxc mxc = store("content");
  close();
  disk_.fail_call(FaultyFileSystem::Call::kLink, 1, EIO);
  EXPECT_EQ(remove(mxc).error().http_status, 500);
  EXPECT_EQ(look(mxc).content, "content");
  EXPECT_TRUE(remove(mxc));
}

}  // namespace
}  // namespace sluice::repository
