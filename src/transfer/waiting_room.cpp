// SPDX-License-Identifier: Apache-2.0
#include "transfer/waiting_room.h"

#include <array>
#include <cstring>
#include <utility>

namespace sluice::transfer {
namespace {

// More than threads need to stay out of each other's way, because a table that grows stops its shard. While a million
// ids come, the worst entrance takes 0.2 to 0.4 ms; with 64 shards 0.6 ms, with one table 67 to 341 ms.
constexpr unsigned kShardBits = 8;
constexpr std::size_t kShards = std::size_t{1} << kShardBits;

// 4 KiB of stack. With fewer, the lock changes hands so often that waking a crowd takes longer: 14 ms with 16 at once.
constexpr std::size_t kWokenAtOnce = 256;

// The tables use the low bits.
std::size_t shard_of(std::uint32_t hash) { return hash >> (32 - kShardBits); }

/// An Mxc as one text, on the stack. A server name has no slash.
class MxcText {
 public:
  explicit MxcText(const Mxc& mxc) {
    append(mxc.server_name());
    append("/");
    append(mxc.media_id());
  }
  TextKey key() const { return TextKey(std::string_view(text_.data(), size_)); }

 private:
  void append(std::string_view part) {
    std::memcpy(text_.data() + size_, part.data(), part.size());
    size_ += part.size();
  }
  std::array<char, 255 + 1 + 255> text_;  // as long as an Mxc can be
  std::size_t size_ = 0;
};

}  // namespace

// Cache lines of their own, so that neighbours do not slow each other down.
struct alignas(64) WaitingRoom::MediaShard {
  std::mutex mutex;
  TextTable<Queue> queues;
};

struct alignas(64) WaitingRoom::AddressShard {
  std::mutex mutex;
  TextTable<Share> shares;
};

WaitingRoom::WaitingRoom(Limits limits)
    : max_total_(limits.total),
      max_per_media_(limits.per_media),
      max_per_address_(limits.per_address),
      media_(new MediaShard[kShards]),
      addresses_(new AddressShard[kShards]) {}

WaitingRoom::~WaitingRoom() = default;

void WaitingRoom::set_limits(Limits limits) {
  max_total_ = limits.total;
  max_per_media_ = limits.per_media;
  max_per_address_ = limits.per_address;
}

// ---- waking ----

void WaitingRoom::announce(const Mxc& mxc) {
  const MxcText text(mxc);
  const TextKey key = text.key();
  MediaShard& shard = media_[shard_of(key.hash)];
  std::unique_lock lock(shard.mutex);
  QueueEntry* const queue = shard.queues.find(key);
  if (queue == nullptr) return;
  Tickets waking;
  waking.splice(waking.end(), queue->value.tickets);
  wake(lock, waking);
}

void WaitingRoom::close() {
  // Before the shards are visited: who enters one later sees it, who entered before is woken.
  closed_ = true;
  for (std::size_t i = 0; i < kShards; ++i) {
    std::unique_lock lock(media_[i].mutex);
    Tickets waking;
    media_[i].queues.for_each([&](QueueEntry& queue) { waking.splice(waking.end(), queue.value.tickets); });
    wake(lock, waking);
  }
}

// Who leaves meanwhile takes itself out of `waking`. Who is announced a second time while it is still in there is
// raised once, which comes after both. Raising under the lock would make who comes or leaves wait until the last is
// raised: while 100,000 at one id are woken, at most 8 to 11 ms; now 0.1 ms, though waking takes 11 ms instead of 8.
void WaitingRoom::wake(std::unique_lock<std::mutex>& lock, Tickets& waking) noexcept {
  std::array<std::shared_ptr<Signal>, kWokenAtOnce> signals;
  while (!waking.empty()) {
    std::size_t count = 0;
    for (; count < signals.size() && !waking.empty(); ++count) {
      Ticket& ticket = waking.front();
      waking.pop_front();
      ticket.queue_->value.tickets.push_back(ticket);
      signals[count] = ticket.signal_;
    }
    lock.unlock();
    for (std::size_t i = 0; i < count; ++i) std::exchange(signals[i], nullptr)->raise(Wake::kProgress);
    lock.lock();
  }
}

// ---- coming and going ----

bool WaitingRoom::take_place() {
  std::size_t waiting = waiting_;
  while (waiting < max_total_) {
    if (waiting_.compare_exchange_weak(waiting, waiting + 1)) return true;
  }
  return false;
}

WaitingRoom::ShareEntry* WaitingRoom::take_share(std::string_view address) {
  const TextKey key(address);
  AddressShard& shard = addresses_[shard_of(key.hash)];
  const std::lock_guard lock(shard.mutex);
  ShareEntry* share = shard.shares.find(key);
  if ((share == nullptr ? 0 : share->value.waiting) >= max_per_address_) return nullptr;
  if (share == nullptr) share = &shard.shares.add(key);
  ++share->value.waiting;
  return share;
}

void WaitingRoom::leave_share(ShareEntry& share) noexcept {
  AddressShard& shard = addresses_[shard_of(share.hash())];
  const std::lock_guard lock(shard.mutex);
  if (--share.value.waiting == 0) shard.shares.remove(share);
}

bool WaitingRoom::join_queue(const Mxc& mxc, Ticket& ticket) {
  const MxcText text(mxc);
  const TextKey key = text.key();
  MediaShard& shard = media_[shard_of(key.hash)];
  const std::lock_guard lock(shard.mutex);
  if (closed_) return false;
  QueueEntry* queue = shard.queues.find(key);
  if ((queue == nullptr ? 0 : queue->value.waiting) >= max_per_media_) return false;
  if (queue == nullptr) queue = &shard.queues.add(key);
  ++queue->value.waiting;
  queue->value.tickets.push_back(ticket);
  ticket.queue_ = queue;
  return true;
}

void WaitingRoom::leave_queue(Ticket& ticket) noexcept {
  MediaShard& shard = media_[shard_of(ticket.queue_->hash())];
  const std::lock_guard lock(shard.mutex);
  ticket.unlink();
  QueueEntry& queue = *std::exchange(ticket.queue_, nullptr);
  if (--queue.value.waiting == 0) shard.queues.remove(queue);
}

std::size_t WaitingRoom::kept_entries() const {
  std::size_t count = 0;
  for (std::size_t i = 0; i < kShards; ++i) {
    {
      const std::lock_guard lock(media_[i].mutex);
      count += media_[i].queues.size();
    }
    const std::lock_guard lock(addresses_[i].mutex);
    count += addresses_[i].shares.size();
  }
  return count;
}

// Delegating makes the ticket whole at once: if memory runs out inside, the destructor gives back what it has got.
Ticket::Ticket(WaitingRoom& room, const Mxc& mxc, std::string_view address, std::shared_ptr<Signal> signal)
    : Ticket(std::move(signal)) {
  if (room.closed_ || !room.take_place()) return;
  room_ = &room;
  const bool has_share = address.empty() || (share_ = room.take_share(address)) != nullptr;
  if (!has_share || !room.join_queue(mxc, *this)) leave();
}

void Ticket::leave() noexcept {
  if (room_ == nullptr) return;
  if (queue_ != nullptr) room_->leave_queue(*this);
  if (share_ != nullptr) room_->leave_share(*std::exchange(share_, nullptr));
  --std::exchange(room_, nullptr)->waiting_;
}

}  // namespace sluice::transfer
