// SPDX-License-Identifier: Apache-2.0
#include "transfer/waiting_room.h"

#include <utility>

namespace sluice::transfer {

void WaitingRoom::announce(const Mxc& mxc) {
  const std::lock_guard lock(mutex_);
  const auto queue = queues_.find(mxc);
  if (queue == queues_.end()) return;
  for (const Ticket& ticket : queue->second) ticket.signal_->raise(Wake::kProgress);
}

void WaitingRoom::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  for (const auto& [mxc, queue] : queues_) {
    for (const Ticket& ticket : queue) ticket.signal_->raise(Wake::kProgress);
  }
}

bool WaitingRoom::is_closed() const {
  const std::lock_guard lock(mutex_);
  return closed_;
}

std::size_t WaitingRoom::waiting() const {
  const std::lock_guard lock(mutex_);
  return waiting_;
}

Ticket::Ticket(WaitingRoom& room, const Mxc& mxc, std::string_view address, std::shared_ptr<Signal> signal)
    : room_(room), signal_(std::move(signal)) {
  const std::lock_guard lock(room_.mutex_);
  if (room_.closed_ || room_.waiting_ >= room_.limits_.total) return;
  const auto queue = room_.queues_.find(mxc);
  if ((queue == room_.queues_.end() ? 0 : queue->second.size()) >= room_.limits_.per_media) return;
  if (!address.empty()) {
    const auto counted = room_.addresses_.try_emplace(std::string(address), 0).first;
    if (counted->second >= room_.limits_.per_address) {
      if (counted->second == 0) room_.addresses_.erase(counted);
      return;
    }
    ++counted->second;
    address_ = &*counted;
  }
  queue_ = &*room_.queues_.try_emplace(mxc).first;
  queue_->second.push_back(*this);
  ++room_.waiting_;
  admitted_ = true;
}

Ticket::~Ticket() {
  if (!admitted_) return;
  const std::lock_guard lock(room_.mutex_);
  queue_->second.erase(WaitingRoom::Queue::s_iterator_to(*this));
  if (queue_->second.empty()) room_.queues_.erase(room_.queues_.find(queue_->first));
  if (address_ != nullptr && --address_->second == 0) room_.addresses_.erase(room_.addresses_.find(address_->first));
  --room_.waiting_;
}

}  // namespace sluice::transfer
