// SPDX-License-Identifier: Apache-2.0
#include "runtime/socket.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <optional>
#include <string_view>

#include "runtime/run_on_loop_test.h"

namespace sluice {
namespace {

/// A socket on the running loop, and the other end of its connection.
struct Connected {
  Connected() {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends.data()) != 0) std::abort();
    other = FileDescriptor(ends[1]);
    socket.emplace(FileDescriptor(ends[0]), signal);
  }
  void send(std::string_view text) const {
    ASSERT_EQ(::write(other.get(), text.data(), text.size()), ssize_t(text.size()));
  }
  ssize_t receive() {
    std::array<char, 16> buffer{};
    const ssize_t got = ::read(socket->get(), buffer.data(), buffer.size());
    if (got < ssize_t(buffer.size())) socket->found_drained();
    return got;
  }
  // What fits into the connection.
  void fill() {
    const std::array<char, 4096> bytes{};
    while (::write(socket->get(), bytes.data(), bytes.size()) > 0) continue;
    socket->found_full();
  }
  void drain() const {
    std::array<char, 65536> bytes;
    while (::read(other.get(), bytes.data(), bytes.size()) > 0) continue;
  }

  const std::shared_ptr<Signal> signal = std::make_shared<Signal>(Loop::current());
  std::optional<Socket> socket;
  FileDescriptor other;
};

Task<> wake_when_readable() {
  Connected connected;
  EXPECT_TRUE(connected.socket->may_be_readable()) << "nobody has looked yet";
  EXPECT_EQ(connected.receive(), -1);
  EXPECT_FALSE(connected.socket->may_be_readable());
  for (int round = 0; round < 3; ++round) {
    connected.send("hello");
    EXPECT_TRUE((co_await connected.signal->wait()).has(Wake::kReadable));
    EXPECT_TRUE(connected.socket->may_be_readable());
    EXPECT_EQ(connected.receive(), 5);
    EXPECT_FALSE(connected.socket->may_be_readable());
  }
}

TEST(Socket, WakesWhenThereIsSomethingToReadAgain) { run_on_loop(wake_when_readable()); }

Task<> wake_when_writable() {
  Connected connected;
  connected.receive();
  connected.fill();
  EXPECT_FALSE(connected.socket->may_be_writable());
  connected.drain();
  const WakeSet woken = co_await connected.signal->wait();
  EXPECT_TRUE(woken.has(Wake::kWritable));
  EXPECT_FALSE(woken.has(Wake::kReadable));
  EXPECT_TRUE(connected.socket->may_be_writable());
}

TEST(Socket, WakesWhenThereIsRoomAgain) { run_on_loop(wake_when_writable()); }

// The end comes with the last bytes, before these are read: there will be no other news of it.
Task<> notice_end_behind_bytes() {
  Connected connected;
  connected.receive();
  connected.send("last words");
  ::shutdown(connected.other.get(), SHUT_WR);
  EXPECT_TRUE((co_await connected.signal->wait()).has(Wake::kReadable));
  EXPECT_EQ(connected.receive(), 10);
  EXPECT_TRUE(connected.socket->may_be_readable());
  EXPECT_EQ(connected.receive(), 0);
}

TEST(Socket, ReadsOnToTheEndOfOneThatHasHungUp) { run_on_loop(notice_end_behind_bytes()); }

Task<> end_that_comes_later() {
  Connected connected;
  connected.receive();
  connected.other.reset();
  EXPECT_TRUE((co_await connected.signal->wait()).has(Wake::kReadable));
  EXPECT_EQ(connected.receive(), 0);
}

TEST(Socket, WakesWhenTheOtherSideLeaves) { run_on_loop(end_that_comes_later()); }

// Both have news in one go, and who is told first destroys the other.
Task<> destroy_one_that_has_news() {
  class Destroyer final : public Loop::Watcher {
   public:
    explicit Destroyer(std::optional<Connected>& victim) : victim_(victim) {}
    void on_ready(Readiness readiness) override {
      if (readiness.readable) victim_.reset();
    }

   private:
    std::optional<Connected>& victim_;
  };
  for (const bool victim_first : {true, false}) {
    std::optional<Connected> victim;
    Destroyer destroyer(victim);
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends.data()), 0);
    const FileDescriptor here(ends[0]);
    const FileDescriptor there(ends[1]);
    if (victim_first) victim.emplace();
    EXPECT_TRUE(Loop::current().watch(here.get(), destroyer));
    if (!victim_first) victim.emplace();
    victim->send("x");
    EXPECT_EQ(::write(there.get(), "x", 1), 1);
    while (victim) co_await yield_to_loop();
    Loop::current().unwatch(here.get(), destroyer);
  }
}

TEST(Socket, MayGoAwayWhileItsNewsAreOnTheirWay) { run_on_loop(destroy_one_that_has_news()); }

}  // namespace
}  // namespace sluice
