// SPDX-License-Identifier: Apache-2.0
#include "transfer/transfer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/run_on_loop_test.h"

namespace sluice::transfer {
namespace {

std::shared_ptr<Transfer> make_transfer(std::optional<std::uint64_t> size = std::nullopt) {
  return std::make_shared<Transfer>(Description{.content_type = "text/plain", .filename = "", .size = size},
                                    std::make_shared<const FileDescriptor>());
}

std::shared_ptr<Signal> signal_here() { return std::make_shared<Signal>(Loop::current()); }

// What is raised, without sleeping when it is nothing.
Task<bool> has_progress(std::shared_ptr<Signal> signal) {
  signal->raise(Wake::kWritable);
  const WakeSet raised = co_await signal->wait();
  co_return raised.has(Wake::kProgress);
}

// ---- what is readable ----

TEST(Transfer, BeginsWithTheFirstByte) {
  const auto transfer = make_transfer();
  EXPECT_FALSE(transfer->progress().has_begun());
  EXPECT_FALSE(transfer->advance(0));
  EXPECT_FALSE(transfer->progress().has_begun());
  EXPECT_TRUE(transfer->advance(1));
  EXPECT_TRUE(transfer->progress().has_begun());
  EXPECT_FALSE(transfer->advance(2)) << "only the first byte is the first";
  EXPECT_EQ(transfer->progress().readable, 2u);
}

TEST(Transfer, OfUnknownSizeShowsEveryByteAtOnce) {
  const auto transfer = make_transfer();
  transfer->advance(10);
  EXPECT_EQ(transfer->progress().readable, 10u);
  EXPECT_EQ(transfer->progress().state, State::kRunning);
  transfer->finish_whole();
  EXPECT_EQ(transfer->progress().readable, 10u);
  EXPECT_EQ(transfer->progress().state, State::kWhole);
}

TEST(Transfer, OfDeclaredSizeHoldsTheLastByteBackUntilItIsWhole) {
  const auto transfer = make_transfer(10);
  transfer->advance(9);
  EXPECT_EQ(transfer->progress().readable, 9u);
  transfer->advance(10);
  EXPECT_EQ(transfer->progress().readable, 9u);
  transfer->finish_whole();
  EXPECT_EQ(transfer->progress().readable, 10u);
}

TEST(Transfer, MayGetItsFileLate) {
  Transfer transfer({"text/plain", "", std::nullopt, 1}, nullptr);
  EXPECT_FALSE(transfer.progress().has_begun());
  const auto file = std::make_shared<const FileDescriptor>();
  transfer.set_file(file);
  EXPECT_FALSE(transfer.progress().has_begun());
  EXPECT_TRUE(transfer.advance(1));
  EXPECT_EQ(transfer.file(), file);
}

TEST(Transfer, WithoutAFileBreaksOffWithoutHavingBegun) {
  Transfer transfer({"text/plain", "", std::nullopt, 1}, nullptr);
  transfer.break_off();
  EXPECT_FALSE(transfer.progress().has_begun());
}

TEST(Transfer, OfDeclaredSizeThatComesAtOnceIsReadableWhenItIsWhole) {
  const auto transfer = make_transfer(10);
  EXPECT_FALSE(transfer->advance(10));
  EXPECT_FALSE(transfer->progress().has_begun());
  transfer->finish_whole();
  EXPECT_EQ(transfer->progress().readable, 10u);
  const auto broken = make_transfer(10);
  broken->advance(10);
  broken->break_off();
  EXPECT_FALSE(broken->progress().has_begun());
}

TEST(Transfer, OfDeclaredSizeNeverShowsTheLastByteWhenItBreaks) {
  const auto transfer = make_transfer(10);
  transfer->advance(1);
  transfer->advance(10);
  transfer->break_off();
  EXPECT_EQ(transfer->progress().readable, 9u);
  EXPECT_EQ(transfer->progress().state, State::kBroken);
}

TEST(Transfer, OfASingleByteBeginsWhenItIsWhole) {
  const auto transfer = make_transfer(1);
  EXPECT_FALSE(transfer->advance(1));
  EXPECT_FALSE(transfer->progress().has_begun());
  transfer->finish_whole();
  EXPECT_TRUE(transfer->progress().has_begun());
  EXPECT_EQ(transfer->progress().readable, 1u);
}

TEST(Transfer, OfNothingBeginsWhenItIsWhole) {
  for (const std::optional<std::uint64_t> size : {std::optional<std::uint64_t>(0), std::optional<std::uint64_t>()}) {
    const auto transfer = make_transfer(size);
    EXPECT_FALSE(transfer->progress().has_begun());
    transfer->finish_whole();
    EXPECT_TRUE(transfer->progress().has_begun());
    EXPECT_EQ(transfer->progress().readable, 0u);
  }
}

TEST(Transfer, EndsOnce) {
  const auto whole = make_transfer();
  whole->finish_whole();
  whole->break_off();
  EXPECT_EQ(whole->progress().state, State::kWhole);
  const auto broken = make_transfer();
  broken->break_off();
  broken->finish_whole();
  EXPECT_EQ(broken->progress().state, State::kBroken);
}

// ---- who is woken, and when ----

Task<> wake_only_beyond_the_offset() {
  const auto transfer = make_transfer();
  const auto near = signal_here();
  const auto far = signal_here();
  Follower near_follower(transfer, near);
  Follower far_follower(transfer, far);
  near_follower.wake_beyond(0);
  far_follower.wake_beyond(10);

  transfer->advance(10);
  EXPECT_TRUE(co_await has_progress(near));
  EXPECT_FALSE(co_await has_progress(far)) << "10 bytes are not more than 10";
  transfer->advance(11);
  EXPECT_TRUE(co_await has_progress(far));
}

TEST(Follower, IsWokenBeyondItsOffsetOnly) { run_on_loop(wake_only_beyond_the_offset()); }

Task<> wake_once() {
  const auto transfer = make_transfer();
  const auto signal = signal_here();
  Follower follower(transfer, signal);
  transfer->advance(1);
  EXPECT_FALSE(co_await has_progress(signal)) << "nobody asked";
  follower.wake_beyond(1);
  transfer->advance(2);
  EXPECT_TRUE(co_await has_progress(signal));
  transfer->advance(3);
  transfer->finish_whole();
  EXPECT_FALSE(co_await has_progress(signal)) << "asked once, woken twice";
}

TEST(Follower, IsWokenOnceForEachAsking) { run_on_loop(wake_once()); }

Task<> wake_inside_the_call() {
  const auto transfer = make_transfer();
  const auto signal = signal_here();
  Follower follower(transfer, signal);
  transfer->advance(5);
  follower.wake_beyond(5);
  EXPECT_FALSE(co_await has_progress(signal));
  follower.wake_beyond(4);
  EXPECT_TRUE(co_await has_progress(signal)) << "the byte is there already";
  transfer->advance(6);
  EXPECT_FALSE(co_await has_progress(signal)) << "the asking was over";
  transfer->break_off();
  follower.wake_beyond(100);
  EXPECT_TRUE(co_await has_progress(signal)) << "it has ended already";
}

TEST(Follower, IsWokenInsideTheCallWhenThereIsSomethingAlready) { run_on_loop(wake_inside_the_call()); }

Task<> replace_what_was_asked() {
  const auto transfer = make_transfer();
  const auto signal = signal_here();
  Follower follower(transfer, signal);
  follower.wake_beyond(0);
  follower.wake_beyond(7);
  transfer->advance(7);
  EXPECT_FALSE(co_await has_progress(signal));
  transfer->advance(8);
  EXPECT_TRUE(co_await has_progress(signal));
}

TEST(Follower, LastAskingReplacesTheOneBefore) { run_on_loop(replace_what_was_asked()); }

Task<> wake_for_the_last_byte() {
  const auto transfer = make_transfer(10);
  transfer->advance(1);
  const auto signal = signal_here();
  Follower follower(transfer, signal);
  follower.wake_beyond(9);
  transfer->advance(10);
  EXPECT_FALSE(co_await has_progress(signal)) << "the last byte is not to be seen yet";
  transfer->finish_whole();
  EXPECT_TRUE(co_await has_progress(signal));
}

TEST(Follower, IsNotWokenForTheByteThatIsHeldBack) { run_on_loop(wake_for_the_last_byte()); }

Task<> wake_at_the_end(State end) {
  const auto transfer = make_transfer();
  const auto first = signal_here();
  const auto second = signal_here();
  Follower first_follower(transfer, first);
  Follower second_follower(transfer, second);
  first_follower.wake_beyond(1'000);
  second_follower.wake_beyond(0);
  if (end == State::kWhole) {
    transfer->finish_whole();
  } else {
    transfer->break_off();
  }
  EXPECT_TRUE(co_await has_progress(first));
  EXPECT_TRUE(co_await has_progress(second));
  EXPECT_EQ(first_follower.progress().state, end);
}

TEST(Follower, IsWokenWhenTheTransferIsWhole) { run_on_loop(wake_at_the_end(State::kWhole)); }

TEST(Transfer, StaysBrokenWhenAnotherThreadBreaksItOffWhileItGrows) {
  for (int round = 0; round < 1000; ++round) {
    const auto transfer = make_transfer();
    std::jthread other([&] { transfer->break_off(); });
    for (std::uint64_t size = 1; size < 50; ++size) transfer->advance(size);
    other.join();
    const std::uint64_t readable = transfer->progress().readable;
    EXPECT_FALSE(transfer->advance(50));
    transfer->finish_whole();
    EXPECT_EQ(transfer->progress().state, State::kBroken);
    EXPECT_EQ(transfer->progress().readable, readable);
  }
}

TEST(Follower, IsWokenWhenTheTransferBreaks) { run_on_loop(wake_at_the_end(State::kBroken)); }

// ---- coming and going ----

Task<> leave_while_asleep() {
  const auto transfer = make_transfer();
  const auto leaving = signal_here();
  const auto staying = signal_here();
  auto gone = std::make_unique<Follower>(transfer, leaving);
  Follower follower(transfer, staying);
  gone->wake_beyond(0);
  follower.wake_beyond(0);
  gone.reset();
  transfer->advance(1);
  EXPECT_FALSE(co_await has_progress(leaving));
  EXPECT_TRUE(co_await has_progress(staying));
}

TEST(Follower, IsForgottenWhenItIsDestroyed) { run_on_loop(leave_while_asleep()); }

Task<> keep_the_transfer() {
  auto transfer = make_transfer();
  const std::weak_ptr<Transfer> observer = transfer;
  {
    Follower follower(std::move(transfer), signal_here());
    follower.wake_beyond(0);
    EXPECT_FALSE(observer.expired());
    EXPECT_EQ(follower.transfer().description().content_type, "text/plain");
  }
  EXPECT_TRUE(observer.expired());
  co_return;
}

TEST(Follower, KeepsTheTransferAlive) { run_on_loop(keep_the_transfer()); }

Task<> count_followers() {
  const auto count = std::make_shared<std::atomic<std::size_t>>(0);
  const auto transfer = make_transfer();
  {
    const Follower first(transfer, signal_here(), count);
    EXPECT_EQ(*count, 1u);
    const Follower second(transfer, signal_here(), count);
    EXPECT_EQ(*count, 2u);
  }
  EXPECT_EQ(*count, 0u);
  co_return;
}

TEST(Follower, IsCountedWhileItLives) { run_on_loop(count_followers()); }

// ---- by chance, beside a model that is plain ----

/// What a transfer promises, said as simply as can be.
struct Model {
  struct Reader {
    std::optional<std::uint64_t> asked;  // beyond which byte it wants to be woken
    bool is_awake = false;
  };
  std::optional<std::uint64_t> declared;
  std::uint64_t size = 0;
  bool came_at_once = true;
  State state = State::kRunning;
  std::vector<Reader> readers;

  std::uint64_t readable() const {
    const bool holds_back = declared && state != State::kWhole && size == *declared && size > 0;
    if (!holds_back) return size;
    return came_at_once ? 0 : size - 1;
  }
  void wake() {
    for (Reader& reader : readers) {
      if (!reader.asked || (state == State::kRunning && readable() <= *reader.asked)) continue;
      reader.is_awake = true;
      reader.asked.reset();
    }
  }
};

Task<> act_by_chance(unsigned seed) {
  std::minstd_rand random(seed);
  const auto below = [&](std::uint64_t bound) { return random() % bound; };
  Model model;
  const std::uint64_t most = below(3) == 0 ? below(3) : 1 + below(300);
  if (below(2) == 0) model.declared = most;
  const auto transfer = make_transfer(model.declared);
  std::vector<std::pair<std::unique_ptr<Follower>, std::shared_ptr<Signal>>> followers;
  for (int act = 0; act < 500; ++act) {
    const std::uint64_t kind = below(100);
    if (kind < 15) {
      const auto signal = signal_here();
      followers.emplace_back(std::make_unique<Follower>(transfer, signal), signal);
      model.readers.emplace_back();
    } else if (kind < 40 && model.state == State::kRunning) {
      const bool had_begun = model.readable() > 0;
      if (model.size > 0 && model.size < most) model.came_at_once = false;
      model.size = std::min(most, model.size + below(20));
      EXPECT_EQ(transfer->advance(model.size), !had_begun && model.readable() > 0);
      model.wake();
    } else if (kind == 40 && act > 250) {
      const State end = below(2) == 0 ? State::kWhole : State::kBroken;
      if (end == State::kWhole) {
        transfer->finish_whole();
      } else {
        transfer->break_off();
      }
      if (model.state == State::kRunning) model.state = end;
      model.wake();
    } else if (!followers.empty()) {
      const auto which = static_cast<std::ptrdiff_t>(below(followers.size()));
      if (kind < 45) {
        followers.erase(followers.begin() + which);
        model.readers.erase(model.readers.begin() + which);
      } else {
        const std::uint64_t offset = below(2) == 0 ? model.readable() : below(most + 20);
        (followers.begin() + which)->first->wake_beyond(offset);
        (model.readers.begin() + which)->asked = offset;
        model.wake();
      }
    }
    EXPECT_EQ(transfer->progress().readable, model.readable());
    EXPECT_EQ(transfer->progress().state, model.state);
    for (std::size_t i = 0; i < followers.size(); ++i) {
      EXPECT_EQ(co_await has_progress(followers[i].second), std::exchange(model.readers[i].is_awake, false));
    }
    if (::testing::Test::HasFailure()) co_return;
  }
}

TEST(Transfer, DoesWhatAPlainModelDoes) {
  for (unsigned seed = 1; seed <= 60 && !HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    run_on_loop(act_by_chance(seed));
  }
}

// ---- many ----

// Each follower that looked at all the others would make this take minutes under a sanitizer, not milliseconds.
Task<> fall_asleep_among_many() {
  constexpr int kFollowers = 50'000;
  const auto transfer = make_transfer();
  const auto signal = signal_here();
  std::vector<std::unique_ptr<Follower>> followers;
  for (int i = 0; i < kFollowers; ++i) followers.push_back(std::make_unique<Follower>(transfer, signal));
  const SteadyTime began = std::chrono::steady_clock::now();
  for (const auto& follower : followers) follower->wake_beyond(0);
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(3));
  transfer->advance(1);
  EXPECT_TRUE(co_await has_progress(signal));
}

TEST(Follower, FallsAsleepWithoutLookingAtTheOthers) { run_on_loop(fall_asleep_among_many()); }

Task<std::uint64_t> follow_to_the_end(std::shared_ptr<Transfer> transfer, Loop& home) {
  const auto signal = std::make_shared<Signal>(home);
  Follower follower(std::move(transfer), signal);
  std::uint64_t offset = 0;
  for (;;) {
    EXPECT_EQ(&Loop::current(), &home) << "woken on a foreign thread";
    const Progress progress = follower.progress();
    EXPECT_GE(progress.readable, offset) << "bytes went away";
    const bool is_new = progress.readable > offset;
    offset = progress.readable;
    if (progress.state != State::kRunning) co_return offset;
    if (is_new) continue;
    follower.wake_beyond(offset);
    co_await signal->wait();
    EXPECT_TRUE(follower.progress().readable > offset || follower.progress().state != State::kRunning)
        << "woken for nothing";
  }
}

Task<> come_and_go(std::shared_ptr<Transfer> transfer, const std::atomic<bool>& is_over) {
  while (!is_over) {
    Follower follower(transfer, signal_here());
    follower.wake_beyond(follower.progress().readable);
    co_await yield_to_loop();
  }
}

// ---- a crowd behind a fast writer ----

constexpr std::uint64_t kFastSlice = 256 * 1024;

/// Followers who sleep behind a transfer that has woken them all once, so that it knows how many they are.
struct Crowd {
  explicit Crowd(std::size_t size) {
    for (std::size_t i = 0; i < size; ++i) followers.push_back(std::make_unique<Follower>(transfer, signal));
    sleep();
    transfer->advance(1);
    sleep();
  }
  void sleep() {
    for (const auto& follower : followers) follower->wake_beyond(transfer->progress().readable);
  }
  void advance_by(std::uint64_t slice) { transfer->advance(transfer->progress().readable + slice); }

  const std::shared_ptr<Transfer> transfer = make_transfer();
  const std::shared_ptr<Signal> signal = signal_here();
  std::vector<std::unique_ptr<Follower>> followers;
};

Task<> gather_for_a_crowd() {
  Crowd crowd(100);
  EXPECT_TRUE(co_await has_progress(crowd.signal)) << "the first byte is not kept back";
  for (int round = 0; round < 3; ++round) {
    for (int slice = 0; slice < 3; ++slice) {
      crowd.advance_by(kFastSlice);
      EXPECT_FALSE(co_await has_progress(crowd.signal)) << "more comes";
      co_await yield_to_loop();
    }
    crowd.advance_by(kFastSlice);
    EXPECT_TRUE(co_await has_progress(crowd.signal)) << "that is enough";
    crowd.sleep();
  }
}

TEST(Follower, OfACrowdIsWokenOnceMuchHasComeFast) { run_on_loop(gather_for_a_crowd()); }

Task<> wake_a_crowd_when_the_writer_pauses() {
  Crowd crowd(100);
  co_await has_progress(crowd.signal);
  for (int round = 0; round < 3; ++round) {
    crowd.advance_by(kFastSlice);
    EXPECT_FALSE(co_await has_progress(crowd.signal));
    for (int turn = 0; turn < 3; ++turn) co_await yield_to_loop();
    EXPECT_TRUE(co_await has_progress(crowd.signal)) << "nothing came for two turns";
    crowd.sleep();
  }
}

TEST(Follower, OfACrowdIsWokenWhenTheWriterPauses) { run_on_loop(wake_a_crowd_when_the_writer_pauses()); }

Task<> wake_a_crowd_at_once_for(std::function<void(Crowd&)> what) {
  Crowd crowd(100);
  co_await has_progress(crowd.signal);
  crowd.advance_by(kFastSlice);
  what(crowd);
  EXPECT_TRUE(co_await has_progress(crowd.signal));
}

TEST(Follower, OfACrowdIsWokenAtOnceByASmallSlice) {
  run_on_loop(wake_a_crowd_at_once_for([](Crowd& crowd) { crowd.advance_by(16 * 1024); }));
}
TEST(Follower, OfACrowdIsWokenAtOnceByTheEnd) {
  run_on_loop(wake_a_crowd_at_once_for([](Crowd& crowd) { crowd.transfer->finish_whole(); }));
  run_on_loop(wake_a_crowd_at_once_for([](Crowd& crowd) { crowd.transfer->break_off(); }));
}

Task<> wake_few_or_very_many_at_once() {
  for (const std::size_t size : {1U, 10U, 1000U}) {
    Crowd crowd(size);
    co_await has_progress(crowd.signal);
    crowd.advance_by(kFastSlice);
    EXPECT_TRUE(co_await has_progress(crowd.signal)) << size << " followers";
  }
}

TEST(Follower, OfFewOrOfVeryManyIsWokenByEverySlice) { run_on_loop(wake_few_or_very_many_at_once()); }

Task<> follow_and_tell(std::shared_ptr<Transfer> transfer, std::vector<std::atomic<std::uint64_t>>& seen,
                       std::size_t which) {
  const auto signal = signal_here();
  Follower follower(transfer, signal);
  while (follower.progress().state == State::kRunning) {
    seen[which] = follower.progress().readable;
    follower.wake_beyond(seen[which]);
    co_await signal->wait();
  }
}

Task<> write_and_pause(std::shared_ptr<Transfer> transfer, std::vector<std::atomic<std::uint64_t>>& seen) {
  std::uint64_t size = 0;
  for (int round = 0; round < 500; ++round) {
    for (int slice = 0; slice <= round % 7; ++slice) {
      transfer->advance(size += kFastSlice);
      if (round % 2 == 0) co_await yield_to_loop();
    }
    for (const auto& follower : seen) {
      while (follower != size) co_await yield_to_loop();
    }
  }
  transfer->finish_whole();
}

// A lost wake-up shows as a test that hangs, here and below.
TEST(Follower, OfACrowdSeesEveryByteBeforeAPause) {
  LoopThread threads[3];
  const auto transfer = make_transfer();
  std::vector<std::atomic<std::uint64_t>> seen(64);
  std::vector<std::future<void>> ends;
  for (std::size_t i = 0; i < seen.size(); ++i)
    ends.push_back(threads[i % 3].start(follow_and_tell(transfer, seen, i)));
  ends.push_back(threads[0].start(write_and_pause(transfer, seen)));
  for (auto& end : ends) end.get();
}

TEST(Follower, SeesEveryByteAndTheEndWhateverTheWriterDoesMeanwhile) {
  constexpr int kRounds = 30;
  constexpr std::uint64_t kSteps = 100;
  constexpr int kFollowers = 4;
  LoopThread threads[2];
  for (int round = 0; round < kRounds; ++round) {
    const bool is_declared = round % 2 == 0;
    const bool breaks = round % 3 == 0;
    const auto transfer = make_transfer(is_declared ? std::optional(kSteps) : std::nullopt);
    std::atomic<bool> is_over = false;
    std::vector<std::future<std::uint64_t>> ends;
    std::vector<std::future<void>> passers;
    for (LoopThread& thread : threads) {
      for (int i = 0; i < kFollowers; ++i) ends.push_back(thread.start(follow_to_the_end(transfer, thread.loop())));
      passers.push_back(thread.start(come_and_go(transfer, is_over)));
    }
    for (std::uint64_t size = 1; size <= kSteps; ++size) {
      transfer->advance(size);
      if (size % 16 == 0) std::this_thread::yield();
    }
    if (breaks) {
      transfer->break_off();
    } else {
      transfer->finish_whole();
    }
    for (auto& end : ends) EXPECT_EQ(end.get(), is_declared && breaks ? kSteps - 1 : kSteps);
    is_over = true;
    for (auto& passer : passers) passer.get();
  }
}

}  // namespace
}  // namespace sluice::transfer
