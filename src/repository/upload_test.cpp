// SPDX-License-Identifier: Apache-2.0
#include "repository/upload.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "repository/repository_fixture_test.h"

namespace sluice::repository {
namespace {

class UploadTest : public RepositoryTest {
 protected:
  void expect_refused(const Result<UploadPtr>& begun, int status, std::string_view errcode) {
    ASSERT_FALSE(begun);
    EXPECT_EQ(begun.error().http_status, status);
    EXPECT_EQ(begun.error().errcode, errcode);
  }
};

// ---- a whole upload ----

TEST_F(UploadTest, IsStoredWithAllThatIsKnownOfIt) {
  const Mxc mxc = store("content", {.content_type = "image/png", .filename = "cat.png"});
  const Outcome outcome = look(mxc);
  EXPECT_EQ(outcome.content, "content");
  EXPECT_TRUE(outcome.is_whole);
  EXPECT_FALSE(outcome.was_live);
  EXPECT_EQ(outcome.content_type, "image/png");
  EXPECT_EQ(outcome.filename, "cat.png");

  const auto record = catalog_.find(mxc);
  ASSERT_TRUE(record && record->stored && !record->reservation);
  EXPECT_EQ(record->stored->user, kAlice.user);
  EXPECT_EQ(record->stored->size, 7u);
  EXPECT_EQ(record->stored->sha256, sha256("content"));
  EXPECT_EQ(record->stored->stored_at, clock_.now());
}

TEST_F(UploadTest, MayBeEmpty) {
  const Mxc mxc = store("", {.content_length = 0});
  const Outcome outcome = look(mxc);
  EXPECT_TRUE(outcome.is_whole);
  EXPECT_EQ(outcome.content, "");
}

TEST_F(UploadTest, InheritsWhatTheReservationDeclares) {
  const auto created = create(kAlice, "image/png", "cat.png");
  ASSERT_TRUE(fill(created->mxc, "content", {.content_type = ""}));
  EXPECT_EQ(look(created->mxc).content_type, "image/png");
  EXPECT_EQ(look(created->mxc).filename, "cat.png");

  const auto overridden = create(kAlice, "image/png", "cat.png");
  ASSERT_TRUE(fill(overridden->mxc, "content", {.content_type = "image/gif", .filename = "dog.gif"}));
  EXPECT_EQ(look(overridden->mxc).content_type, "image/gif");
  EXPECT_EQ(look(overridden->mxc).filename, "dog.gif");
}

TEST_F(UploadTest, OfUnknownTypeIsOctets) {
  const Mxc mxc = store("content", {.content_type = ""});
  EXPECT_EQ(look(mxc).content_type, "application/octet-stream");
}

TEST_F(UploadTest, WithoutAnIdGetsANewOne) {
  auto upload = begin({.server_name = "example.org", .content_type = "text/plain"});
  ASSERT_TRUE(upload);
  const Mxc mxc = (*upload)->mxc();
  EXPECT_EQ(mxc.server_name(), "example.org");
  EXPECT_EQ(mxc.media_id().size(), 32u);
  ASSERT_TRUE(write(*upload, "content"));
  EXPECT_EQ(look(mxc).status(), 404) << "nobody can know it yet";
  ASSERT_TRUE(seal(*upload));
  EXPECT_EQ(look(mxc).content, "content");
}

TEST_F(UploadTest, WithoutAnIdDoesNotCountAsPending) {
  limits_.uploads.max_pending_per_user = 1;
  auto upload = begin({.server_name = "example.org"});
  ASSERT_TRUE(upload);
  EXPECT_TRUE(create());
}

TEST_F(UploadTest, OfEqualContentIsKeptOnce) {
  const Mxc first = store("the same");
  const Mxc second = store("the same");
  const Mxc other = store("something else");
  EXPECT_EQ(look(first).content, "the same");
  EXPECT_EQ(look(second).content, "the same");
  EXPECT_EQ(look(other).content, "something else");
  EXPECT_EQ(count_blobs(), 2u);
  close();
  EXPECT_EQ(spool(), std::vector<std::string>{});
}

// ---- small ones, held in memory ----

TEST_F(UploadTest, ThatIsSmallAndComesAtOnceHasNoFileBeforeItIsSealed) {
  const Mxc mxc = reserve();
  auto upload = *begin(mxc, kAlice, {.content_length = 7});
  auto reader = stall_download(mxc);
  ASSERT_TRUE(write(upload, "content"));
  EXPECT_EQ(spool(), std::vector<std::string>{});
  ASSERT_TRUE(seal(upload));
  const Outcome outcome = reader->outcome();
  EXPECT_EQ(outcome.content, "content");
  EXPECT_TRUE(outcome.is_whole);
  EXPECT_FALSE(outcome.was_live);
  EXPECT_EQ(outcome.attempt, look(mxc).attempt);
  upload.reset();
  close();
  EXPECT_EQ(spool(), std::vector<std::string>{});
  EXPECT_EQ(count_blobs(), 1u);
}

TEST_F(UploadTest, ThatIsSmallAndComesInPiecesIsReadableAtOnce) {
  const Mxc mxc = reserve();
  auto upload = *begin(mxc, kAlice, {.content_length = 7});
  auto reader = stall_download(mxc);
  ASSERT_TRUE(write(upload, "con"));
  reader->await_opened();
  EXPECT_EQ(spool().size(), 1u);
  ASSERT_TRUE(write(upload, "tent"));
  ASSERT_TRUE(seal(upload));
  const Outcome outcome = reader->outcome();
  EXPECT_TRUE(outcome.was_live);
  EXPECT_TRUE(outcome.is_whole);
  EXPECT_EQ(outcome.content, "content");
  EXPECT_EQ(look(mxc).content, "content");
}

TEST_F(UploadTest, ThatIsSmallAndWhoseIdNobodyKnowsIsHeldHoweverItComes) {
  auto upload = *begin({.server_name = "example.org", .content_length = 7});
  for (const std::string_view piece : {"c", "onten", "t"}) ASSERT_TRUE(write(upload, piece));
  EXPECT_EQ(spool(), std::vector<std::string>{});
  ASSERT_TRUE(seal(upload));
  EXPECT_EQ(look(upload->mxc()).content, "content");
}

TEST_F(UploadTest, ThatIsHeldAndBreaksOffLeavesNothing) {
  const Mxc mxc = reserve();
  auto upload = *begin(mxc, kAlice, {.content_length = 7});
  ASSERT_TRUE(write(upload, "content"));
  upload.reset();
  EXPECT_EQ(look(mxc).errcode(), "M_NOT_YET_UPLOADED");
  EXPECT_EQ(repository().running_uploads(), 0u);
  close();
  EXPECT_EQ(spool(), std::vector<std::string>{});
  EXPECT_EQ(count_blobs(), 0u);
}

TEST_F(UploadTest, IsHeldUpToALimit) {
  for (const bool is_new : {true, false}) {
    for (const std::uint64_t more : {0u, 1u}) {
      const std::uint64_t limit = is_new ? Upload::kMaxHeldBytes : Upload::kMaxHeldAtOnceBytes;
      const std::string content(limit + more, is_new ? 'x' : 'y');
      const std::string media_id = is_new ? "" : reserve().media_id();
      auto upload = *begin({.server_name = "example.org", .media_id = media_id, .content_length = content.size()});
      EXPECT_EQ(spool().size(), more);
      ASSERT_TRUE(write(upload, content));
      ASSERT_TRUE(seal(upload));
      EXPECT_EQ(look(upload->mxc()).content, content);
      upload.reset();
      close();
    }
  }
}

TEST_F(UploadTest, WithMoreThanItDeclaredIsNotHeld) {
  auto upload = *begin({.server_name = "example.org", .content_length = 7});
  ASSERT_TRUE(write(upload, "cont"));
  ASSERT_TRUE(write(upload, "ent and more"));
  EXPECT_EQ(spool().size(), 1u);
  ASSERT_TRUE(seal(upload));
  EXPECT_EQ(look(upload->mxc()).content, "content and more");
}

// A crowd that has waited for it would ask the catalog as often.
TEST_F(UploadTest, ForWhichSomebodyWaitsIsAtHandWhenItIsAnnounced) {
  for (const std::uint64_t more : {0u, 1u}) {
    const std::string content(Upload::kMaxHeldAtOnceBytes + more, 'x');
    const Mxc mxc = reserve();
    auto upload = *begin(mxc, kAlice, {.content_length = content.size()});
    auto reader = stall_download(mxc);
    std::atomic<int> lookups = 0;
    catalog_.set_find_hooks({.after = [&](int) { ++lookups; }});
    ASSERT_TRUE(write(upload, content));
    ASSERT_TRUE(seal(upload));
    const Outcome outcome = reader->outcome();
    catalog_.clear_find_hooks();
    EXPECT_EQ(outcome.content, content);
    EXPECT_FALSE(outcome.was_live);
    EXPECT_EQ(lookups, 0);
  }
}

// ---- refusals before the body ----

TEST_F(UploadTest, RefusesGuests) {
  expect_refused(begin(reserve(), kGuest), 403, "M_GUEST_ACCESS_FORBIDDEN");
  expect_refused(begin({.server_name = "example.org"}, kGuest), 403, "M_GUEST_ACCESS_FORBIDDEN");
}

TEST_F(UploadTest, RefusesIdsOfOtherServers) {
  expect_refused(begin(*Mxc::of("elsewhere.org", "id")), 404, "M_NOT_FOUND");
  expect_refused(begin({.server_name = "elsewhere.org"}), 404, "M_NOT_FOUND");
}

TEST_F(UploadTest, RefusesIdsThatNobodyCreated) {
  expect_refused(begin(*Mxc::of("example.org", "unknown")), 404, "M_NOT_FOUND");
  expect_refused(begin({.server_name = "example.org", .media_id = "../../etc/passwd"}), 404, "M_NOT_FOUND");
  // The same id, but of another of our servers.
  expect_refused(begin(*Mxc::of("example.net", reserve().media_id())), 404, "M_NOT_FOUND");
}

TEST_F(UploadTest, RefusesExpiredIds) {
  const Mxc mxc = reserve();
  clock_.advance_wall(limits_.uploads.unused_expiry - Milliseconds(1));
  EXPECT_TRUE(begin(mxc));
  clock_.advance_wall(Milliseconds(1));
  expect_refused(begin(mxc), 404, "M_NOT_FOUND");
}

TEST_F(UploadTest, RefusesOtherUsers) {
  const Mxc reserved = reserve();
  expect_refused(begin(reserved, kMallory), 403, "M_FORBIDDEN");
  expect_refused(begin(reserved, {.user = "@root:example.org", .admin = true}), 403, "M_FORBIDDEN");
  const Mxc stored = store("content");
  expect_refused(begin(stored, kMallory), 403, "M_FORBIDDEN");
}

TEST_F(UploadTest, RefusesIdsThatAreFilled) {
  const Mxc mxc = store("content");
  expect_refused(begin(mxc), 409, "M_CANNOT_OVERWRITE_MEDIA");
  clock_.advance_wall(limits_.uploads.unused_expiry);
  expect_refused(begin(mxc), 409, "M_CANNOT_OVERWRITE_MEDIA");
  EXPECT_EQ(look(mxc).content, "content");
}

TEST_F(UploadTest, RefusesATooLargeLength) {
  limits_.uploads.max_size = 10;
  const Mxc mxc = reserve();
  expect_refused(begin(mxc, kAlice, {.content_length = 11}), 413, "M_TOO_LARGE");
  EXPECT_TRUE(begin(mxc, kAlice, {.content_length = 10}));
}

TEST_F(UploadTest, RefusesMoreThanMayRunAtOnce) {
  limits_.max_running_uploads = 2;
  const Mxc mxc = reserve();
  auto first = *begin(reserve());
  auto second = *begin({.server_name = "example.org"});
  expect_refused(begin(mxc), 503, "M_UNKNOWN");
  expect_refused(begin({.server_name = "example.org"}), 503, "M_UNKNOWN");
  first.reset();
  EXPECT_TRUE(fill(mxc, "content"));
}

TEST_F(UploadTest, ChecksContentTypeAndFilename) {
  const Mxc mxc = reserve();
  expect_refused(begin(mxc, kAlice, {.content_type = "text/\x01"}), 400, "M_INVALID_PARAM");
  expect_refused(begin(mxc, kAlice, {.content_type = std::string(256, 'a')}), 400, "M_INVALID_PARAM");
  expect_refused(begin(mxc, kAlice, {.filename = "\xff"}), 400, "M_INVALID_PARAM");
  expect_refused(begin(mxc, kAlice, {.filename = std::string(1025, 'a')}), 400, "M_INVALID_PARAM");
}

TEST_F(UploadTest, LeavesNothingOfARefusal) {
  const Mxc mxc = reserve();
  EXPECT_FALSE(begin(mxc, kMallory));
  EXPECT_FALSE(begin(*Mxc::of("example.org", "unknown")));
  EXPECT_EQ(repository().running_uploads(), 0u);
  close();
  EXPECT_EQ(spool(), std::vector<std::string>{});
}

// ---- in the middle ----

TEST_F(UploadTest, RefusesTheByteThatIsTooMuch) {
  limits_.uploads.max_size = 10;
  const Mxc mxc = reserve();
  auto upload = *begin(mxc);
  EXPECT_TRUE(write(upload, "01234"));
  EXPECT_TRUE(write(upload, "56789"));
  const Result<> refused = write(upload, "x");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().http_status, 413);
  EXPECT_EQ(refused.error().errcode, "M_TOO_LARGE");
  upload.reset();
  EXPECT_TRUE(fill(mxc, "0123456789")) << "exactly the limit";
}

TEST_F(UploadTest, BreaksOffForThoseWhoFollow) {
  const Mxc mxc = reserve();
  auto upload = *begin(mxc, kAlice, {.content_length = 100});
  ASSERT_TRUE(write(upload, "the beginning"));
  auto reader = start_download(mxc);
  reader->await_opened();
  upload.reset();
  const Outcome outcome = reader->outcome();
  EXPECT_TRUE(outcome.was_live);
  EXPECT_FALSE(outcome.is_whole);
  EXPECT_EQ(outcome.content, "the beginning");
}

TEST_F(UploadTest, ThatBrokeOffFreesTheIdForAnotherAttempt) {
  const Mxc mxc = reserve();
  auto upload = *begin(mxc);
  ASSERT_TRUE(write(upload, "the beginning"));
  auto reader = start_download(mxc);
  reader->await_opened();
  upload.reset();
  const Outcome broken = reader->outcome();
  EXPECT_FALSE(broken.is_whole);
  EXPECT_EQ(look(mxc).errcode(), "M_NOT_YET_UPLOADED") << "as if nothing had happened";

  ASSERT_TRUE(fill(mxc, "the whole"));
  const Outcome whole = look(mxc);
  EXPECT_EQ(whole.content, "the whole");
  EXPECT_NE(whole.attempt, broken.attempt) << "a reader that resumes could join the two";
  close();
  EXPECT_EQ(spool(), std::vector<std::string>{});
  EXPECT_EQ(count_blobs(), 1u);
}

TEST_F(UploadTest, HasTheSameAttemptWhileItRunsAndWhenItIsStored) {
  const Mxc mxc = reserve();
  auto upload = *begin(mxc);
  auto reader = stall_download(mxc);
  ASSERT_TRUE(write(upload, "content"));
  ASSERT_TRUE(seal(upload));
  EXPECT_EQ(reader->outcome().attempt, look(mxc).attempt);
}

TEST_F(UploadTest, ThatBeganInTimeMayEndAfterTheExpiry) {
  const Mxc mxc = reserve();
  auto upload = *begin(mxc);
  ASSERT_TRUE(write(upload, "content"));
  clock_.advance_wall(2 * limits_.uploads.unused_expiry);
  ASSERT_TRUE(seal(upload));
  EXPECT_EQ(look(mxc).content, "content");
}

TEST_F(UploadTest, ThatBeganInTimeAndBrokeAfterTheExpiryLeavesAnExpiredId) {
  const Mxc mxc = reserve();
  auto upload = *begin(mxc);
  auto reader = stall_download(mxc);
  clock_.advance_wall(limits_.uploads.unused_expiry);
  upload.reset();
  EXPECT_EQ(reader->outcome().status(), 404);
  expect_refused(begin(mxc), 404, "M_NOT_FOUND");
}

// ---- two at once ----

TEST_F(UploadTest, RefusesASecondOneWhileTheFirstRuns) {
  const Mxc mxc = reserve();
  auto upload = *begin(mxc);
  expect_refused(begin(mxc), 409, "M_CANNOT_OVERWRITE_MEDIA");
  ASSERT_TRUE(write(upload, "the first"));
  ASSERT_TRUE(seal(upload));
  EXPECT_EQ(look(mxc).content, "the first");
}

TEST_F(UploadTest, DoesNotReplaceOneThatEndedWhileItBegan) {
  for (const int lookup : {1, 2}) {
    const Mxc mxc = reserve();
    LoopThread other;
    catalog_.set_find_hooks({.after = [&](int number) {
      if (number != lookup) return;
      auto upload = other.start(repository().begin_upload(kAlice, to_request(mxc, {}))).get();
      if (lookup == 2) {
        EXPECT_FALSE(upload) << "the id is taken by now";
        return;
      }
      ASSERT_TRUE(upload);
      ASSERT_TRUE(write(*upload, "the other"));
      ASSERT_TRUE(other.start((*upload)->seal()).get());
    }});
    auto upload = begin(mxc);
    catalog_.clear_find_hooks();
    if (lookup == 1) {
      expect_refused(upload, 409, "M_CANNOT_OVERWRITE_MEDIA");
      EXPECT_EQ(look(mxc).content, "the other");
    } else {
      EXPECT_TRUE(upload);
    }
  }
}

TEST_F(UploadTest, HoldsTheIdUntilItIsStored) {
  const Mxc mxc = reserve();
  LoopThread other;
  auto upload = *begin(mxc);
  std::unique_ptr<Reader> reader;
  catalog_.set_store_hook([&] {
    expect_refused(other.start(repository().begin_upload(kAlice, to_request(mxc, {}))).get(), 409,
                   "M_CANNOT_OVERWRITE_MEDIA");
    clock_.advance_wall(limits_.uploads.unused_expiry);  // from now on nothing but the upload keeps the id alive
    reader = stall_download(mxc);
  });
  ASSERT_TRUE(seal(upload));
  ASSERT_NE(reader, nullptr);
  EXPECT_TRUE(reader->outcome().is_whole);
}

TEST_F(UploadTest, BeginsOnceAmongManyAtOnce) {
  constexpr std::size_t kRounds = 50;
  constexpr std::size_t kUploads = 6;
  LoopThread third;
  LoopThread* const threads[] = {&loop_, &uploading_loop_, &third};
  for (std::size_t round = 0; round < kRounds; ++round) {
    const Mxc mxc = reserve();
    std::vector<std::future<Result<UploadPtr>>> begun;
    for (std::size_t i = 0; i < kUploads; ++i) {
      begun.push_back(threads[i % 3]->start(repository().begin_upload(kAlice, to_request(mxc, {}))));
    }
    UploadPtr winner;
    for (auto& result : begun) {
      Result<UploadPtr> upload = result.get();
      if (upload) {
        EXPECT_EQ(winner, nullptr) << "two have the same id";
        winner = *std::move(upload);
      } else {
        expect_refused(upload, 409, "M_CANNOT_OVERWRITE_MEDIA");
      }
    }
    ASSERT_NE(winner, nullptr) << "nobody has it";
    ASSERT_TRUE(write(winner, "content"));
    ASSERT_TRUE(seal(winner));
  }
  EXPECT_EQ(repository().running_uploads(), 0u);
  close();
  EXPECT_EQ(spool(), std::vector<std::string>{});
}

TEST_F(UploadTest, OfAnAttackerNeverTakesTheId) {
  const Mxc mxc = reserve();
  LoopThread other;
  // At every moment of the attempt the owner can begin.
  for (const int lookup : {1, 2}) {
    for (const bool is_after : {false, true}) {
      UploadPtr upload;
      const auto step_in = [&](int number) {
        if (number != lookup) return;
        auto begun = other.start(repository().begin_upload(kAlice, to_request(mxc, {}))).get();
        ASSERT_TRUE(begun) << begun.error().message;
        upload = *std::move(begun);
      };
      catalog_.set_find_hooks(is_after ? HookedCatalog::FindHooks{.after = step_in}
                                       : HookedCatalog::FindHooks{.before = step_in});
      expect_refused(begin(mxc, kMallory), 403, "M_FORBIDDEN");
      catalog_.clear_find_hooks();
      EXPECT_EQ(upload != nullptr, lookup == 1) << "an attacker gets one look and is out";
    }
  }
  // And once it runs, the attacker cannot disturb it.
  auto upload = *begin(mxc);
  expect_refused(begin(mxc, kMallory), 403, "M_FORBIDDEN");
  ASSERT_TRUE(write(upload, "content"));
  ASSERT_TRUE(seal(upload));
  EXPECT_EQ(look(mxc).content, "content");
}

TEST_F(UploadTest, RefusesAnIdThatExpiresWhileItBegins) {
  for (const int lookup : {1, 2}) {
    const Mxc mxc = reserve();
    catalog_.set_find_hooks({.after = [&](int number) {
      if (number == lookup) clock_.advance_wall(limits_.uploads.unused_expiry);
    }});
    expect_refused(begin(mxc), 404, "M_NOT_FOUND");
    catalog_.clear_find_hooks();
    EXPECT_EQ(look(mxc).status(), 404);
  }
  EXPECT_EQ(repository().running_uploads(), 0u);
}

}  // namespace
}  // namespace sluice::repository
