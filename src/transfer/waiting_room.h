// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/intrusive/list.hpp>
#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/mxc.h"
#include "runtime/signal.h"

namespace sluice::transfer {

class Ticket;

/// Where stalled downloads wait, each under the media id it asks for. Who waits takes a Ticket first and then looks
/// whether there is something to read, so that what happens in between wakes it: there is no moment in which a wake-up
/// can be lost. From any thread.
class WaitingRoom {
 public:
  struct Limits {
    std::size_t total = 10'000;
    std::size_t per_media = 10'000;
    std::size_t per_address = 256;
  };

  explicit WaitingRoom(Limits limits) : limits_(limits) {}
  WaitingRoom(const WaitingRoom&) = delete;
  WaitingRoom& operator=(const WaitingRoom&) = delete;

  /// Something about this id has changed: raises Wake::kProgress on everyone who waits under it. They stay in the room.
  void announce(const Mxc& mxc);

  /// Wakes everyone, and admits nobody from now on.
  void close();
  bool is_closed() const;

  std::size_t waiting() const;

 private:
  friend class Ticket;
  using Hook = boost::intrusive::list_base_hook<>;
  using Queue = boost::intrusive::list<Ticket, boost::intrusive::base_hook<Hook>>;
  using Queues = std::unordered_map<Mxc, Queue>;
  using Addresses = std::unordered_map<std::string, std::size_t>;

  const Limits limits_;
  mutable std::mutex mutex_;
  Queues queues_;
  Addresses addresses_;
  std::size_t waiting_ = 0;
  bool closed_ = false;
};

/// A place in the waiting room, from construction to destruction, if one was free.
class Ticket : public WaitingRoom::Hook {
 public:
  /// `address` is the client's, for the limit per address; empty when it is not known, and then not limited.
  Ticket(WaitingRoom& room, const Mxc& mxc, std::string_view address, std::shared_ptr<Signal> signal);
  ~Ticket();
  Ticket(const Ticket&) = delete;
  Ticket& operator=(const Ticket&) = delete;

  /// False when the room or the share of this media or address is full, or the room is closed.
  bool is_admitted() const { return admitted_; }

 private:
  friend class WaitingRoom;

  WaitingRoom& room_;
  const std::shared_ptr<Signal> signal_;
  // Nodes of the room's maps, whose addresses stay while this ticket counts in them.
  WaitingRoom::Queues::value_type* queue_ = nullptr;
  WaitingRoom::Addresses::value_type* address_ = nullptr;
  bool admitted_ = false;
};

}  // namespace sluice::transfer
