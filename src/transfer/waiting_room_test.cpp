// SPDX-License-Identifier: Apache-2.0
#include "transfer/waiting_room.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <future>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "runtime/run_on_loop_test.h"

namespace sluice::transfer {
namespace {

const Mxc kMxc = *Mxc::of("example.org", "one");
const Mxc kOther = *Mxc::of("example.org", "two");

// What the room remembers is nobody's business but the test's that nothing stays. An explicit instantiation may name
// private members.
template <auto kMember>
struct PrivateMember {
  friend std::size_t kept_entries(const WaitingRoom& room) { return (room.*kMember)(); }
};
std::size_t kept_entries(const WaitingRoom& room);
template struct PrivateMember<&WaitingRoom::kept_entries>;

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

// More than are raised at a time, and on two loops: everybody is woken, once for each announcement.
Task<> announce_to_a_crowd() {
  constexpr std::size_t kCrowd = 1'000;
  WaitingRoom room({});
  std::vector<std::shared_ptr<Signal>> signals;
  std::vector<std::unique_ptr<Ticket>> tickets;
  for (std::size_t i = 0; i < kCrowd; ++i) {
    signals.push_back(std::make_shared<Signal>(Loop::current()));
    tickets.push_back(std::make_unique<Ticket>(room, kMxc, "", signals.back()));
  }
  for (int round = 0; round < 2; ++round) {
    room.announce(kMxc);
    for (const auto& signal : signals) EXPECT_TRUE(co_await has_progress(signal));
    for (const auto& signal : signals) EXPECT_FALSE(co_await has_progress(signal));
  }
  tickets.erase(tickets.begin() + 1, tickets.end());
  room.announce(kMxc);
  for (const auto& signal : signals) EXPECT_EQ(co_await has_progress(signal), signal == signals.front());
}

TEST_F(WaitingRoomTest, AnnounceWakesACrowd) { run_on_loop(announce_to_a_crowd()); }

// ---- by chance, beside a model that is plain ----

/// What the room promises, said as simply as can be.
struct Model {
  struct Waiter {
    std::string media, address;
    bool is_awake = false;
  };
  WaitingRoom::Limits limits;
  std::map<int, Waiter> waiters;
  bool is_closed = false;

  bool enter(int number, const std::string& media, const std::string& address) {
    std::size_t of_media = 0;
    std::size_t of_address = 0;
    for (const auto& [_, waiter] : waiters) {
      of_media += waiter.media == media;
      of_address += waiter.address == address;
    }
    if (is_closed || waiters.size() >= limits.total || of_media >= limits.per_media) return false;
    if (!address.empty() && of_address >= limits.per_address) return false;
    waiters[number] = {media, address};
    return true;
  }
  void wake(const std::string* media) {
    for (auto& [_, waiter] : waiters) waiter.is_awake = waiter.is_awake || media == nullptr || waiter.media == *media;
  }
  std::size_t kept_entries() const {
    std::map<std::string, int> media;
    std::map<std::string, int> addresses;
    for (const auto& [_, waiter] : waiters) {
      ++media[waiter.media];
      if (!waiter.address.empty()) ++addresses[waiter.address];
    }
    return media.size() + addresses.size();
  }
};

Task<> act_by_chance(unsigned seed) {
  constexpr int kActs = 3'000;
  std::minstd_rand random(seed);
  const auto below = [&](std::size_t bound) { return static_cast<std::size_t>(random() % bound); };
  const WaitingRoom::Limits limits{
      .total = 20 + below(200), .per_media = 1 + below(100), .per_address = 1 + below(100)};
  const std::size_t ids = 1 + below(300);
  const std::size_t addresses = 1 + below(300);
  Model model{limits, {}};
  WaitingRoom room(limits);
  std::map<int, std::pair<std::unique_ptr<Ticket>, std::shared_ptr<Signal>>> inside;
  const auto any = [&] { return std::next(inside.begin(), static_cast<std::ptrdiff_t>(below(inside.size()))); };
  for (int act = 0; act < kActs; ++act) {
    const std::string media = std::to_string(below(ids));
    const std::size_t kind = below(act < kActs / 2 ? 20 : 40);  // first they gather, then they scatter
    if (kind < 12) {
      const std::size_t which = below(addresses);
      const std::string address = which == 0 ? "" : "2001:db8::" + std::to_string(which);
      const auto signal = std::make_shared<Signal>(Loop::current());
      auto ticket = std::make_unique<Ticket>(room, *Mxc::of("example.org", media), address, signal);
      const bool is_admitted = ticket->is_admitted();
      EXPECT_EQ(is_admitted, model.enter(act, media, address));
      if (is_admitted) inside[act] = {std::move(ticket), signal};
    } else if (kind < 15) {
      room.announce(*Mxc::of("example.org", media));
      model.wake(&media);
    } else if (act == kActs - 100) {
      room.close();
      model.is_closed = true;
      model.wake(nullptr);
    } else if (!inside.empty()) {
      const auto leaver = any();
      model.waiters.erase(leaver->first);
      inside.erase(leaver);
    }
    if (!inside.empty()) {
      const auto looker = any();
      EXPECT_EQ(co_await has_progress(looker->second.second),
                std::exchange(model.waiters[looker->first].is_awake, false));
    }
    EXPECT_EQ(room.waiting(), model.waiters.size());
    EXPECT_EQ(kept_entries(room), model.kept_entries());
    if (::testing::Test::HasFailure()) co_return;
  }
  for (const auto& [number, waiter] : inside) {
    EXPECT_EQ(co_await has_progress(waiter.second), model.waiters[number].is_awake);
  }
  inside.clear();
  EXPECT_EQ(kept_entries(room), 0u);
}

TEST_F(WaitingRoomTest, DoesWhatAPlainModelDoes) {
  for (unsigned seed = 1; seed <= 20 && !HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    run_on_loop(act_by_chance(seed));
  }
}

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

// Two announce and one closes while a crowd wakes, leaves and comes: whoever is inside when the room closes is woken.
Task<> stay_until_closed(WaitingRoom& room, int number) {
  const auto signal = std::make_shared<Signal>(Loop::current());
  for (int stay = 0;; ++stay) {
    const Ticket ticket(room, kMxc, std::to_string((number + stay) % 7), signal);
    if (!ticket.is_admitted()) co_return;
    co_await signal->wait();
    if (room.is_closed()) co_return;
  }
}

// A lost wake-up shows as a test that hangs.
TEST_F(WaitingRoomTest, WakesEverybodyWhenItClosesWhileOthersAnnounce) {
  constexpr int kRounds = 20;
  constexpr int kWaiters = 200;
  LoopThread threads[2];
  for (int round = 0; round < kRounds; ++round) {
    WaitingRoom room({.total = 1'000, .per_media = 1'000, .per_address = 1'000});
    std::vector<std::future<void>> waiters;
    for (int i = 0; i < kWaiters; ++i) waiters.push_back(threads[i % 2].start(stay_until_closed(room, i)));
    {
      std::atomic<bool> is_over = false;
      std::vector<std::jthread> announcers;
      for (int i = 0; i < 2; ++i) {
        announcers.emplace_back([&] {
          while (!is_over) room.announce(kMxc);
        });
      }
      while (room.waiting() < kWaiters / 2) std::this_thread::yield();
      room.close();
      is_over = true;
    }
    for (auto& waiter : waiters) waiter.get();
    EXPECT_EQ(room.waiting(), 0u);
    EXPECT_EQ(kept_entries(room), 0u);
  }
}

TEST_F(WaitingRoomTest, KeepsTheLimitOfAllWhenManyThreadsComeAndGo) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 5'000;
  constexpr std::size_t kLimit = 2;
  WaitingRoom room({.total = kLimit, .per_media = 100, .per_address = 100});
  std::atomic<bool> is_exceeded = false;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&, i] {
        const Mxc mxc = *Mxc::of("example.org", std::to_string(i));
        for (int round = 0; round < kRounds; ++round) {
          const auto ticket = enter(room, mxc, std::to_string(i));
          if (room.waiting() > kLimit) is_exceeded = true;
        }
      });
    }
  }
  EXPECT_FALSE(is_exceeded);
  EXPECT_EQ(room.waiting(), 0u);
  EXPECT_EQ(kept_entries(room), 0u);
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
