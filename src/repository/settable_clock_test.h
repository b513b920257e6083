// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>

#include "base/clock.h"

namespace sluice::repository {

/// A clock for tests whose wall time stands still until it is set. Its steady time is the real one, because real
/// timers run by it, plus what a test has added.
class SettableClock final : public Clock {
 public:
  WallTime now() const override { return wall_; }
  SteadyTime steady() const override { return std::chrono::steady_clock::now() + added_.load(); }

  void set(WallTime now) { wall_ = now; }
  void advance_wall(Milliseconds time) { wall_ = wall_.load() + time; }
  void advance_steady(Milliseconds time) { added_ = added_.load() + time; }

 private:
  std::atomic<WallTime> wall_{WallTime(Milliseconds(1'700'000'000'000))};
  std::atomic<Milliseconds> added_{Milliseconds(0)};
};

}  // namespace sluice::repository
