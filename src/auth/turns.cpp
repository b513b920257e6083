// SPDX-License-Identifier: Apache-2.0
#include "auth/turns.h"

#include <utility>

namespace sluice::auth {

Turns::Turns(std::size_t places, std::size_t max_waiting_per_network, const Clock& clock)
    : max_waiting_per_network_(max_waiting_per_network), clock_(clock), free_places_(places) {}

Task<Turns::Outcome> Turns::take(std::string network, SteadyTime until) {
  std::shared_ptr<Waiter> waiter;
  {
    const std::lock_guard lock(mutex_);
    if (free_places_ > 0) {
      --free_places_;
      co_return Outcome::kGranted;
    }
    waiter = join(network);
    if (!waiter) co_return Outcome::kCrowded;
  }
  Deadline deadline(waiter->signal);
  deadline.arm(until);
  for (;;) {
    co_await waiter->signal->wait();
    const std::lock_guard lock(mutex_);
    if (waiter->granted) co_return Outcome::kGranted;
    if (clock_.steady() >= until) {
      leave(network, waiter);
      co_return Outcome::kTooLate;
    }
  }
}

void Turns::give_back() {
  std::shared_ptr<Waiter> next;
  {
    const std::lock_guard lock(mutex_);
    if (rotation_.empty()) {
      ++free_places_;
      return;
    }
    Queue& queue = rotation_.front();
    next = std::move(queue.waiters.front());
    queue.waiters.pop_front();
    next->granted = true;
    if (queue.waiters.empty()) {
      queues_.erase(queue.network);
      rotation_.pop_front();
    } else {
      rotation_.splice(rotation_.end(), rotation_, rotation_.begin());
    }
  }
  next->signal->raise(Wake::kProgress);
}

std::shared_ptr<Turns::Waiter> Turns::join(const std::string& network) {
  auto found = queues_.find(network);
  if (found == queues_.end()) {
    rotation_.push_back({network, {}});
    found = queues_.emplace(network, std::prev(rotation_.end())).first;
  }
  std::deque<std::shared_ptr<Waiter>>& waiters = found->second->waiters;
  if (waiters.size() == max_waiting_per_network_) return nullptr;
  waiters.push_back(std::make_shared<Waiter>(std::make_shared<Signal>(Loop::current())));
  return waiters.back();
}

void Turns::leave(const std::string& network, const std::shared_ptr<Waiter>& waiter) {
  const auto found = queues_.find(network);
  std::erase(found->second->waiters, waiter);
  if (!found->second->waiters.empty()) return;
  rotation_.erase(found->second);
  queues_.erase(found);
}

}  // namespace sluice::auth
