// SPDX-License-Identifier: Apache-2.0
// The waiting room alone, full of waiters and without sockets: what one costs, how long it takes to wake one, how long
// the worst entrance takes while the tables grow. Prints one JSON object.
//
//   bench_waiting_room [WAITERS] [WAKES]
#include "transfer/waiting_room.h"

#include <fmt/format.h>
#include <malloc.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/mxc.h"
#include "runtime/loop.h"
#include "runtime/signal.h"
#include "runtime/task.h"

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;
using transfer::Ticket;
using transfer::WaitingRoom;

double microseconds_since(Clock::time_point began) {
  return std::chrono::duration<double, std::micro>(Clock::now() - began).count();
}

// What the allocator has given out, the overhead of its pieces included.
std::size_t allocated_bytes() {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

long preemptions() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nivcsw;
}

/// The id of the number: as long as those that the repository makes.
Mxc id_of(std::size_t number) {
  std::mt19937_64 random(number);
  std::string id;
  while (id.size() < 32) id += "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"[random() % 64];
  return *Mxc::of("example.org", id);
}

std::string address_of(std::size_t number) {
  return fmt::format("{}.{}.{}.{}", 10 + (number >> 24), number >> 16 & 255, number >> 8 & 255, number & 255);
}

struct Crowd {
  std::size_t waiters;
  std::size_t ids;
  std::size_t addresses;
};

WaitingRoom::Limits limits_of(const Crowd& crowd) { return {crowd.waiters + 1, crowd.waiters + 1, crowd.waiters + 1}; }

/// A full room. Who waits has a signal and a ticket; nobody else's memory is in it.
class Full {
 public:
  Full(const Crowd& crowd, Loop& loop) : room_(limits_of(crowd)) {
    std::vector<Mxc> ids;
    std::vector<std::string> addresses;
    for (std::size_t i = 0; i < crowd.ids; ++i) ids.push_back(id_of(i));
    for (std::size_t i = 0; i < crowd.addresses; ++i) addresses.push_back(address_of(i));
    const std::size_t before_signals = allocated_bytes();
    signals_.reserve(crowd.waiters);
    for (std::size_t i = 0; i < crowd.waiters; ++i) signals_.push_back(std::make_shared<Signal>(loop));
    // A waiter has its signal by one shared_ptr more; that is its connection's, like the signal.
    signal_bytes_ = allocated_bytes() - before_signals;
    tickets_ = std::make_unique<std::optional<Ticket>[]>(crowd.waiters);
    entrances_us_.reserve(crowd.waiters);
    const std::size_t before = allocated_bytes();
    Clock::time_point entered = Clock::now();
    long seen_preemptions = preemptions();
    for (std::size_t i = 0; i < crowd.waiters; ++i) {
      tickets_[i].emplace(room_, ids[i % crowd.ids], addresses[i % crowd.addresses], signals_[i]);
      if (!tickets_[i]->is_admitted()) std::abort();
      const double took_us = microseconds_since(entered);
      // The worst is to be the room's, not that of another program that had the processor meanwhile.
      // The worst is to be the room's, not that of another program that had the processor meanwhile.
      const long preempted = took_us < 20 ? seen_preemptions : preemptions();
      if (std::exchange(seen_preemptions, preempted) == preempted) entrances_us_.push_back(took_us);
      entered = Clock::now();
    }
    room_bytes_ = allocated_bytes() - before + crowd.waiters * sizeof(std::optional<Ticket>);
  }

  WaitingRoom& room() { return room_; }
  std::size_t size() const { return signals_.size(); }
  const std::shared_ptr<Signal>& signal(std::size_t waiter) const { return signals_[waiter]; }
  double bytes_each() const { return static_cast<double>(room_bytes_) / static_cast<double>(signals_.size()); }
  double signal_bytes_each() const { return static_cast<double>(signal_bytes_) / static_cast<double>(signals_.size()); }
  std::vector<double>& entrances_us() { return entrances_us_; }
  double leave_us() {
    const Clock::time_point began = Clock::now();
    tickets_.reset();
    return microseconds_since(began) / static_cast<double>(signals_.size());
  }

 private:
  WaitingRoom room_;
  std::vector<std::shared_ptr<Signal>> signals_;
  std::unique_ptr<std::optional<Ticket>[]> tickets_;
  std::vector<double> entrances_us_;
  std::size_t signal_bytes_ = 0;
  std::size_t room_bytes_ = 0;
};

double quantile(std::vector<double>& sample, double part) {
  const auto nth = sample.begin() + static_cast<std::ptrdiff_t>(part * static_cast<double>(sample.size() - 1));
  std::ranges::nth_element(sample, nth);
  return *nth;
}

std::string spread(std::vector<double> sample) {
  return fmt::format(R"({{"median": {:.3f}, "p99": {:.3f}, "max": {:.3f}}})", quantile(sample, 0.5),
                     quantile(sample, 0.99), quantile(sample, 1));
}

Task<> sleep_once(std::shared_ptr<Signal> signal, Clock::time_point& woken_at) {
  co_await signal->wait();
  woken_at = Clock::now();
}

/// From the announcement until the waiter runs, on the loop of both: a wake-up without the kernel's part of it, which a
/// sleeping thread would add. The ids are taken at random, so nothing of them is in the processor's caches.
Task<> wake_some(Full& full, const Crowd& crowd, std::size_t wakes, std::vector<double>& announced_us,
                 std::vector<double>& woken_us) {
  std::mt19937_64 random(1);
  std::vector<std::size_t> numbers(crowd.ids);
  for (std::size_t i = 0; i < crowd.ids; ++i) numbers[i] = i;
  std::ranges::shuffle(numbers, random);
  numbers.resize(std::min(wakes, crowd.ids));
  std::vector<Mxc> ids;
  for (const std::size_t number : numbers) ids.push_back(id_of(number));
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    Clock::time_point woken_at;
    spawn(sleep_once(full.signal(numbers[i]), woken_at));
    const Clock::time_point began = Clock::now();
    full.room().announce(ids[i]);
    announced_us.push_back(microseconds_since(began));
    co_await yield_to_loop();
    woken_us.push_back(std::chrono::duration<double, std::micro>(woken_at - began).count());
  }
  Loop::current().post([&loop = Loop::current()] { loop.stop(); });
}

/// While everybody who sleeps for one id is woken, others come and go: how long that takes at most.
double worst_visit_us(Full& full, Loop& loop, const Mxc& mxc, double& announce_us) {
  std::atomic<bool> has_begun = false;
  std::atomic<bool> is_over = false;
  double worst = 0;
  Clock::time_point woken_at;
  for (std::size_t i = 0; i < full.size(); ++i) spawn(sleep_once(full.signal(i), woken_at));
  {
    std::jthread visitor([&] {
      const auto signal = std::make_shared<Signal>(loop);
      while (!is_over) {
        const bool is_meanwhile = has_begun;
        const Clock::time_point began = Clock::now();
        {
          const Ticket ticket(full.room(), mxc, "", signal);
        }
        if (is_meanwhile) worst = std::max(worst, microseconds_since(began));
      }
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    has_begun = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const Clock::time_point began = Clock::now();
    full.room().announce(mxc);
    announce_us = microseconds_since(began);
    is_over = true;
  }
  loop.post([&] { loop.stop(); });
  loop.run();  // the sleepers end
  return worst;
}

std::string measure(const Crowd& crowd, std::size_t wakes) {
  Loop loop;
  Full full(crowd, loop);
  std::vector<double> announced_us;
  std::vector<double> woken_us;
  std::string waking;
  if (crowd.waiters == crowd.ids) {
    loop.post([&] { spawn(wake_some(full, crowd, wakes, announced_us, woken_us)); });
    loop.run();
    waking = fmt::format(R"("announce_us": {}, "wake_us": {})", spread(std::move(announced_us)),
                         spread(std::move(woken_us)));
  } else {
    double announce_us = 0;
    const double worst = worst_visit_us(full, loop, id_of(0), announce_us);
    waking = fmt::format(R"("announce_to_all_of_one_id_us": {:.1f}, "worst_visit_meanwhile_us": {:.1f})", announce_us,
                         worst);
  }
  return fmt::format(
      R"({{"waiters": {}, "ids": {}, "addresses": {}, "bytes_each": {:.1f}, "signal_bytes_each": {:.1f}, "enter_us": {}, {}, "leave_us": {:.3f}}})",
      crowd.waiters, crowd.ids, crowd.addresses, full.bytes_each(), full.signal_bytes_each(),
      spread(std::move(full.entrances_us())), waking, full.leave_us());
}

/// Entrances and exits per second of so many threads together, each at ids and addresses of its own.
double visits_per_second(std::size_t threads) {
  constexpr std::size_t kVisits = 300'000;
  WaitingRoom room({kVisits, kVisits, kVisits});
  Loop loop;
  const Clock::time_point began = Clock::now();
  {
    std::vector<std::jthread> visitors;
    for (std::size_t i = 0; i < threads; ++i) {
      visitors.emplace_back([&, i] {
        const auto signal = std::make_shared<Signal>(loop);
        std::vector<Mxc> ids;
        for (std::size_t k = 0; k < 256; ++k) ids.push_back(id_of(i << 32 | k));
        const std::string address = address_of(i);
        for (std::size_t k = 0; k < kVisits; ++k) const Ticket ticket(room, ids[k % ids.size()], address, signal);
      });
    }
  }
  return static_cast<double>(kVisits * threads) / microseconds_since(began) * 1e6;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  using namespace sluice;
  const std::size_t waiters = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 1'000'000;
  const std::size_t wakes = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 20'000;
  if (waiters < 1'000) {
    fmt::print(stderr, "at least 1000 waiters\n");
    return 2;
  }
  const std::size_t shared = waiters / 250;  // addresses that use their share
  fmt::print(R"({{"ticket_bytes": {},
 "an_id_and_an_address_each": {},
 "an_id_each": {},
 "a_thousand_ids": {},
 "one_id": {},
 "visits_per_second": {{"1_thread": {:.0f}, "2_threads": {:.0f}}}}}
)",
             sizeof(transfer::Ticket), measure({waiters, waiters, waiters}, wakes),
             measure({waiters, waiters, shared}, wakes), measure({waiters, 1'000, shared}, wakes),
             measure({std::min<std::size_t>(waiters, 100'000), 1, shared}, wakes), visits_per_second(1),
             visits_per_second(2));
}
