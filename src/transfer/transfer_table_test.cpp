// SPDX-License-Identifier: Apache-2.0
#include "transfer/transfer_table.h"

#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <thread>
#include <vector>

namespace sluice::transfer {
namespace {

const Mxc kMxc = *Mxc::of("example.org", "one");
const Mxc kOther = *Mxc::of("example.org", "two");
const Mxc kElsewhere = *Mxc::of("example.com", "one");

std::shared_ptr<Transfer> make_transfer() {
  return std::make_shared<Transfer>(Description{.content_type = "text/plain", .filename = "", .size = {}}, nullptr);
}

TEST(TransferTable, FindsWhatRuns) {
  TransferTable table;
  const auto transfer = make_transfer();
  EXPECT_EQ(table.find(kMxc), nullptr);
  EXPECT_TRUE(table.begin(kMxc, transfer));
  EXPECT_EQ(table.find(kMxc), transfer);
  EXPECT_EQ(table.find(kOther), nullptr);
  EXPECT_EQ(table.find(kElsewhere), nullptr) << "the same id of another server is another id";
  EXPECT_EQ(table.size(), 1u);
}

TEST(TransferTable, GivesAnIdToOneTransferAtATime) {
  TransferTable table;
  const auto first = make_transfer();
  EXPECT_TRUE(table.begin(kMxc, first));
  EXPECT_FALSE(table.begin(kMxc, make_transfer()));
  EXPECT_EQ(table.find(kMxc), first) << "the loser has displaced the holder";
  EXPECT_TRUE(table.begin(kOther, make_transfer()));
}

TEST(TransferTable, GivesAnIdAgainAfterItsEnd) {
  TransferTable table;
  EXPECT_TRUE(table.begin(kMxc, make_transfer()));
  table.end(kMxc);
  EXPECT_EQ(table.find(kMxc), nullptr);
  EXPECT_EQ(table.size(), 0u);
  const auto second = make_transfer();
  EXPECT_TRUE(table.begin(kMxc, second));
  EXPECT_EQ(table.find(kMxc), second);
}

TEST(TransferTable, HasOneWinnerAmongManyThreads) {
  constexpr int kRounds = 200;
  constexpr int kThreads = 4;
  TransferTable table;
  for (int round = 0; round < kRounds; ++round) {
    std::atomic<int> winners = 0;
    std::latch start(kThreads);
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        const auto transfer = make_transfer();
        start.arrive_and_wait();
        if (!table.begin(kMxc, transfer)) return;
        ++winners;
        EXPECT_EQ(table.find(kMxc), transfer);
      });
    }
    threads.clear();
    EXPECT_EQ(winners, 1);
    table.end(kMxc);
  }
}

TEST(TransferTable, HoldsMoreThanThereAreShards) {
  constexpr int kIds = 1'000;
  TransferTable table;
  std::vector<std::pair<Mxc, std::shared_ptr<Transfer>>> running;
  for (int i = 0; i < kIds; ++i) running.emplace_back(*Mxc::of("example.org", std::to_string(i)), make_transfer());
  for (const auto& [mxc, transfer] : running) EXPECT_TRUE(table.begin(mxc, transfer));
  EXPECT_EQ(table.size(), running.size());
  for (const auto& [mxc, transfer] : running) EXPECT_EQ(table.find(mxc), transfer);
  for (const auto& [mxc, transfer] : running) {
    table.end(mxc);
    EXPECT_EQ(table.find(mxc), nullptr);
  }
  EXPECT_EQ(table.size(), 0u);
}

// Two who each announce themselves and then look for the other: at least one must see the other, as behind a lock.
TEST(TransferTable, IsSeenByWhoeverLooksAfterItBegan) {
  constexpr int kRounds = 2'000;
  TransferTable table;
  for (int round = 0; round < kRounds; ++round) {
    bool has_seen[2] = {false, false};
    std::latch start(2);
    {
      std::vector<std::jthread> threads;
      for (int i = 0; i < 2; ++i) {
        threads.emplace_back([&, i] {
          const auto transfer = make_transfer();
          start.arrive_and_wait();
          EXPECT_TRUE(table.begin(i == 0 ? kMxc : kOther, transfer));
          has_seen[i] = table.find(i == 0 ? kOther : kMxc) != nullptr;
        });
      }
    }
    EXPECT_TRUE(has_seen[0] || has_seen[1]);
    table.end(kMxc);
    table.end(kOther);
  }
}

TEST(TransferTable, LetsNothingBeginUnderAnIdThatIsClosed) {
  TransferTable table;
  const auto running = make_transfer();
  ASSERT_TRUE(table.begin(kMxc, running));
  {
    const ClosedId closed(table, kMxc);
    EXPECT_EQ(running->progress().state, State::kBroken);
    table.end(kMxc);
    {
      const ClosedId closed_again(table, kMxc);
      EXPECT_TRUE(table.begin(kOther, make_transfer()));
    }
    EXPECT_FALSE(table.begin(kMxc, make_transfer()));
  }
  EXPECT_TRUE(table.begin(kMxc, make_transfer()));
}

}  // namespace
}  // namespace sluice::transfer
