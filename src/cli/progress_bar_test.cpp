// SPDX-License-Identifier: Apache-2.0
#include "cli/progress_bar.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

#include "base/file_system.h"
#include "base/temporary_directory_test.h"
#include "base/text.h"

namespace sluice::cli {
namespace {

using std::chrono::milliseconds;

class SteppedClock final : public Clock {
 public:
  WallTime now() const override { return WallTime{}; }
  SteadyTime steady() const override { return time_; }
  void advance(Milliseconds by) { time_ += by; }

 private:
  SteadyTime time_{};
};

Progress half_of_a_photo() {
  return {.label = "photo.jpg",
          .bytes = 5 << 20,
          .total = 10 << 20,
          .bytes_per_second = 1 << 20,
          .state = ProgressState::kRunning};
}

TEST(FormatProgress, TellsShareSizeSpeedAndTimeLeft) {
  EXPECT_EQ(format_progress(half_of_a_photo(), 79),
            "photo.jpg   50%  [========>        ]  5.0 MiB of 10.0 MiB  1.0 MiB/s  0:05 left");
}

TEST(FormatProgress, WithoutATotalTellsWhatCameAndThatItIsLive) {
  Progress progress = half_of_a_photo();
  progress.total.reset();
  progress.state = ProgressState::kLive;
  EXPECT_EQ(format_progress(progress, 79), "photo.jpg  5.0 MiB  1.0 MiB/s  live");
}

TEST(FormatProgress, TellsThatItWaitsAndThatItIsDone) {
  Progress progress = half_of_a_photo();
  progress.state = ProgressState::kWaiting;
  EXPECT_EQ(format_progress(progress, 79), "photo.jpg  waiting for the upload to begin");
  progress.state = ProgressState::kDone;
  EXPECT_EQ(format_progress(progress, 79), "photo.jpg  5.0 MiB  1.0 MiB/s  done");
}

TEST(FormatProgress, LeavesOutSpeedAndTimeWhileNothingIsKnownOfThem) {
  Progress progress = half_of_a_photo();
  progress.bytes_per_second = 0;
  EXPECT_EQ(format_progress(progress, 60), "photo.jpg   50%  [==========>         ]  5.0 MiB of 10.0 MiB");
}

TEST(FormatProgress, TellsLongTimesInHoursAndVeryLongOnesNotAtAll) {
  Progress progress = half_of_a_photo();
  progress.bytes_per_second = 1024;
  EXPECT_NE(format_progress(progress, 79).find("1:25:20 left"), std::string::npos);
  progress.bytes_per_second = 1;
  progress.total = std::uint64_t{1} << 60;
  EXPECT_NE(format_progress(progress, 79).find("over 99h left"), std::string::npos);
}

TEST(FormatProgress, AnEmptyFileIsWholeFromTheStart) {
  const Progress progress{.label = "empty", .bytes = 0, .total = 0};
  EXPECT_NE(format_progress(progress, 79).find("100%"), std::string::npos);
}

TEST(FormatProgress, NeverGrowsWiderThanItsLineWhateverTheName) {
  Progress progress = half_of_a_photo();
  progress.label = "Ein sehr langer Name für eine ganz kleine Datei.jpg";
  for (std::size_t columns = 0; columns < 120; ++columns) {
    const std::string line = format_progress(progress, columns);
    EXPECT_TRUE(is_utf8(line)) << columns;
    const auto shown = std::ranges::count_if(line, [](char c) { return (c & 0xC0) != 0x80; });
    EXPECT_LE(static_cast<std::size_t>(shown), columns);
  }
}

TEST(FormatProgress, CutsWideCharactersWhole) {
  Progress progress = half_of_a_photo();
  progress.label = "写真写真写真写真写真写真写真写真.jpg";
  const std::string line = format_progress(progress, 60);
  EXPECT_TRUE(is_utf8(line));
  EXPECT_TRUE(line.starts_with("写真写真写真写真…  ")) << line;  // eight wide ones and an ellipsis in 17 columns
}

TEST(Printable, DefusesWhatATerminalWouldObey) {
  EXPECT_EQ(printable("plain ünï写"), "plain ünï写");
  EXPECT_EQ(printable("a\x1b[2Jb\r\n"), "a?[2Jb??");
  EXPECT_EQ(printable("gpj.\u202Eexe"), "gpj.?exe");
  EXPECT_EQ(printable("\xff\xc3"), "??");
}

TEST(RateMeter, MeasuresTheLastSeconds) {
  RateMeter meter;
  SteadyTime time{};
  meter.add(time, 0);
  EXPECT_EQ(meter.bytes_per_second(), 0);
  for (std::uint64_t second = 1; second <= 10; ++second) meter.add(time += milliseconds(1000), second * 100);
  EXPECT_DOUBLE_EQ(meter.bytes_per_second(), 100);
  for (int second = 1; second <= 10; ++second) meter.add(time += milliseconds(1000), 1000);
  EXPECT_EQ(meter.bytes_per_second(), 0);
}

TEST(RateMeter, BeginsAnewWhenTheCountGoesBack) {
  RateMeter meter;
  SteadyTime time{};
  meter.add(time, 1'000'000);
  meter.add(time += milliseconds(1000), 10);
  meter.add(time += milliseconds(1000), 30);
  EXPECT_DOUBLE_EQ(meter.bytes_per_second(), 20);
}

class ProgressBarTest : public testing::Test {
 protected:
  std::string written() const {
    std::string text(1 << 16, '\0');
    const ssize_t size = ::pread(file_.get(), text.data(), text.size(), 0);
    text.resize(static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
    return text;
  }
  ProgressBar::Target target(bool is_terminal, bool quiet = false) const {
    return {.descriptor = file_.get(), .is_terminal = is_terminal, .quiet = quiet};
  }

  TemporaryDirectory directory_;
  FileDescriptor file_{::open((directory_ / "said").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
  SteppedClock clock_;
};

TEST_F(ProgressBarTest, RedrawsAtMostTenTimesASecond) {
  ProgressBar bar(target(true), clock_);
  for (std::uint64_t i = 0; i < 1000; ++i, clock_.advance(milliseconds(1))) bar.update(i);
  const std::string text = written();
  EXPECT_EQ(std::ranges::count(text, '\r'), 10);
}

TEST_F(ProgressBarTest, TakesItsLineAwayBeforeItSaysSomething) {
  ProgressBar bar(target(true), clock_);
  bar.update(1);
  bar.note("trying again");
  EXPECT_TRUE(written().ends_with("\r\x1b[Ktrying again\n"));
}

TEST_F(ProgressBarTest, OffATerminalItSaysOnlyThatItWaitsAndWhatItDid) {
  {
    ProgressBar bar(target(false), clock_);
    bar.set_state(ProgressState::kWaiting);
    bar.set_state(ProgressState::kRunning);
    clock_.advance(milliseconds(2000));
    bar.update(4096);
    bar.set_state(ProgressState::kWaiting);
    bar.finish("photo.jpg");
  }
  EXPECT_EQ(written(), "waiting for the upload to begin\nphoto.jpg: 4.0 KiB in 2.0s (2.0 KiB/s), done\n");
}

TEST_F(ProgressBarTest, WhenQuietItSaysOnlyWhatWentWrong) {
  {
    ProgressBar bar(target(true, true), clock_);
    bar.set_state(ProgressState::kWaiting);
    bar.update(1);
    bar.note("trying again");
    bar.finish("photo.jpg");
    bar.error("sluice get: gave up");
  }
  EXPECT_EQ(written(), "sluice get: gave up\n");
}

}  // namespace
}  // namespace sluice::cli
