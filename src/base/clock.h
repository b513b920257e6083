// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>

namespace sluice {

using Milliseconds = std::chrono::milliseconds;
using SteadyTime = std::chrono::steady_clock::time_point;

/// A POSIX timestamp in milliseconds, the form in which Matrix speaks of time.
using WallTime = std::chrono::sys_time<Milliseconds>;

/// Where the time comes from, so that tests can set it. Callable from any thread.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual WallTime now() const = 0;       // may jump; for what is stored and told to clients
  virtual SteadyTime steady() const = 0;  // never goes back; for waiting and measuring
};

class SystemClock final : public Clock {
 public:
  WallTime now() const override { return std::chrono::time_point_cast<Milliseconds>(std::chrono::system_clock::now()); }
  SteadyTime steady() const override { return std::chrono::steady_clock::now(); }
};

}  // namespace sluice
