// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <boost/intrusive/list.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string_view>

#include "base/mxc.h"
#include "runtime/signal.h"
#include "transfer/text_table.h"

namespace sluice::transfer {

class Ticket;

/// Where stalled downloads wait, each under the media id it asks for. Who waits takes a Ticket first and then looks
/// whether there is something to read, so that what happens in between wakes it: there is no moment in which a wake-up
/// can be lost. From any thread.
///
/// No lock is shared by all: ids, and addresses, are spread over shards by their hashes, and what is counted in all is
/// an atomic.
class WaitingRoom {
 public:
  struct Limits {
    std::size_t total = 10'000;
    std::size_t per_media = 10'000;
    std::size_t per_address = 256;
  };

  explicit WaitingRoom(Limits limits);
  ~WaitingRoom();
  WaitingRoom(const WaitingRoom&) = delete;
  WaitingRoom& operator=(const WaitingRoom&) = delete;

  /// For those who come from now on; who is in the room stays. From any thread.
  void set_limits(Limits limits);

  /// Something about this id has changed: raises Wake::kProgress on everyone who waits under it. They stay in the room.
  /// A few are raised at a time, and no lock is held meanwhile: who leaves while others are woken need not wait for
  /// that, and may be raised a moment after it has left.
  void announce(const Mxc& mxc);

  /// Wakes everyone, and admits nobody from now on.
  void close();
  bool is_closed() const { return closed_; }

  std::size_t waiting() const { return waiting_; }

 private:
  friend class Ticket;
  using Hook = boost::intrusive::list_base_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>>;
  using Tickets =
      boost::intrusive::list<Ticket, boost::intrusive::base_hook<Hook>, boost::intrusive::constant_time_size<false>>;
  struct Queue {
    Tickets tickets;  // without those that are just being woken
    std::uint32_t waiting = 0;
  };
  struct Share {
    std::uint32_t waiting = 0;
  };
  using QueueEntry = TextTable<Queue>::Entry;
  using ShareEntry = TextTable<Share>::Entry;
  struct MediaShard;
  struct AddressShard;

  bool take_place();
  ShareEntry* take_share(std::string_view address);
  bool join_queue(const Mxc& mxc, Ticket& ticket);
  void leave_share(ShareEntry& share) noexcept;
  void leave_queue(Ticket& ticket) noexcept;
  static void wake(std::unique_lock<std::mutex>& lock, Tickets& waking) noexcept;
  std::size_t kept_entries() const;  // for tests

  std::atomic<std::size_t> max_total_;
  std::atomic<std::size_t> max_per_media_;
  std::atomic<std::size_t> max_per_address_;
  std::atomic<std::size_t> waiting_{0};
  std::atomic<bool> closed_{false};
  const std::unique_ptr<MediaShard[]> media_;
  const std::unique_ptr<AddressShard[]> addresses_;
};

/// A place in the waiting room, from construction to destruction, if one was free.
class Ticket : public WaitingRoom::Hook {
 public:
  /// `address` is the client's, for the limit per address; empty when it is not known, and then not limited.
  Ticket(WaitingRoom& room, const Mxc& mxc, std::string_view address, std::shared_ptr<Signal> signal);
  ~Ticket() { leave(); }
  Ticket(const Ticket&) = delete;
  Ticket& operator=(const Ticket&) = delete;

  /// False when the room or the share of this media or address is full, or the room is closed.
  bool is_admitted() const { return queue_ != nullptr; }

 private:
  friend class WaitingRoom;

  explicit Ticket(std::shared_ptr<Signal> signal) : signal_(std::move(signal)) {}
  void leave() noexcept;

  // What it holds of the room, each in its turn. Kept small: it lies in the coroutine frame of a stalled download.
  WaitingRoom* room_ = nullptr;  // a place
  WaitingRoom::ShareEntry* share_ = nullptr;
  WaitingRoom::QueueEntry* queue_ = nullptr;  // guarded by its shard's mutex while it is set
  const std::shared_ptr<Signal> signal_;
};

}  // namespace sluice::transfer
