// SPDX-License-Identifier: Apache-2.0
#include "repository/tidier.h"

#include <gtest/gtest.h>

#include <atomic>
#include <latch>

namespace sluice::repository {
namespace {

TEST(Tidier, TidiesByItself) {
  std::latch tidied(1);
  std::atomic<int> times = 0;
  Tidier tidier([&] {
    if (++times == 1) tidied.count_down();
  });
  tidier.note();
  tidied.wait();
}

TEST(Tidier, TidiesWhatWasNotedBeforeItEnds) {
  std::atomic<int> times = 0;
  {
    Tidier tidier([&] { ++times; });
    for (int i = 0; i < 100; ++i) tidier.note();
  }
  EXPECT_GE(times, 1);
}

TEST(Tidier, DoesNothingForNothing) {
  std::atomic<int> times = 0;
  {
    const Tidier tidier([&] { ++times; });
  }
  EXPECT_EQ(times, 0);
}

}  // namespace
}  // namespace sluice::repository
