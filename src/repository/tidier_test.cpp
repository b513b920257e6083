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
    return false;
  });
  tidier.note();
  tidied.wait();
}

TEST(Tidier, TidiesWhatWasNotedBeforeItEnds) {
  std::atomic<int> times = 0;
  {
    Tidier tidier([&] {
      ++times;
      return true;  // which nobody waits for at the end
    });
    for (int i = 0; i < 100; ++i) tidier.note();
  }
  EXPECT_GE(times, 1);
}

TEST(Tidier, ComesBackToWhatCouldNotBeDoneYet) {
  std::latch tidied(3);
  std::atomic<int> times = 0;
  Tidier tidier([&] {
    if (++times <= 3) tidied.count_down();
    return times < 3;
  });
  tidier.note();
  tidied.wait();
}

TEST(Tidier, DoesNothingForNothing) {
  std::atomic<int> times = 0;
  {
    const Tidier tidier([&] { return ++times, false; });
  }
  EXPECT_EQ(times, 0);
}

}  // namespace
}  // namespace sluice::repository
