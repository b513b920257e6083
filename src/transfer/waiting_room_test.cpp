// SPDX-License-Identifier: Apache-2.0
#include "transfer/waiting_room.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "runtime/run_on_loop_test.h"

namespace sluice::transfer {
namespace {

const Mxc kMxc = *Mxc::of("example.org", "one");
const Mxc kOther = *Mxc::of("example.org", "two");

// The room's maps are nobody's business but the test's that nothing stays in them. An explicit instantiation may name
// private members.
template <auto kQueues, auto kAddresses>
struct RoomMaps {
  friend std::size_t kept_entries(const WaitingRoom& room) {
    return (room.*kQueues).size() + (room.*kAddresses).size();
  }
};
std::size_t kept_entries(const WaitingRoom& room);
template struct RoomMaps<&WaitingRoom::queues_, &WaitingRoom::addresses_>;

// A loop that nobody runs: signals need one, though nobody sleeps on them here.
class WaitingRoomTest : public ::testing::Test {
 protected:
  std::unique_ptr<Ticket> enter(WaitingRoom& room, const Mxc& mxc = kMxc, std::string_view address = "") {
    return std::make_unique<Ticket>(room, mxc, address, std::make_shared<Signal>(loop_));
  }
  bool is_admitted(WaitingRoom& room, const Mxc& mxc = kMxc, std::string_view address = "") {
    return enter(room, mxc, address)->is_admitted();
  }

  Loop loop_;
};

TEST_F(WaitingRoomTest, CountsWhoWaits) {
  WaitingRoom room({});
  EXPECT_EQ(room.waiting(), 0u);
  auto first = enter(room);
  const auto second = enter(room, kOther);
  EXPECT_TRUE(first->is_admitted());
  EXPECT_EQ(room.waiting(), 2u);
  first.reset();
  EXPECT_EQ(room.waiting(), 1u);
}

// ---- limits ----

TEST_F(WaitingRoomTest, LimitsAllTogether) {
  WaitingRoom room({.total = 2});
  auto first = enter(room, kMxc, "192.0.2.1");
  const auto second = enter(room, kOther, "192.0.2.2");
  EXPECT_TRUE(second->is_admitted());
  EXPECT_FALSE(is_admitted(room));
  EXPECT_FALSE(is_admitted(room)) << "who was turned away left a place or took one";
  EXPECT_EQ(room.waiting(), 2u);
  first.reset();
  EXPECT_TRUE(is_admitted(room));
}

TEST_F(WaitingRoomTest, LimitsThoseOfOneMedia) {
  WaitingRoom room({.per_media = 2});
  auto first = enter(room);
  const auto second = enter(room);
  EXPECT_TRUE(second->is_admitted());
  EXPECT_FALSE(is_admitted(room));
  EXPECT_TRUE(is_admitted(room, kOther));
  first.reset();
  EXPECT_TRUE(is_admitted(room));
}

TEST_F(WaitingRoomTest, LimitsThoseOfOneAddress) {
  WaitingRoom room({.per_address = 2});
  auto first = enter(room, kMxc, "192.0.2.1");
  const auto second = enter(room, kOther, "192.0.2.1");
  EXPECT_TRUE(second->is_admitted());
  EXPECT_FALSE(is_admitted(room, kMxc, "192.0.2.1"));
  EXPECT_TRUE(is_admitted(room, kMxc, "192.0.2.2"));
  first.reset();
  EXPECT_TRUE(is_admitted(room, kMxc, "192.0.2.1"));
}

TEST_F(WaitingRoomTest, DoesNotLimitAnAddressThatIsNotKnown) {
  WaitingRoom room({.per_address = 1});
  const auto first = enter(room);
  const auto second = enter(room);
  EXPECT_TRUE(second->is_admitted());
}

TEST_F(WaitingRoomTest, AdmitsNobodyWhereALimitIsZero) {
  for (const WaitingRoom::Limits limits :
       {WaitingRoom::Limits{.total = 0}, WaitingRoom::Limits{.per_media = 0}, WaitingRoom::Limits{.per_address = 0}}) {
    WaitingRoom room(limits);
    EXPECT_FALSE(is_admitted(room, kMxc, "192.0.2.1"));
    EXPECT_EQ(kept_entries(room), 0u);
  }
}

TEST_F(WaitingRoomTest, KeepsNothingOfThoseWhoHaveLeft) {
  WaitingRoom room({.total = 100, .per_media = 3, .per_address = 2});
  {
    std::vector<std::unique_ptr<Ticket>> tickets;
    for (int media = 0; media < 10; ++media) {
      for (int address = 0; address < 10; ++address) {
        tickets.push_back(enter(room, *Mxc::of("example.org", std::to_string(media)), std::to_string(address)));
      }
    }
    EXPECT_EQ(room.waiting(), 20u) << "2 for each of 10 addresses";
    EXPECT_GT(kept_entries(room), 0u);
  }
  EXPECT_EQ(room.waiting(), 0u);
  EXPECT_EQ(kept_entries(room), 0u);
}

TEST_F(WaitingRoomTest, KeepsNothingOfThoseWhoWereTurnedAway) {
  WaitingRoom room({.total = 2, .per_media = 1, .per_address = 1});
  const auto first = enter(room, kMxc, "192.0.2.1");
  const std::size_t kept = kept_entries(room);
  EXPECT_FALSE(is_admitted(room, kMxc, "192.0.2.2")) << "per media";
  EXPECT_EQ(kept_entries(room), kept);
  EXPECT_FALSE(is_admitted(room, kOther, "192.0.2.1")) << "per address";
  EXPECT_EQ(kept_entries(room), kept);
}

// ---- waking ----

Task<bool> has_progress(std::shared_ptr<Signal> signal) {
  signal->raise(Wake::kWritable);
  const WakeSet raised = co_await signal->wait();
  co_return raised.has(Wake::kProgress);
}

Task<> announce_one_id() {
  WaitingRoom room({});
  const auto first = std::make_shared<Signal>(Loop::current());
  const auto second = std::make_shared<Signal>(Loop::current());
  const auto other = std::make_shared<Signal>(Loop::current());
  const Ticket first_ticket(room, kMxc, "", first);
  const Ticket second_ticket(room, kMxc, "", second);
  const Ticket other_ticket(room, kOther, "", other);

  room.announce(kMxc);
  EXPECT_TRUE(co_await has_progress(first));
  EXPECT_TRUE(co_await has_progress(second));
  EXPECT_FALSE(co_await has_progress(other));
  EXPECT_EQ(room.waiting(), 3u) << "they stay in the room";

  room.announce(kMxc);
  EXPECT_TRUE(co_await has_progress(first)) << "and are woken again";
  room.announce(*Mxc::of("example.org", "nobody"));
  EXPECT_FALSE(co_await has_progress(first));
}

TEST_F(WaitingRoomTest, AnnounceWakesThoseOfThatIdOnly) { run_on_loop(announce_one_id()); }

Task<> announce_after_leaving() {
  WaitingRoom room({});
  const auto signal = std::make_shared<Signal>(Loop::current());
  {
    const Ticket ticket(room, kMxc, "", signal);
  }
  room.announce(kMxc);
  EXPECT_FALSE(co_await has_progress(signal));
}

TEST_F(WaitingRoomTest, DoesNotWakeThoseWhoHaveLeft) { run_on_loop(announce_after_leaving()); }

Task<> close_the_room() {
  WaitingRoom room({});
  const auto first = std::make_shared<Signal>(Loop::current());
  const auto other = std::make_shared<Signal>(Loop::current());
  const Ticket first_ticket(room, kMxc, "", first);
  const Ticket other_ticket(room, kOther, "", other);
  EXPECT_FALSE(room.is_closed());
  room.close();
  EXPECT_TRUE(room.is_closed());
  EXPECT_TRUE(co_await has_progress(first));
  EXPECT_TRUE(co_await has_progress(other));
  const Ticket late(room, kMxc, "", first);
  EXPECT_FALSE(late.is_admitted());
  EXPECT_EQ(room.waiting(), 2u);
}

TEST_F(WaitingRoomTest, CloseWakesAllAndAdmitsNobodyFromThen) { run_on_loop(close_the_room()); }

// ---- many threads ----

struct Race {
  WaitingRoom room{{.total = 50, .per_media = 40, .per_address = 10}};
  std::atomic<bool> has_begun = false;
  std::atomic<int> waiting = 0;
};

// Register first, then look, then wait: the promise that a ticket is for.
Task<> wait_for_the_beginning(Race& race, int number) {
  const auto signal = std::make_shared<Signal>(Loop::current());
  const Ticket ticket(race.room, kMxc, std::to_string(number), signal);
  EXPECT_TRUE(ticket.is_admitted());
  ++race.waiting;
  while (!race.has_begun) co_await signal->wait();
}

// A lost wake-up shows as a test that hangs.
TEST_F(WaitingRoomTest, LosesNoWakeUpBetweenLookingAndFallingAsleep) {
  constexpr int kRounds = 300;
  constexpr int kWaiters = 8;
  LoopThread threads[2];
  for (int round = 0; round < kRounds; ++round) {
    Race race;
    std::vector<std::future<void>> waiters;
    for (int i = 0; i < kWaiters; ++i) {
      waiters.push_back(threads[i % 2].start(wait_for_the_beginning(race, i)));
    }
    // At a different moment of their way to sleep each time; some come after the announcement and must see by looking.
    while (race.waiting < round % (kWaiters + 1)) std::this_thread::yield();
    race.has_begun = true;
    race.room.announce(kMxc);
    for (auto& waiter : waiters) waiter.get();
    EXPECT_EQ(race.room.waiting(), 0u);
    EXPECT_EQ(kept_entries(race.room), 0u);
  }
}

TEST_F(WaitingRoomTest, KeepsItsLimitsWhenManyThreadsComeAndGo) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 5'000;
  constexpr std::size_t kLimit = 2;
  WaitingRoom room({.total = 100, .per_media = 100, .per_address = kLimit});
  std::atomic<std::size_t> inside = 0;
  std::atomic<bool> is_exceeded = false;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        for (int round = 0; round < kRounds; ++round) {
          const auto ticket = enter(room, kMxc, "192.0.2.1");
          room.announce(kMxc);
          if (!ticket->is_admitted()) continue;
          if (++inside > kLimit) is_exceeded = true;
          --inside;
        }
      });
    }
  }
  EXPECT_FALSE(is_exceeded);
  EXPECT_EQ(room.waiting(), 0u);
  EXPECT_EQ(kept_entries(room), 0u);
}

}  // namespace
}  // namespace sluice::transfer
