// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

#include "base/clock.h"

namespace sluice::auth {

/// A clock that stands still unless a test advances it. From any thread.
class ManualClock final : public Clock {
 public:
  WallTime now() const override { return WallTime(Milliseconds(time_.load())); }
  SteadyTime steady() const override { return SteadyTime(Milliseconds(time_.load())); }
  void advance(Milliseconds time) { time_ += time.count(); }

 private:
  std::atomic<std::int64_t> time_ = 1'000'000;
};

}  // namespace sluice::auth
