// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "base/clock.h"
#include "runtime/signal.h"
#include "runtime/task.h"

namespace sluice::auth {

/// Shares a number of places fairly among networks: whose turn has not come waits in the queue of its network, and the
/// queues are served one after the other, a turn each. So nobody who asks much keeps others waiting longer than one
/// round.
///
/// From any loop.
class Turns {
 public:
  enum class Outcome {
    kGranted,  // give it back
    kCrowded,  // too many of this network wait already
    kTooLate,  // the time was over first
  };

  Turns(std::size_t places, std::size_t max_waiting_per_network, const Clock& clock);

  /// Waits for a turn, until `until` at the latest. `network` is any name; clients who are unknown share the empty one.
  Task<Outcome> take(std::string network, SteadyTime until);
  void give_back();

 private:
  struct Waiter {
    std::shared_ptr<Signal> signal;
    bool granted = false;
  };
  struct Queue {
    std::string network;
    std::deque<std::shared_ptr<Waiter>> waiters;  // never empty
  };
  using Rotation = std::list<Queue>;

  std::shared_ptr<Waiter> join(const std::string& network);  // with the mutex held; nothing if it is crowded
  void leave(const std::string& network, const std::shared_ptr<Waiter>& waiter);  // with the mutex held

  const std::size_t max_waiting_per_network_;
  const Clock& clock_;
  std::mutex mutex_;
  std::size_t free_places_;                           // guarded by mutex_; 0 while anybody waits
  Rotation rotation_;                                 // guarded by mutex_; whose turn is next is first
  std::map<std::string, Rotation::iterator> queues_;  // guarded by mutex_; by network
};

}  // namespace sluice::auth
