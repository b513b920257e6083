// SPDX-License-Identifier: Apache-2.0
#include "runtime/task.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "base/error.h"
#include "runtime/run_on_loop_test.h"

namespace sluice {
namespace {

constexpr int kLongChain = 100'000;
// Far less than a chain that grows the stack by even one small frame per link would take.
constexpr std::uintptr_t kStackAllowance = 64 * 1024;

// Where the stack is while a coroutine runs; its own locals live elsewhere.
[[gnu::noinline]] std::uintptr_t stack_position() {
  return reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
}

std::uintptr_t distance(std::uintptr_t a, std::uintptr_t b) { return a > b ? a - b : b - a; }

Task<int> give(int value) { co_return value; }

Task<std::unique_ptr<std::string>> give_owned(std::unique_ptr<std::string> owned) {
  *owned += " and back";
  co_return std::move(owned);
}

Task<int> fail_with(std::string message) {
  throw std::runtime_error(message);
  co_return 0;
}

Task<int> add_one(Task<int> inner) { co_return co_await std::move(inner) + 1; }

Task<void> note(bool& ran) {
  ran = true;
  co_return;
}

// Ends only at the bottom, so that all links are suspended at once.
Task<std::uintptr_t> descend(int depth, std::uintptr_t top, std::uintptr_t& deepest) {
  deepest = std::max(deepest, distance(top, stack_position()));
  std::uintptr_t below = 0;
  if (depth > 0) below = co_await descend(depth - 1, top, deepest);
  deepest = std::max(deepest, distance(top, stack_position()));
  co_return below + 1;
}

TEST(Task, YieldsItsValue) { EXPECT_EQ(run_on_loop(give(7)), 7); }

TEST(Task, YieldsMoveOnlyValues) {
  EXPECT_EQ(*run_on_loop(give_owned(std::make_unique<std::string>("there"))), "there and back");
}

Task<Result<int>> refuse() { co_return fail::not_found("nothing here"); }

TEST(Task, YieldsAResultFromItsError) {
  const Result<int> result = run_on_loop(refuse());
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().errcode, "M_NOT_FOUND");
}

TEST(Task, DoesNothingUntilAwaited) {
  bool ran = false;
  {
    const Task<void> never_awaited = note(ran);
  }
  EXPECT_FALSE(ran);
  run_on_loop(note(ran));
  EXPECT_TRUE(ran);
}

Task<void> hold(std::shared_ptr<int>) { co_return; }

TEST(Task, FreesItsParametersThoughNeverAwaited) {
  const auto held = std::make_shared<int>(1);
  {
    Task<void> task = hold(held);
    EXPECT_EQ(held.use_count(), 2);
    task = hold(nullptr);  // frees the one it held before
    EXPECT_EQ(held.use_count(), 1);
    task = hold(held);
  }
  EXPECT_EQ(held.use_count(), 1);
}

TEST(Task, ThrowsToItsAwaiterThroughEveryLevel) {
  try {
    run_on_loop(add_one(add_one(add_one(fail_with("deep down")))));
    ADD_FAILURE() << "no exception";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "deep down");
  }
}

Task<int> recover() {
  int recovered = 0;
  for (int i = 0; i < 3; ++i) {
    try {
      co_await fail_with("again");
    } catch (const std::runtime_error&) {
      ++recovered;
    }
    recovered += co_await give(10);
  }
  co_return recovered;
}

TEST(Task, GoesOnAfterACaughtException) { EXPECT_EQ(run_on_loop(recover()), 33); }

Task<std::uintptr_t> descend_far(std::uintptr_t& deepest) {
  co_return co_await descend(kLongChain, stack_position(), deepest);
}

TEST(Task, LongChainDoesNotGrowTheStack) {
  std::uintptr_t deepest = 0;
  EXPECT_EQ(run_on_loop(descend_far(deepest)), kLongChain + 1u);
  EXPECT_LT(deepest, kStackAllowance);
}

Task<std::uintptr_t> await_often() {
  const std::uintptr_t top = stack_position();
  std::uintptr_t deepest = 0;
  for (int i = 0; i < kLongChain; ++i) {
    co_await give(i);
    deepest = std::max(deepest, distance(top, stack_position()));
  }
  co_return deepest;
}

TEST(Task, ManyTasksThatEndAtOnceDoNotGrowTheStack) { EXPECT_LT(run_on_loop(await_often()), kStackAllowance); }

Task<void> throw_up(int depth) {
  if (depth == 0) throw std::runtime_error("from the bottom");
  co_await throw_up(depth - 1);
}

TEST(Task, ExceptionFromTheEndOfAChain) { EXPECT_THROW(run_on_loop(throw_up(1000)), std::runtime_error); }

Task<void> set_after_yield(std::shared_ptr<int> step) {
  *step = 1;
  co_await yield_to_loop();
  *step = 2;
}

Task<int> spawn_and_look(std::shared_ptr<int> step) {
  spawn(set_after_yield(step));
  const int seen = *step;
  while (step.use_count() > 2) co_await yield_to_loop();  // the test's and ours are left
  co_return seen;
}

TEST(Task, SpawnedRunsUpToItsFirstWaitAtOnceAndFreesItself) {
  const auto step = std::make_shared<int>(0);
  EXPECT_EQ(run_on_loop(spawn_and_look(step)), 1);
  EXPECT_EQ(*step, 2);
  EXPECT_EQ(step.use_count(), 1);
}

}  // namespace
}  // namespace sluice
