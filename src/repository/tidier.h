// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <thread>

namespace sluice::repository {

/// A thread that tidies up after uploads that were acknowledged. Nobody waits for it, and for many at once it is much
/// cheaper: so it lets them gather, for a moment or until they are many.
class Tidier {
 public:
  /// `tidy` sees to all that was noted before the call, and is called again if it could not yet: then it returns true.
  /// May block, must not throw.
  explicit Tidier(std::function<bool()> tidy);
  /// Tidies what was noted, once, then joins.
  ~Tidier();
  Tidier(const Tidier&) = delete;
  Tidier& operator=(const Tidier&) = delete;

  /// There is one more to tidy up after. From any thread; does not block.
  void note();

 private:
  // At 3,000 uploads a second, 0.09 directory syncs each; with half a second or 1,024 it was 0.25. The second number is
  // also about how many names a start after a crash has to look at.
  static constexpr std::chrono::milliseconds kGather{1000};
  static constexpr std::size_t kMany = 4096;

  void run();

  const std::function<bool()> tidy_;
  std::mutex mutex_;  // guards the next two
  std::size_t noted_ = 0;
  bool stopping_ = false;
  std::condition_variable changed_;
  std::thread thread_;
};

}  // namespace sluice::repository
