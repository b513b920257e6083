// SPDX-License-Identifier: Apache-2.0
#include "thumbnails/thumbnails.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/temporary_directory_test.h"
#include "repository/settable_clock_test.h"
#include "runtime/run_on_loop_test.h"
#include "thumbnails/worker_double_test.h"

namespace sluice::thumbnails {
namespace {

constexpr Variant kSmall{{32, 32, Method::kCrop}, false};
constexpr Variant kLarge{{640, 480, Method::kScale}, false};
constexpr std::string_view kJpegMagic = "\xff\xd8\xff\xe0";

class ThumbnailsTest : public ::testing::Test {
 protected:
  ThumbnailsTest() {
    limits_.program = double_.program();
    limits_.workers = 2;
    limits_.time = std::chrono::seconds(60);  // sanitizers are slow
    limits_.usual_sizes = {kSmall.size, kLarge.size};
  }

  Thumbnails& thumbnails() {
    if (!thumbnails_) {
      auto store = ThumbnailStore::open(files_, random_, directory_ / "thumbnails");
      if (!store) throw std::runtime_error(store.error().message);
      thumbnails_ = std::make_unique<Thumbnails>(
          limits_, *std::move(store), [this](const Sha256Digest&) { return is_referenced_.load(); }, clock_);
    }
    return *thumbnails_;
  }
  void restart() { thumbnails_.reset(); }

  Thumbnails::Source source(const std::string& content) {
    const std::string path = directory_ / ("source" + std::to_string(++sources_));
    auto file = files_.create(path);
    EXPECT_TRUE(files_.write_at(*file, std::as_bytes(std::span(content)), 0));
    return {sha256(content), std::make_shared<const FileDescriptor>(*files_.open_read(path))};
  }

  std::future<Result<Thumbnails::Made>> start(const std::string& content, const Variant& variant = kSmall) {
    return loop_.start(thumbnails().make(source(content), variant));
  }
  Result<Thumbnails::Made> make(const std::string& content, const Variant& variant = kSmall) {
    return start(content, variant).get();
  }
  static std::string bytes(const Result<Thumbnails::Made>& made) {
    if (!made) return made.error().message;
    std::string text((*made)->size, '\0');
    text.resize(static_cast<std::size_t>(::pread((*made)->file->get(), text.data(), text.size(), 0)));
    return text.substr(kJpegMagic.size());
  }
  // A loop does what was posted in its turn: what was started before has come as far as it can.
  void await_queued(std::size_t jobs) {
    loop_.start([]() -> Task<> { co_return; }()).get();
    ASSERT_EQ(thumbnails().queued(), jobs);
  }
  static int status(const Result<Thumbnails::Made>& made) { return made ? 200 : made.error().http_status; }

  const TemporaryDirectory directory_{TemporaryDirectory::in_memory()};
  WorkerDouble double_;
  PosixFileSystem files_;
  SystemRandom random_;
  repository::SettableClock clock_;
  std::atomic<bool> is_referenced_ = true;
  Thumbnails::Limits limits_;
  LoopThread loop_;

 private:
  int sources_ = 0;
  std::unique_ptr<Thumbnails> thumbnails_;
};

TEST_F(ThumbnailsTest, MakesOnceWhatManyAskFor) {
  std::vector<std::future<Result<Thumbnails::Made>>> asked;
  for (int i = 0; i < 50; ++i) asked.push_back(start("make cat"));
  for (auto& one : asked) EXPECT_EQ(bytes(one.get()), "32x32 crop of cat");
  EXPECT_EQ(double_.jobs().size(), 1);
}

TEST_F(ThumbnailsTest, KeepsWhatItMade) {
  const Sha256Digest cat = sha256("make cat");
  EXPECT_EQ(thumbnails().find_hot(cat, kSmall), nullptr);
  EXPECT_EQ(*thumbnails().find(cat, kSmall), nullptr);
  make("make cat");
  EXPECT_EQ(bytes(thumbnails().find_hot(cat, kSmall)), "32x32 crop of cat");
  restart();
  EXPECT_EQ(thumbnails().find_hot(cat, kSmall), nullptr);
  EXPECT_EQ(bytes(thumbnails().find(cat, kSmall)), "32x32 crop of cat");
  EXPECT_EQ(bytes(make("make cat")), "32x32 crop of cat");
  EXPECT_EQ(double_.jobs().size(), 1);
}

TEST_F(ThumbnailsTest, TellsVariantsApart) {
  EXPECT_EQ(bytes(make("make cat", kLarge)), "640x480 of cat");
  EXPECT_EQ(bytes(make("make cat", {kLarge.size, true})), "640x480 animated of cat");
  EXPECT_EQ(bytes(make("make cat")), "32x32 crop of cat");
}

TEST_F(ThumbnailsTest, UsesAWorkerAgain) {
  limits_.workers = 1;
  make("make cat");
  make("make dog");
  std::set<std::string> processes;
  for (const std::string& job : double_.jobs()) processes.insert(job.substr(0, job.find(' ')));
  EXPECT_EQ(double_.jobs().size(), 2);
  EXPECT_EQ(processes.size(), 1);
}

TEST_F(ThumbnailsTest, ServesTheOriginalInItsPlace) {
  const Result<Thumbnails::Made> made = make("serve");
  ASSERT_TRUE(made);
  EXPECT_EQ((*made)->file, nullptr);
  EXPECT_EQ((*made)->format, Format::kPng);
  restart();
  const Result<Thumbnails::Made> found = thumbnails().find(sha256("serve"), kSmall);
  ASSERT_TRUE(found && *found);
  EXPECT_EQ((*found)->file, nullptr);
  EXPECT_EQ((*found)->format, Format::kPng);
}

TEST_F(ThumbnailsTest, RefusesWhatHasNone) {
  EXPECT_EQ(status(make("text")), 400);
  EXPECT_EQ(make("text").error().errcode, "M_UNKNOWN");
  EXPECT_EQ(status(make("broken")), 400);
  EXPECT_EQ(make("large").error(), (Error{413, "M_TOO_LARGE", "Content is too large to thumbnail"}));
}

TEST_F(ThumbnailsTest, RemembersAFailureForAWhile) {
  make("broken");
  make("broken", kLarge);
  EXPECT_EQ(double_.jobs().size(), 1);
  clock_.advance_steady(limits_.failure_age + Milliseconds(1));
  make("broken");
  EXPECT_EQ(double_.jobs().size(), 2);
}

TEST_F(ThumbnailsTest, TriesOneSizeOfWhatCannotBeRead) {
  limits_.workers = 1;
  auto one = start("broken");
  auto another = start("broken", kLarge);
  EXPECT_EQ(status(one.get()), 400);
  EXPECT_EQ(status(another.get()), 400);
  EXPECT_EQ(double_.jobs().size(), 1);
}

TEST_F(ThumbnailsTest, TriesOtherSizesOfWhatItCouldNotServe) {
  make("lie");
  make("lie", kLarge);
  EXPECT_EQ(double_.jobs().size(), 2);
}

TEST_F(ThumbnailsTest, KeepsRoomForThoseWhoWait) {
  limits_.workers = 1;
  limits_.max_queued = 4;
  limits_.time = std::chrono::seconds(2);
  auto hanging = start("hang");
  while (double_.jobs().empty()) std::this_thread::yield();
  for (int i = 0; i < 10; ++i) thumbnails().make_later(source("make " + std::to_string(i)), kSmall);
  EXPECT_EQ(thumbnails().queued(), 2);
  auto waiting = start("make cat");
  EXPECT_EQ(status(hanging.get()), 400);
  EXPECT_EQ(bytes(waiting.get()), "32x32 crop of cat");
}

TEST_F(ThumbnailsTest, OutlivesAWorkerThatCrashes) {
  EXPECT_EQ(status(make("crash")), 400);
  EXPECT_EQ(bytes(make("make cat")), "32x32 crop of cat");
}

TEST_F(ThumbnailsTest, EndsAWorkerThatTakesTooLong) {
  limits_.time = std::chrono::seconds(1);
  EXPECT_EQ(status(make("hang")), 400);
  EXPECT_EQ(status(make("spin")), 400);
  EXPECT_EQ(bytes(make("make cat")), "32x32 crop of cat");
}

TEST_F(ThumbnailsTest, WaitsForNobodyWhenItEnds) {
  limits_.time = std::chrono::hours(1);
  limits_.workers = 1;
  auto hanging = start("hang");
  auto waiting = start("make cat");
  while (double_.jobs().empty()) std::this_thread::yield();
  restart();
  EXPECT_EQ(status(hanging.get()), 400);
  EXPECT_EQ(status(waiting.get()), 503);
}

TEST_F(ThumbnailsTest, DoesNotBelieveAWorker) {
  EXPECT_EQ(status(make("lie")), 400);
  EXPECT_EQ(status(make("babble")), 400);
  EXPECT_EQ(status(make("keep")), 400) << "it could change the picture later";
  EXPECT_EQ(bytes(make("make cat")), "32x32 crop of cat");
}

TEST_F(ThumbnailsTest, RefusesWhatTheQueueHasNoRoomFor) {
  limits_.workers = 1;
  limits_.max_queued = 2;
  limits_.time = std::chrono::seconds(2);
  auto hanging = start("hang");
  auto waiting = start("make cat");
  await_queued(2);
  const Result<Thumbnails::Made> refused = make("make dog");
  EXPECT_EQ(status(refused), 429);
  EXPECT_TRUE(refused.error().retry_after);
  EXPECT_EQ(status(hanging.get()), 400);
  EXPECT_EQ(bytes(waiting.get()), "32x32 crop of cat");
  EXPECT_EQ(thumbnails().queued(), 0);
}

TEST_F(ThumbnailsTest, RefusesWhatWaitedTooLong) {
  limits_.workers = 1;
  limits_.time = std::chrono::seconds(2);
  auto hanging = start("hang");
  auto waiting = start("make cat");
  while (double_.jobs().empty()) std::this_thread::yield();  // until it hangs
  clock_.advance_steady(limits_.queue_time + Milliseconds(1));
  EXPECT_EQ(status(waiting.get()), 429);
  EXPECT_EQ(status(hanging.get()), 400);
  EXPECT_EQ(bytes(make("make cat")), "32x32 crop of cat") << "a crowd is not the content's fault";
}

TEST_F(ThumbnailsTest, KeepsFewOfSizesThatAreNotUsual) {
  for (std::uint32_t i = 0; i < 70; ++i) {
    EXPECT_EQ(status(make("make cat", {{100 + i, 100, Method::kCrop}, false})), 200);
  }
  restart();
  std::size_t kept = 0;
  for (std::uint32_t i = 0; i < 70; ++i) {
    kept += *thumbnails().find(sha256("make cat"), {{100 + i, 100, Method::kCrop}, false}) != nullptr ? 1 : 0;
  }
  EXPECT_EQ(kept, 64);
  EXPECT_EQ(bytes(make("make cat")), "32x32 crop of cat");
  EXPECT_NE(*thumbnails().find(sha256("make cat"), kSmall), nullptr) << "usual ones always";
}

TEST_F(ThumbnailsTest, RemovesWhatItKept) {
  make("make cat");
  make("make cat", kLarge);
  make("make dog");
  thumbnails().remove(sha256("make cat"));
  EXPECT_EQ(thumbnails().find_hot(sha256("make cat"), kSmall), nullptr);
  EXPECT_EQ(*thumbnails().find(sha256("make cat"), kLarge), nullptr);
  EXPECT_NE(*thumbnails().find(sha256("make dog"), kSmall), nullptr);
}

TEST_F(ThumbnailsTest, KeepsNothingOfWhatWasDeletedMeanwhile) {
  is_referenced_ = false;
  EXPECT_EQ(bytes(make("make cat")), "32x32 crop of cat");
  EXPECT_EQ(thumbnails().find_hot(sha256("make cat"), kSmall), nullptr);
  EXPECT_EQ(*thumbnails().find(sha256("make cat"), kSmall), nullptr);
}

TEST_F(ThumbnailsTest, Describes) {
  const Result<Description> description = loop_.start(thumbnails().describe(source("make cat"))).get();
  ASSERT_TRUE(description);
  EXPECT_EQ(description->width, 640);
  EXPECT_EQ(description->height, 480);
  EXPECT_EQ(description->duration, Milliseconds(1500));
  EXPECT_EQ(description->blurhash, "LEHV6nWB2yk8pyo0adR*.7kCMdnj");
  EXPECT_FALSE(loop_.start(thumbnails().describe(source("text"))).get());
}

TEST_F(ThumbnailsTest, SaysWhyItCannotStart) {
  limits_.needs_every_layer = true;
  const WorkerDouble no_landlock("13");
  limits_.program = no_landlock.program();
  EXPECT_FALSE(thumbnails().start());
  EXPECT_EQ(status(make("make cat")), 503);
  restart();
  limits_.needs_every_layer = false;
  EXPECT_TRUE(thumbnails().start());
  EXPECT_EQ(status(make("make cat")), 200);
  restart();
  const WorkerDouble of_tomorrow("15", "2");
  limits_.program = of_tomorrow.program();
  EXPECT_EQ(status(make("make dog")), 503);
  restart();
  limits_.program = directory_ / "nothing";
  EXPECT_EQ(status(make("make dog")), 503);
}

TEST(WorkerTest, NamesTheLayersThatAreMissing) {
  EXPECT_EQ(missing_layers(kAllLayers), "");
  EXPECT_EQ(missing_layers(kAllLayers & ~static_cast<std::uint32_t>(Layer::kLandlock)), "Landlock");
  EXPECT_EQ(missing_layers(0), "dropped privileges, Landlock, seccomp, a limit on memory");
}

}  // namespace
}  // namespace sluice::thumbnails
