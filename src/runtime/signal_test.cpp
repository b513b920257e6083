// SPDX-License-Identifier: Apache-2.0
#include "runtime/signal.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/run_on_loop_test.h"

namespace sluice {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;

constexpr int kRounds = 50'000;

SteadyTime now() { return std::chrono::steady_clock::now(); }

std::shared_ptr<Signal> signal_here() { return std::make_shared<Signal>(Loop::current()); }

// What is raised, without sleeping when it is nothing.
Task<WakeSet> look(std::shared_ptr<Signal> signal) {
  signal->raise(Wake::kWritable);
  co_return co_await signal->wait();
}

Task<void> yield_often(int times) {
  for (int i = 0; i < times; ++i) co_await yield_to_loop();
}

Task<void> wait_after_raise() {
  const auto signal = signal_here();
  signal->raise(Wake::kReadable);
  signal->raise(Wake::kProgress);
  signal->raise(Wake::kProgress);

  const WakeSet raised = co_await signal->wait();
  EXPECT_TRUE(raised.has(Wake::kReadable));
  EXPECT_TRUE(raised.has(Wake::kProgress));
  EXPECT_FALSE(raised.has(Wake::kWritable));
  EXPECT_FALSE(raised.has(Wake::kDeadline));

  signal->raise(Wake::kDeadline);
  const WakeSet after = co_await signal->wait();
  EXPECT_TRUE(after.has(Wake::kDeadline));
  EXPECT_FALSE(after.has(Wake::kReadable)) << "what was returned is forgotten";
}

TEST(Signal, WaitReturnsAtOnceWhatWasRaisedBefore) { run_on_loop(wait_after_raise()); }

Task<void> raise_when_run(std::shared_ptr<Signal> signal, Wake reason) {
  co_await yield_to_loop();
  signal->raise(reason);
}

Task<void> wait_for_own_loop() {
  const auto signal = signal_here();
  spawn(raise_when_run(signal, Wake::kReadable));
  spawn(raise_when_run(signal, Wake::kProgress));  // before the waiter that the first one woke can look
  const WakeSet raised = co_await signal->wait();
  EXPECT_TRUE(raised.has(Wake::kReadable));
  EXPECT_TRUE(raised.has(Wake::kProgress));
}

TEST(Signal, WakesFromItsOwnLoopWithAllThatWasRaisedMeanwhile) { run_on_loop(wait_for_own_loop()); }

Task<bool> wait_and_tell_place(std::shared_ptr<Signal> signal, Loop& home) {
  co_await signal->wait();
  co_return &Loop::current() == &home;
}

TEST(Signal, WakesOnTheWaitersLoop) {
  LoopThread thread;
  const auto signal = std::make_shared<Signal>(thread.loop());
  auto result = thread.start(wait_and_tell_place(signal, thread.loop()));
  thread.start(yield_often(1)).get();  // now it sleeps
  std::thread([signal] { signal->raise(Wake::kReadable); }).join();
  EXPECT_TRUE(result.get());
}

TEST(Signal, RaiseWithoutAWaiterIsKept) {
  LoopThread thread;
  const auto signal = std::make_shared<Signal>(thread.loop());
  signal->raise(Wake::kReadable);
  EXPECT_TRUE(thread.start(wait_and_tell_place(signal, thread.loop())).get());
}

// One round at a time: each raiser raises its own reason once, and the waiter begins the next round when it has had
// all of them. The raisers spin, so a raise comes as soon as the waiter is on its way to sleep: before it looks,
// between looking and parking, and just after. A lost raise hangs; one too many shows as a reason of the next round.
struct Rounds {
  std::atomic<int> round = 0;
  std::atomic<int> raised = 0;
};

void raise_each_round(Rounds& rounds, const std::shared_ptr<Signal>& signal, Wake reason) {
  for (int i = 1; i <= kRounds; ++i) {
    while (rounds.round.load() < i) std::this_thread::yield();
    rounds.raised.fetch_add(1);
    signal->raise(reason);
  }
}

Task<void> wait_each_round(Rounds& rounds, std::shared_ptr<Signal> signal, std::vector<Wake> reasons) {
  for (int i = 1; i <= kRounds; ++i) {
    std::vector<Wake> missing = reasons;
    rounds.round.store(i);
    while (!missing.empty()) {
      const WakeSet raised = co_await signal->wait();
      const std::size_t found = std::erase_if(missing, [&](Wake reason) { return raised.has(reason); });
      std::size_t all = 0;
      for (const Wake reason : reasons) all += raised.has(reason) ? 1 : 0;
      EXPECT_EQ(found, all) << "raised twice in round " << i;
    }
    EXPECT_EQ(rounds.raised.load(), i * static_cast<int>(reasons.size()));
  }
}

void run_rounds(const std::vector<Wake>& reasons) {
  LoopThread thread;
  Rounds rounds;
  const auto signal = std::make_shared<Signal>(thread.loop());
  auto waiter = thread.start(wait_each_round(rounds, signal, reasons));
  std::vector<std::thread> raisers;
  for (const Wake reason : reasons) {
    raisers.emplace_back([&rounds, &signal, reason] { raise_each_round(rounds, signal, reason); });
  }
  waiter.get();
  for (std::thread& raiser : raisers) raiser.join();
}

TEST(Signal, LosesNoRaiseOfOneThreadWhileFallingAsleep) { run_rounds({Wake::kReadable}); }

TEST(Signal, LosesNoRaiseOfSeveralThreadsWhileFallingAsleep) {
  run_rounds({Wake::kReadable, Wake::kWritable, Wake::kProgress});
}

// Raisers that do not wait for the waiter: it has to see the last state in the end.
Task<int> wait_for_total(std::shared_ptr<Signal> signal, const std::atomic<int>& total, int goal) {
  int wakes = 0;
  while (total.load() < goal) {
    co_await signal->wait();
    ++wakes;
  }
  co_return wakes;
}

TEST(Signal, WaiterSeesTheLastChangeOfManyFastRaisers) {
  constexpr int kRaisers = 3;
  LoopThread thread;
  std::atomic<int> total = 0;
  const auto signal = std::make_shared<Signal>(thread.loop());
  auto waiter = thread.start(wait_for_total(signal, total, kRaisers * kRounds));
  std::vector<std::thread> raisers;
  for (int i = 0; i < kRaisers; ++i) {
    raisers.emplace_back([&] {
      for (int n = 0; n < kRounds; ++n) {
        total.fetch_add(1);
        signal->raise(Wake::kProgress);
      }
    });
  }
  EXPECT_GE(waiter.get(), 1);
  for (std::thread& raiser : raisers) raiser.join();
}

Task<void> wait_for_deadline() {
  const auto signal = signal_here();
  Deadline deadline(signal);
  const SteadyTime at = now() + milliseconds(20);
  deadline.arm(at);
  const WakeSet raised = co_await signal->wait();
  EXPECT_TRUE(raised.has(Wake::kDeadline));
  EXPECT_GE(now(), at);
}

TEST(Deadline, RaisesWhenItsTimeHasCome) { run_on_loop(wait_for_deadline()); }

Task<void> arm_later_than_before() {
  const auto signal = signal_here();
  Deadline deadline(signal);
  deadline.arm(now() + milliseconds(5));
  const SteadyTime at = now() + milliseconds(40);
  deadline.arm(at);
  EXPECT_TRUE((co_await signal->wait()).has(Wake::kDeadline));
  EXPECT_GE(now(), at);
}

TEST(Deadline, ArmedLaterThanBeforeRaisesAtTheLaterTime) { run_on_loop(arm_later_than_before()); }

Task<void> arm_again() {
  const auto signal = signal_here();
  Deadline deadline(signal);
  deadline.arm(now() + hours(1));
  deadline.arm(now() - milliseconds(1));
  EXPECT_TRUE((co_await signal->wait()).has(Wake::kDeadline));

  deadline.arm(now() - milliseconds(1));
  deadline.arm(now() + hours(1));
  co_await yield_often(10);
  EXPECT_FALSE((co_await look(signal)).has(Wake::kDeadline)) << "the replaced time still counts";
}

TEST(Deadline, ArmingReplacesWhatWasArmed) { run_on_loop(arm_again()); }

// After how many steps of the loop it is raised is the loop's business; over all numbers of steps the disarming comes
// before and after.
Task<bool> disarm_after(int steps) {
  const auto signal = signal_here();
  Deadline deadline(signal);
  deadline.arm(now() - milliseconds(1));
  co_await yield_often(steps);
  const bool raised_before = (co_await look(signal)).has(Wake::kDeadline);
  deadline.disarm();
  co_await yield_often(10);
  EXPECT_FALSE((co_await look(signal)).has(Wake::kDeadline)) << "raised after disarming, " << steps << " steps";
  co_return raised_before;
}

TEST(Deadline, RaisesNothingAfterDisarming) {
  EXPECT_FALSE(run_on_loop(disarm_after(0)));
  for (int steps = 1; steps < 10; ++steps) run_on_loop(disarm_after(steps));
  EXPECT_TRUE(run_on_loop(disarm_after(10)));
}

Task<void> disarm_what_was_raised() {
  const auto signal = signal_here();
  Deadline deadline(signal);
  deadline.arm(now() - milliseconds(1));
  co_await yield_often(10);
  deadline.disarm();
  EXPECT_TRUE((co_await signal->wait()).has(Wake::kDeadline));
}

TEST(Deadline, WhatWasRaisedStaysRaised) { run_on_loop(disarm_what_was_raised()); }

Task<void> destroy_armed() {
  const auto signal = signal_here();
  {
    Deadline deadline(signal);
    deadline.arm(now() - milliseconds(1));
  }
  co_await yield_often(10);
  EXPECT_FALSE((co_await look(signal)).has(Wake::kDeadline));
}

TEST(Deadline, IsDisarmedByItsEnd) { run_on_loop(destroy_armed()); }

}  // namespace
}  // namespace sluice
