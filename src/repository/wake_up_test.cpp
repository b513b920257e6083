// SPDX-License-Identifier: Apache-2.0
// No wake-up is lost: a download ends with the content at whatever moment of its way to sleep the upload comes.
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "repository/repository_fixture_test.h"

namespace sluice::repository {
namespace {

// The moments of a download's way to sleep at which others can step in: before and after each of its looks at the
// catalog, and each time it asks for its signal (taking its ticket, making its deadline, going to sleep). The first two
// looks are made awake; the third one because the test wakes it for no reason.
const std::vector<std::string> kMoments = {"look",   "looked", "ask",  "ask",    "look",
                                           "looked", "ask",    "look", "looked", "ask"};
constexpr int kDeadlineMade = 4;
const int kLast = static_cast<int>(kMoments.size());
const int kAsleep = kLast + 1;

/// What others do, and at which moment of the download.
class Schedule {
 public:
  struct Step {
    int moment;
    std::function<void()> act;
  };

  explicit Schedule(std::vector<Step> steps) : steps_(std::move(steps)) {}

  /// The next moment has come: does what is scheduled for it before the download goes on. What is reached while others
  /// act is their own doing, and no moment.
  void reach_next_moment(std::string_view name) {
    {
      const std::lock_guard lock(mutex_);
      if (is_opened_ || is_acting_ || moment_ == kLast) return;
      EXPECT_EQ(kMoments[static_cast<std::size_t>(moment_++)], name) << "the list above is not right any more";
      is_acting_ = true;
    }
    act_until(moment());
  }
  void note_opened() {
    const std::lock_guard lock(mutex_);
    is_opened_ = true;
    reached_.notify_all();
  }
  /// Waits until the download has passed its last moment or has been opened early.
  void await_last_moment() {
    std::unique_lock lock(mutex_);
    reached_.wait(lock, [this] { return is_opened_ || (moment_ == kLast && !is_acting_); });
  }
  /// Does what is left.
  void finish() {
    {
      const std::lock_guard lock(mutex_);
      is_acting_ = true;
    }
    act_until(kAsleep);
  }
  int moment() const {
    const std::lock_guard lock(mutex_);
    return moment_;
  }

 private:
  void act_until(int moment) {
    for (; next_ < steps_.size() && steps_[next_].moment <= moment; ++next_) steps_[next_].act();
    const std::lock_guard lock(mutex_);
    is_acting_ = false;
    reached_.notify_all();
  }

  mutable std::mutex mutex_;
  std::condition_variable reached_;
  std::vector<Step> steps_;
  std::size_t next_ = 0;  // used by one at a time: who acts
  int moment_ = 0;
  bool is_acting_ = false;
  bool is_opened_ = false;
};

// Every way to lay so many acts on the moments in their order.
void for_each_schedule(std::size_t acts, const std::function<void(const std::vector<int>& moments)>& run) {
  std::vector<int> moments(acts, 1);
  for (;;) {
    run(moments);
    std::size_t i = moments.size();
    while (i > 0 && moments[i - 1] == kAsleep) --i;
    if (i == 0) return;
    const int next = moments[i - 1] + 1;
    for (std::size_t k = i - 1; k < moments.size(); ++k) moments[k] = next;
  }
}

class WakeUpTest : public RepositoryTest {
 protected:
  /// One download of `mxc`, with `steps` done at their moments.
  Outcome download_amid(const Mxc& mxc, std::vector<Schedule::Step> steps) {
    Schedule schedule(std::move(steps));
    catalog_.set_find_hooks({.before = [&](int) { schedule.reach_next_moment("look"); },
                             .after = [&](int) { schedule.reach_next_moment("looked"); }});
    const auto on_asked = [&](Signal& signal) {
      schedule.reach_next_moment("ask");
      if (schedule.moment() == kDeadlineMade) signal.raise(Wake::kProgress);  // for the third look
    };
    const SteadyTime began = clock_.steady();
    Reader reader(loop_, repository(), DownloadRequest{mxc, true, began + kForever, ""}, on_asked,
                  [&] { schedule.note_opened(); });
    schedule.await_last_moment();
    loop_.start(detail::do_nothing()).get();  // if it was going to sleep, it sleeps now
    schedule.finish();
    Outcome outcome = reader.outcome();
    catalog_.clear_find_hooks();
    EXPECT_LT(clock_.steady() - began, kForever / 2) << "it slept until its deadline";
    return outcome;
  }

  // What others do. It must succeed.

  using Act = std::function<void()>;

  struct Attempt {
    std::string content;
    UploadPtr upload;
  };
  Act begin_of(Attempt& attempt, const Mxc& mxc) {
    return [this, &attempt, mxc] {
      auto begun = begin(mxc);
      ASSERT_TRUE(begun) << begun.error().message;
      attempt.upload = *std::move(begun);
    };
  }
  Act write_of(Attempt& attempt) {
    return [this, &attempt] { ASSERT_TRUE(write(attempt.upload, attempt.content)); };
  }
  Act seal_of(Attempt& attempt) {
    return [this, &attempt] {
      ASSERT_TRUE(seal(attempt.upload));
      attempt.upload.reset();
    };
  }
  static Act break_of(Attempt& attempt) {
    return [&attempt] { attempt.upload.reset(); };
  }
  Act expiry() {
    return [this] { clock_.advance_wall(limits_.uploads.unused_expiry); };
  }
  static Act in_one_transaction(std::vector<Act> acts) {
    return [acts = std::move(acts)] {
      for (const Act& act : acts) act();
    };
  }

  void expect_content(const Outcome& outcome, const std::string& content) {
    EXPECT_EQ(outcome.errcode(), "");
    EXPECT_EQ(outcome.content, content);
    EXPECT_TRUE(outcome.is_whole);
    EXPECT_EQ(repository().stalled_downloads(), 0u);
  }

  /// Every schedule of the acts that `make_acts` makes for an id, each on an id of its own.
  void for_each_interleaving(std::size_t count, const std::function<std::vector<Act>(const Mxc& mxc)>& make_acts,
                             const std::function<void(const Outcome&)>& check) {
    for_each_schedule(count, [&](const std::vector<int>& moments) {
      if (HasFailure()) return;
      const Mxc mxc = reserve();
      std::vector<Act> acts = make_acts(mxc);
      std::vector<Schedule::Step> steps;
      for (std::size_t i = 0; i < count; ++i) steps.push_back({moments[i], std::move(acts[i])});
      SCOPED_TRACE("at the moments " + ::testing::PrintToString(moments));
      check(download_amid(mxc, std::move(steps)));
    });
  }

  void expect_one_attempt_is_seen(std::size_t count,
                                  const std::function<std::vector<Act>(Attempt&, const Mxc&)>& make_acts) {
    Attempt attempt{.content = "one whole upload", .upload = nullptr};
    for_each_interleaving(
        count, [&](const Mxc& mxc) { return make_acts(attempt, mxc); },
        [&](const Outcome& outcome) { expect_content(outcome, attempt.content); });
  }
  void expect_upload_is_seen() {
    expect_one_attempt_is_seen(3, [this](Attempt& attempt, const Mxc& mxc) {
      return std::vector<Act>{begin_of(attempt, mxc), write_of(attempt), seal_of(attempt)};
    });
  }
  void expect_empty_upload_is_seen() {
    expect_one_attempt_is_seen(2, [this](Attempt& attempt, const Mxc& mxc) {
      attempt.content.clear();
      return std::vector<Act>{begin_of(attempt, mxc), seal_of(attempt)};
    });
  }
  void expect_upload_that_expires_at_its_end_is_seen() {
    expect_one_attempt_is_seen(3, [this](Attempt& attempt, const Mxc& mxc) {
      return std::vector<Act>{in_one_transaction({begin_of(attempt, mxc), write_of(attempt)}), seal_of(attempt),
                              expiry()};
    });
  }
  void expect_upload_that_expires_at_its_beginning_is_seen() {
    expect_one_attempt_is_seen(3, [this](Attempt& attempt, const Mxc& mxc) {
      return std::vector<Act>{begin_of(attempt, mxc), expiry(),
                              in_one_transaction({write_of(attempt), seal_of(attempt)})};
    });
  }
  // A live reader may have met the first attempt; then it knows that it is not the whole.
  void expect_second_attempt_is_seen() {
    Attempt first{.content = "what breaks off", .upload = nullptr};
    Attempt second{.content = "the second attempt", .upload = nullptr};
    for_each_interleaving(
        3,
        [&](const Mxc& mxc) {
          return std::vector<Act>{in_one_transaction({begin_of(first, mxc), write_of(first)}), break_of(first),
                                  in_one_transaction({begin_of(second, mxc), write_of(second), seal_of(second)})};
        },
        [&](const Outcome& outcome) {
          if (limits_.downloads.live && !outcome.is_whole) {
            EXPECT_EQ(outcome.errcode(), "");
            EXPECT_EQ(outcome.content, first.content);
          } else {
            expect_content(outcome, second.content);
          }
        });
  }
};

class WakeUpTestNotLive : public WakeUpTest {
 protected:
  WakeUpTestNotLive() { limits_.downloads.live = false; }
};

TEST_F(WakeUpTest, SeesAnUploadWheneverItComes) { expect_upload_is_seen(); }
TEST_F(WakeUpTestNotLive, SeesAnUploadWheneverItComes) { expect_upload_is_seen(); }

TEST_F(WakeUpTest, SeesAnEmptyUploadWheneverItComes) { expect_empty_upload_is_seen(); }

TEST_F(WakeUpTest, SeesTheAttemptAfterABrokenOneWheneverTheyCome) { expect_second_attempt_is_seen(); }
TEST_F(WakeUpTestNotLive, SeesTheAttemptAfterABrokenOneWheneverTheyCome) { expect_second_attempt_is_seen(); }

TEST_F(WakeUpTest, SeesAnUploadWhoseIdExpiresWhileItRuns) { expect_upload_that_expires_at_its_beginning_is_seen(); }
TEST_F(WakeUpTestNotLive, SeesAnUploadWhoseIdExpiresWhileItRuns) {
  expect_upload_that_expires_at_its_beginning_is_seen();
}

TEST_F(WakeUpTest, SeesAnUploadWhoseIdExpiresAsItEnds) { expect_upload_that_expires_at_its_end_is_seen(); }
TEST_F(WakeUpTestNotLive, SeesAnUploadWhoseIdExpiresAsItEnds) { expect_upload_that_expires_at_its_end_is_seen(); }

// The id that expires while its upload runs, if that breaks: nobody need wait any longer.
TEST_F(WakeUpTest, LearnsThatAnIdHasExpiredWhenItsUploadBreaks) {
  Attempt attempt{.content = "what breaks off", .upload = nullptr};
  for_each_interleaving(
      3, [&](const Mxc& mxc) { return std::vector<Act>{begin_of(attempt, mxc), expiry(), break_of(attempt)}; },
      [&](const Outcome& outcome) { EXPECT_EQ(outcome.status(), 404); });
}

// ---- by chance, as it comes ----

Task<> upload_whole(Repository& repository, Mxc mxc, int delay, std::atomic<bool>& is_go) {
  while (!is_go) co_await yield_to_loop();
  for (int i = 0; i < delay; ++i) co_await yield_to_loop();
  auto upload = co_await repository.begin_upload(kAlice, {.server_name = mxc.server_name(),
                                                          .media_id = mxc.media_id(),
                                                          .content_type = "",
                                                          .filename = "",
                                                          .content_length = {}});
  EXPECT_TRUE(upload);
  if (!upload) co_return;
  EXPECT_TRUE((*upload)->write(std::as_bytes(std::span(mxc.media_id()))));
  EXPECT_TRUE(co_await (*upload)->seal());
}

void race_downloads_and_one_upload(Repository& repository, const std::function<Mxc()>& reserve, LoopThread& loop,
                                   LoopThread& uploading_loop, std::size_t downloads) {
  constexpr int kRounds = 300;
  for (int round = 0; round < kRounds; ++round) {
    const Mxc mxc = reserve();
    std::atomic<bool> is_go = false;
    const SteadyTime began = std::chrono::steady_clock::now();
    auto upload = uploading_loop.start(upload_whole(repository, mxc, round % 50, is_go));
    std::vector<std::unique_ptr<Reader>> readers;
    is_go = true;
    for (std::size_t i = 0; i < downloads; ++i) {
      readers.push_back(std::make_unique<Reader>(loop, repository, DownloadRequest{mxc, true, began + kForever, ""}));
    }
    for (const auto& reader : readers) {
      const Outcome outcome = reader->outcome();
      EXPECT_EQ(outcome.errcode(), "");
      EXPECT_EQ(outcome.content, mxc.media_id());
      EXPECT_TRUE(outcome.is_whole);
    }
    upload.get();
    ASSERT_LT(std::chrono::steady_clock::now() - began, kForever / 2) << "a download slept until its deadline";
  }
  EXPECT_EQ(repository.stalled_downloads(), 0u);
  EXPECT_EQ(repository.live_followers(), 0u);
}

TEST_F(WakeUpTest, LosesNoneWhenADownloadRacesAnUpload) {
  race_downloads_and_one_upload(repository(), [this] { return reserve(); }, loop_, uploading_loop_, 1);
}

TEST_F(WakeUpTest, LosesNoneWhenManyDownloadsRaceAnUpload) {
  race_downloads_and_one_upload(repository(), [this] { return reserve(); }, loop_, uploading_loop_, 16);
}

TEST_F(WakeUpTestNotLive, LosesNoneWhenADownloadRacesAnUpload) {
  race_downloads_and_one_upload(repository(), [this] { return reserve(); }, loop_, uploading_loop_, 1);
}

}  // namespace
}  // namespace sluice::repository
