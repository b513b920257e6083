// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <future>
#include <latch>
#include <optional>
#include <string>
#include <vector>

#include "repository/repository_fixture_test.h"

namespace sluice::repository {
namespace {

using std::chrono::hours;

class DownloadTest : public RepositoryTest {
 protected:
  const Mxc unknown_ = *Mxc::of("example.org", "unknown");
};

// ---- what there is ----

TEST_F(DownloadTest, OfStoredMediaIsNotStalled) {
  const Outcome outcome = download(store("content"));
  EXPECT_EQ(outcome.content, "content");
  EXPECT_FALSE(outcome.report.was_stalled);
  EXPECT_EQ(outcome.report.waited, Milliseconds(0));
}

TEST_F(DownloadTest, OfAnUploadThatHasBegunIsLiveAndNotStalled) {
  const Mxc mxc = reserve();
  auto upload = *begin(mxc, kAlice, {.content_type = "image/png", .filename = "cat.png"});
  ASSERT_TRUE(write(upload, "one "));
  auto reader = start_download(mxc);
  reader->await_opened();
  EXPECT_EQ(repository().stalled_downloads(), 0u);
  ASSERT_TRUE(write(upload, "two"));
  ASSERT_TRUE(seal(upload));
  const Outcome outcome = reader->outcome();
  EXPECT_EQ(outcome.content, "one two");
  EXPECT_TRUE(outcome.was_live);
  EXPECT_TRUE(outcome.is_whole);
  EXPECT_FALSE(outcome.report.was_stalled);
  EXPECT_EQ(outcome.content_type, "image/png");
  EXPECT_EQ(outcome.filename, "cat.png");
}

TEST_F(DownloadTest, OfAnIdWithoutContentIsStalledUntilTheFirstByte) {
  const Mxc mxc = reserve();
  auto reader = stall_download(mxc);
  EXPECT_EQ(repository().stalled_downloads(), 1u);
  clock_.advance_steady(Milliseconds(1234));
  auto upload = *begin(mxc);
  ASSERT_TRUE(write(upload, "first"));
  reader->await_opened();
  EXPECT_EQ(repository().stalled_downloads(), 0u);
  ASSERT_TRUE(seal(upload));
  const Outcome outcome = reader->outcome();
  EXPECT_EQ(outcome.content, "first");
  EXPECT_TRUE(outcome.was_live);
  EXPECT_TRUE(outcome.report.was_stalled);
  EXPECT_GE(outcome.report.waited, Milliseconds(1234));
}

TEST_F(DownloadTest, ThatIsNotLiveIsStalledUntilTheUploadIsWhole) {
  limits_.downloads.live = false;
  const Mxc mxc = reserve();
  auto upload = *begin(mxc);
  ASSERT_TRUE(write(upload, "content"));
  EXPECT_EQ(look(mxc).errcode(), "M_NOT_YET_UPLOADED");
  auto reader = stall_download(mxc);
  ASSERT_TRUE(seal(upload));
  const Outcome outcome = reader->outcome();
  EXPECT_EQ(outcome.content, "content");
  EXPECT_FALSE(outcome.was_live);
}

TEST_F(DownloadTest, OfAnyNumberAtOnceSeesOneUpload) {
  const Mxc mxc = reserve();
  std::vector<std::unique_ptr<Reader>> readers;
  for (int i = 0; i < 50; ++i) readers.push_back(stall_download(mxc));
  EXPECT_EQ(repository().stalled_downloads(), 50u);
  ASSERT_TRUE(fill(mxc, "content"));
  for (const auto& reader : readers) EXPECT_EQ(reader->outcome().content, "content");
  EXPECT_EQ(repository().stalled_downloads(), 0u);
}

TEST_F(DownloadTest, SleepsOnWhenOthersAreFilled) {
  const Mxc mxc = reserve();
  auto reader = stall_download(mxc);
  store("something else");
  reader->await_asleep();
  EXPECT_EQ(repository().stalled_downloads(), 1u);
  ASSERT_TRUE(fill(mxc, "content"));
  EXPECT_EQ(reader->outcome().content, "content");
}

// ---- what there is not ----

TEST_F(DownloadTest, OfUnknownMediaIsNotFoundAtOnce) {
  const Outcome outcome = download(unknown_);
  EXPECT_EQ(outcome.status(), 404);
  EXPECT_EQ(outcome.errcode(), "M_NOT_FOUND");
  EXPECT_FALSE(outcome.report.was_stalled);
}

TEST_F(DownloadTest, OfMediaOfOthersIsNotFoundAtOnce) {
  const Outcome outcome = download(*Mxc::of("elsewhere.org", "id"));
  EXPECT_EQ(outcome.status(), 404);
  EXPECT_EQ(outcome.errcode(), "M_NOT_FOUND");
}

TEST_F(DownloadTest, GivesUpInTime) {
  const Mxc mxc = reserve();
  const SteadyTime began = clock_.steady();
  const Outcome outcome = download(mxc, {.wait = Milliseconds(30)});
  EXPECT_GE(clock_.steady() - began, Milliseconds(30));
  EXPECT_EQ(outcome.status(), 504);
  EXPECT_EQ(outcome.errcode(), "M_NOT_YET_UPLOADED");
  EXPECT_TRUE(outcome.report.was_stalled);
  EXPECT_GT(outcome.report.waited, Milliseconds(0));
  EXPECT_EQ(repository().stalled_downloads(), 0u);
}

TEST_F(DownloadTest, ThatDoesNotWantToWaitIsNotStalled) {
  const Outcome outcome = look(reserve());
  EXPECT_EQ(outcome.status(), 504);
  EXPECT_EQ(outcome.errcode(), "M_NOT_YET_UPLOADED");
  EXPECT_FALSE(outcome.report.was_stalled);
}

TEST_F(DownloadTest, OfMoreMediaThanAreKeptOpenAsksTheCatalogOnce) {
  limits_.max_cached_files = 16;
  std::vector<Mxc> media;
  for (int i = 0; i < 64; ++i) media.push_back(store(std::to_string(i)));
  for (const Mxc& mxc : media) EXPECT_EQ(download(mxc).status(), 200);
  std::atomic<int> lookups = 0;
  catalog_.set_find_hooks({.before = [&](int) { ++lookups; }});
  for (int i = 0; i < 64; ++i) EXPECT_EQ(download(media[static_cast<std::size_t>(i)]).content, std::to_string(i));
  EXPECT_EQ(lookups, 0);
  catalog_.clear_find_hooks();
}

TEST_F(DownloadTest, OfAKnownRecordWhoseFileIsGoneTellsSo) {
  limits_.max_cached_files = 16;
  std::vector<Mxc> media;
  for (int i = 0; i < 64; ++i) media.push_back(store(std::to_string(i)));
  for (const Mxc& mxc : media) EXPECT_EQ(download(mxc).status(), 200);
  std::filesystem::remove_all(directory_ / "blobs");
  EXPECT_TRUE(std::ranges::any_of(media, [&](const Mxc& mxc) { return download(mxc).status() == 404; }));
}

TEST_F(DownloadTest, TellsWhatIsBroken) {
  const Mxc mxc = store("content");
  catalog_.fail_find({500, "M_UNKNOWN", "damaged", {}, false});
  EXPECT_EQ(download(mxc).status(), 500);
  disk_.fail_call(FaultyFileSystem::Call::kOpenRead, 1, EMFILE);
  EXPECT_EQ(download(mxc).status(), 503);
  disk_.fail_call(FaultyFileSystem::Call::kOpenRead, 1, EIO);
  EXPECT_EQ(download(mxc).status(), 500);
  EXPECT_EQ(download(mxc).content, "content");
}

TEST_F(DownloadTest, EndsWhenTheCatalogFailsAfterTheWait) {
  limits_.downloads.live = false;
  const Mxc mxc = reserve();
  auto reader = stall_download(mxc);
  catalog_.fail_find({500, "M_UNKNOWN", "damaged", {}, false});
  reader->caller().signal_unasked()->raise(Wake::kProgress);
  EXPECT_EQ(reader->outcome().status(), 500);
  EXPECT_EQ(repository().stalled_downloads(), 0u);
}

// ---- expiry ----

TEST_F(DownloadTest, OfAnExpiredIdIsNotFoundAtOnce) {
  const Mxc mxc = reserve();
  clock_.advance_wall(limits_.uploads.unused_expiry);
  EXPECT_EQ(download(mxc).status(), 404);
}

// The wall clock of the test stands still, so that only the timer can end the sleep; what woke then sees the time set.
TEST_F(DownloadTest, IsNotFoundAsSoonAsTheIdExpires) {
  constexpr Milliseconds kLeft(40);
  const Mxc mxc = reserve();
  clock_.advance_wall(limits_.uploads.unused_expiry - kLeft);
  const SteadyTime began = clock_.steady();
  auto reader = stall_download(mxc);
  clock_.advance_wall(kLeft);
  const Outcome outcome = reader->outcome();
  EXPECT_EQ(outcome.status(), 404);
  EXPECT_GE(clock_.steady() - began, kLeft) << "before its time";
  EXPECT_LT(clock_.steady() - began, kForever / 2) << "only at its deadline";
}

TEST_F(DownloadTest, OfAnIdThatExpiresWhileItsUploadRunsWaitsOn) {
  constexpr Milliseconds kLeft(20);
  limits_.downloads.live = false;
  const Mxc mxc = reserve();
  auto upload = *begin(mxc);
  ASSERT_TRUE(write(upload, "content"));
  clock_.advance_wall(limits_.uploads.unused_expiry - kLeft);
  auto reader = stall_download(mxc);
  clock_.advance_wall(kLeft);
  reader->caller().await_asked(CallerDouble::kAskedToSleep + 1);  // woken by the expiry, and asleep again
  EXPECT_EQ(repository().stalled_downloads(), 1u);
  auto late = stall_download(mxc);
  ASSERT_TRUE(seal(upload));
  EXPECT_EQ(reader->outcome().content, "content");
  EXPECT_EQ(late->outcome().content, "content");
}

// ---- limits ----

TEST_F(DownloadTest, BeyondTheRoomIsAnsweredAtOnce) {
  limits_.downloads.max_waiting = 2;
  const Mxc mxc = reserve();
  auto first = stall_download(mxc);
  auto second = stall_download(reserve());
  const Outcome outcome = download(mxc);
  EXPECT_EQ(outcome.status(), 504);
  EXPECT_EQ(outcome.errcode(), "M_NOT_YET_UPLOADED");
  EXPECT_FALSE(outcome.report.was_stalled);
  second->caller().leave();
  second->outcome();
  auto third = stall_download(mxc);
  ASSERT_TRUE(fill(mxc, "content"));
  EXPECT_EQ(first->outcome().content, "content");
  EXPECT_EQ(third->outcome().content, "content");
}

TEST_F(DownloadTest, BeyondTheShareOfItsMediaIsAnsweredAtOnce) {
  limits_.downloads.max_waiting_per_media = 1;
  const Mxc mxc = reserve();
  const Mxc other = reserve();
  auto first = stall_download(mxc);
  EXPECT_EQ(download(mxc).errcode(), "M_NOT_YET_UPLOADED");
  auto second = stall_download(other);
  ASSERT_TRUE(fill(mxc, "content"));
  ASSERT_TRUE(fill(other, "content"));
  first->outcome();
  second->outcome();
}

TEST_F(DownloadTest, BeyondTheShareOfItsAddressIsAnsweredAtOnce) {
  limits_.downloads.max_waiting_per_address = 2;
  const Mxc mxc = reserve();
  std::vector<std::unique_ptr<Reader>> readers;
  for (const std::string network : {"192.0.2.1", "192.0.2.1", "192.0.2.2", "", "", ""}) {
    readers.push_back(stall_download(mxc, {.network = network}));
  }
  EXPECT_EQ(download(mxc, {.network = "192.0.2.1"}).errcode(), "M_NOT_YET_UPLOADED");
  const Mxc stored = store("something else");
  EXPECT_EQ(download(stored, {.network = "192.0.2.1"}).content, "something else") << "what is there needs no place";
  ASSERT_TRUE(fill(mxc, "content"));
  for (const auto& reader : readers) EXPECT_EQ(reader->outcome().content, "content");
}

// ---- leaving, stopping ----

TEST_F(DownloadTest, DoesNotAskTheCatalogAgainBecauseItsCallerHasSaidSomething) {
  const Mxc mxc = reserve();
  auto reader = stall_download(mxc);
  std::atomic<int> lookups = 0;
  catalog_.set_find_hooks({.before = [&](int) { ++lookups; }});
  for (int times = 1; times <= 5; ++times) {
    reader->caller().signal_unasked()->raise(Wake::kReadable);
    reader->caller().await_asked(CallerDouble::kAskedToSleep + times);
  }
  EXPECT_EQ(lookups, 0);
  catalog_.clear_find_hooks();
  ASSERT_TRUE(fill(mxc, "content"));
  EXPECT_EQ(reader->outcome().content, "content");
}

TEST_F(DownloadTest, EndsWhenItsCallerLeaves) {
  const Mxc mxc = reserve();
  auto reader = stall_download(mxc);
  auto staying = stall_download(mxc);
  clock_.advance_steady(Milliseconds(1234));
  reader->caller().leave();
  const Outcome outcome = reader->outcome();
  EXPECT_EQ(outcome.status(), 499);
  EXPECT_TRUE(outcome.report.was_stalled);
  EXPECT_GE(outcome.report.waited, Milliseconds(1234)) << "filled in whatever becomes of it";
  EXPECT_EQ(repository().stalled_downloads(), 1u);
  ASSERT_TRUE(fill(mxc, "content"));
  EXPECT_EQ(staying->outcome().content, "content");
}

TEST_F(DownloadTest, NoticesACallerWhoLeftBeforeItFellAsleep) {
  const Mxc mxc = reserve();
  std::unique_ptr<Reader> reader;
  std::latch is_made(1);
  catalog_.set_find_hooks({.before = [&](int lookup) {
    if (lookup != 2) return;
    is_made.wait();
    reader->caller().leave();
  }});
  reader = start_download(mxc);
  is_made.count_down();
  EXPECT_EQ(reader->outcome().status(), 499);
  catalog_.clear_find_hooks();
}

TEST_F(DownloadTest, IsAnsweredWhenTheServerStops) {
  const Mxc mxc = reserve();
  auto reader = stall_download(mxc);
  repository().stop_waiting();
  EXPECT_EQ(reader->outcome().errcode(), "M_NOT_YET_UPLOADED");
  const Outcome late = download(mxc);
  EXPECT_EQ(late.errcode(), "M_NOT_YET_UPLOADED");
  EXPECT_FALSE(late.report.was_stalled);
  ASSERT_TRUE(fill(mxc, "content")) << "transfers under way may finish";
  EXPECT_EQ(download(mxc).content, "content");
}

TEST_F(DownloadTest, IsAnsweredWhenTheServerStopsBeforeItFallsAsleep) {
  const Mxc mxc = reserve();
  catalog_.set_find_hooks({.before = [&](int lookup) {
    if (lookup == 2) repository().stop_waiting();
  }});
  const SteadyTime began = clock_.steady();
  EXPECT_EQ(download(mxc).errcode(), "M_NOT_YET_UPLOADED");
  EXPECT_LT(clock_.steady() - began, kForever / 2);
  catalog_.clear_find_hooks();
}

// ---- waiting for a byte of an upload that has begun ----

Task<transfer::Progress> open_and_wait_for_byte(Repository& repository, DownloadRequest request, CallerDouble& caller,
                                                std::uint64_t offset) {
  WaitReport report;
  const Result<Download> opened = co_await repository.open(request, caller, report);
  const auto follower = repository.follow(std::get<Download::Live>(opened->content), caller.signal_unasked());
  co_await repository.wait_for_byte(*follower, offset, request, caller);
  co_return follower->progress();
}

class WaitForByteTest : public DownloadTest {
 protected:
  void begin_upload() {
    mxc_ = reserve();
    upload_ = *begin(*mxc_);
    ASSERT_TRUE(write(upload_, "0123"));
  }
  std::future<transfer::Progress> wait(std::uint64_t offset, Milliseconds time = kForever) {
    if (!upload_) begin_upload();
    return loop_.start(open_and_wait_for_byte(
        repository(), DownloadRequest{*mxc_, true, clock_.steady() + time, "192.0.2.1"}, caller_, offset));
  }
  /// Waits for the byte at 6; returns once it sleeps.
  std::future<transfer::Progress> wait_asleep() {
    auto progress = wait(6);
    caller_.await_asked(CallerDouble::kAskedToSleep);
    loop_.start(detail::do_nothing()).get();
    EXPECT_EQ(repository().stalled_downloads(), 1u) << "it counts as stalled";
    return progress;
  }

  CallerDouble caller_{loop_.loop()};
  std::optional<Mxc> mxc_;
  UploadPtr upload_;
};

TEST_F(WaitForByteTest, DoesNotWaitForWhatIsThere) { EXPECT_EQ(wait(3).get().readable, 4u); }

TEST_F(WaitForByteTest, EndsWithTheByte) {
  auto progress = wait_asleep();
  ASSERT_TRUE(write(upload_, "45"));
  ASSERT_TRUE(write(upload_, "6"));
  EXPECT_EQ(progress.get().readable, 7u);
  EXPECT_EQ(repository().stalled_downloads(), 0u);
}

TEST_F(WaitForByteTest, EndsWithTheUpload) {
  auto progress = wait_asleep();
  ASSERT_TRUE(seal(upload_));
  EXPECT_EQ(progress.get().state, transfer::State::kWhole);
}

TEST_F(WaitForByteTest, EndsWhenTheUploadBreaks) {
  auto progress = wait_asleep();
  upload_.reset();
  EXPECT_EQ(progress.get().state, transfer::State::kBroken);
}

TEST_F(WaitForByteTest, EndsInTime) {
  const SteadyTime began = clock_.steady();
  EXPECT_EQ(wait(6, Milliseconds(30)).get().readable, 4u);
  EXPECT_GE(clock_.steady() - began, Milliseconds(30));
}

TEST_F(WaitForByteTest, EndsWhenTheCallerLeaves) {
  auto progress = wait_asleep();
  caller_.leave();
  EXPECT_EQ(progress.get().readable, 4u);
}

TEST_F(WaitForByteTest, EndsWhenTheServerStops) {
  auto progress = wait_asleep();
  repository().stop_waiting();
  EXPECT_EQ(progress.get().readable, 4u);
  EXPECT_EQ(wait(6).get().readable, 4u) << "and none begins from then";
}

TEST_F(WaitForByteTest, DoesNotWaitWhereThereIsNoPlace) {
  limits_.downloads.max_waiting_per_address = 0;
  EXPECT_EQ(wait(6).get().readable, 4u);
}

// ---- without a token ----

class UnauthenticatedTest : public DownloadTest {
 protected:
  const DownloadOptions nobody_{.has_token = false, .wait = kForever, .network = ""};
  Outcome download_as_nobody(const Mxc& mxc) { return download(mxc, nobody_); }
};

TEST_F(UnauthenticatedTest, IsServedWhereAllAre) {
  limits_.downloads.unauthenticated = config::UnauthenticatedAccess::kAllow;
  const Mxc mxc = reserve();
  auto reader = stall_download(mxc, nobody_);
  ASSERT_TRUE(fill(mxc, "content"));
  EXPECT_EQ(reader->outcome().content, "content");
  EXPECT_EQ(download_as_nobody(mxc).content, "content");
  EXPECT_EQ(download_as_nobody(unknown_).status(), 404);
}

TEST_F(UnauthenticatedTest, IsRefusedWhereNoneAre) {
  limits_.downloads.unauthenticated = config::UnauthenticatedAccess::kDeny;
  const Mxc mxc = store("content");
  for (const Mxc& asked : {mxc, unknown_, *Mxc::of("elsewhere.org", "id")}) {
    const Outcome outcome = download_as_nobody(asked);
    EXPECT_EQ(outcome.status(), 401);
    EXPECT_EQ(outcome.errcode(), "M_MISSING_TOKEN");
  }
  EXPECT_EQ(download(mxc).content, "content");
}

TEST_F(UnauthenticatedTest, FindsNothingWhereAllIsFrozen) {
  limits_.downloads.unauthenticated = config::UnauthenticatedAccess::kFrozen;
  const Mxc stored = store("content");
  const Mxc reserved = reserve();
  auto upload = *begin(reserved);
  ASSERT_TRUE(write(upload, "content"));
  for (const Mxc& asked : {stored, reserved, reserve(), unknown_}) {
    const Outcome outcome = download_as_nobody(asked);
    EXPECT_EQ(outcome.status(), 404);
    EXPECT_EQ(outcome.errcode(), "M_NOT_FOUND");
    EXPECT_FALSE(outcome.report.was_stalled) << "there is nothing to wait for";
  }
  EXPECT_EQ(download(stored).content, "content");
}

TEST_F(UnauthenticatedTest, FindsWhatWasStoredBeforeTheFreeze) {
  limits_.downloads.unauthenticated = config::UnauthenticatedAccess::kFrozen;
  limits_.downloads.frozen_since = clock_.now() + hours(1);
  const Mxc before = store("before");
  const Mxc reserved_before = reserve();
  clock_.advance_wall(hours(1));
  const Mxc since = store("since");
  ASSERT_TRUE(fill(reserved_before, "reserved before, stored since"));
  EXPECT_EQ(download_as_nobody(before).content, "before");
  EXPECT_EQ(download_as_nobody(since).status(), 404);
  EXPECT_EQ(download_as_nobody(reserved_before).status(), 404);
}

TEST_F(UnauthenticatedTest, MayWaitAndFollowBeforeTheFreeze) {
  limits_.downloads.unauthenticated = config::UnauthenticatedAccess::kFrozen;
  limits_.downloads.frozen_since = clock_.now() + hours(1);
  const Mxc mxc = reserve();
  auto reader = stall_download(mxc, nobody_);
  auto upload = *begin(mxc);
  ASSERT_TRUE(write(upload, "content"));
  reader->await_opened();
  ASSERT_TRUE(seal(upload));
  const Outcome outcome = reader->outcome();
  EXPECT_EQ(outcome.content, "content");
  EXPECT_TRUE(outcome.was_live);
}

TEST_F(UnauthenticatedTest, FindsNothingWhenTheFreezeComesWhileItWaits) {
  limits_.downloads.unauthenticated = config::UnauthenticatedAccess::kFrozen;
  limits_.downloads.frozen_since = clock_.now() + hours(1);
  for (const bool is_live : {true, false}) {
    limits_.downloads.live = is_live;
    close();
    const Mxc mxc = reserve();
    auto reader = stall_download(mxc, nobody_);
    auto other = stall_download(mxc);
    clock_.advance_wall(hours(2));
    ASSERT_TRUE(fill(mxc, "content"));
    EXPECT_EQ(reader->outcome().status(), 404);
    EXPECT_EQ(other->outcome().content, "content");
    clock_.advance_wall(-hours(2));
  }
}

}  // namespace
}  // namespace sluice::repository
