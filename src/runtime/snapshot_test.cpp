// SPDX-License-Identifier: Apache-2.0
#include "runtime/snapshot.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <future>
#include <memory>
#include <vector>

#include "runtime/run_on_loop_test.h"

namespace sluice {
namespace {

/// Two that belong together; whoever sees others than twins reads what is gone or half there.
struct Twins {
  explicit Twins(int number) : first(number), second(std::make_unique<int>(number)) {}
  int first;
  std::unique_ptr<int> second;
};

TEST(Snapshot, IsWhatItWasReplacedWith) {
  Snapshot<int> snapshot(1);
  EXPECT_EQ(snapshot.read(), 1);
  snapshot.replace(2, {});
  EXPECT_EQ(snapshot.read(), 2);
}

TEST(Snapshot, StaysWhileALoopThatReadItHasNotComeBack) {
  LoopThread thread;
  Snapshot<std::shared_ptr<int>> snapshot(std::make_shared<int>(1));
  std::promise<void> has_read;
  std::promise<void> may_go_on;
  std::promise<int> read_again;
  thread.loop().post([&] {
    const std::shared_ptr<int>& read = snapshot.read();
    has_read.set_value();
    may_go_on.get_future().wait();
    read_again.set_value(*read);
  });
  has_read.get_future().wait();
  const std::array<Loop*, 1> readers = {&thread.loop()};
  snapshot.replace(std::make_shared<int>(2), readers);
  may_go_on.set_value();
  EXPECT_EQ(read_again.get_future().get(), 1);
}

TEST(Snapshot, KeepsNothingOnceEveryLoopHasComeBack) {
  auto value = std::make_shared<int>(1);
  const std::weak_ptr<int> watched = value;
  Snapshot<std::shared_ptr<int>> snapshot(std::move(value));
  {
    std::array<LoopThread, 3> threads;
    std::vector<Loop*> readers;
    for (LoopThread& thread : threads) readers.push_back(&thread.loop());
    snapshot.replace(std::make_shared<int>(2), readers);
  }  // each has run what was posted to it
  EXPECT_TRUE(watched.expired());
}

TEST(Snapshot, IsNeverSeenHalfReplaced) {
  std::array<LoopThread, 2> threads;
  std::vector<Loop*> readers;
  for (LoopThread& thread : threads) readers.push_back(&thread.loop());
  Snapshot<Twins> snapshot(Twins(0));
  std::atomic<bool> is_over = false;
  struct Reading {
    static Task<int> read(const Snapshot<Twins>& snapshot, const std::atomic<bool>& is_over) {
      int last = 0;
      while (!is_over) {
        for (int i = 0; i < 100; ++i) {
          const Twins& twins = snapshot.read();
          EXPECT_EQ(twins.first, *twins.second);
          EXPECT_GE(twins.first, last) << "never an older one again";
          last = twins.first;
        }
        co_await yield_to_loop();
      }
      co_return last;
    }
  };
  std::vector<std::future<int>> readings;
  for (LoopThread& thread : threads) readings.push_back(thread.start(Reading::read(snapshot, is_over)));
  for (int i = 1; i <= 2000; ++i) snapshot.replace(Twins(i), readers);
  is_over = true;
  for (std::future<int>& reading : readings) EXPECT_LE(reading.get(), 2000);
}

}  // namespace
}  // namespace sluice
