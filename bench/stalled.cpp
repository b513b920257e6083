// SPDX-License-Identifier: Apache-2.0

// Downloads of media that nobody has uploaded yet, as many as asked for, over connections of one process from sixteen
// addresses of loopback. Reads commands from standard input, one a line, and answers each with one JSON object:
//
//   bench_stalled port=P download=TARGET upload=TARGET token=T
//   open N      there are N of them now
//   serve SIZE  uploads as many bytes; how long until every download has got all of them

#include <sys/epoll.h>

#include <array>
#include <iostream>
#include <sstream>

#include "support.h"

namespace sluice::bench {
namespace {

struct Waiter {
  int socket = -1;
  std::uint64_t received = 0;
  std::uint64_t wanted = 0;  // once the head is there
};

class Crowd {
 public:
  explicit Crowd(const Options& options)
      : port_(static_cast<std::uint16_t>(options.number("port"))),
        download_(options.text("download")),
        upload_(options.text("upload")),
        token_(options.text("token")) {
    epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
  }

  void open(std::size_t count) {
    const std::string request = get_head(download_, token_);
    const std::uint64_t began = now_ns();
    while (waiters_.size() < count) {
      const int socket = connect_to(port_, static_cast<std::uint8_t>(1 + waiters_.size() % 16));
      send_all(socket, request);
      waiters_.push_back({.socket = socket});
    }
    fmt::print("{{\"open\": {}, \"seconds\": {:.6f}}}\n", waiters_.size(), to_seconds(now_ns() - began));
  }

  void serve(std::uint64_t size) {
    for (std::size_t i = 0; i < waiters_.size(); ++i) {
      epoll_event event{.events = EPOLLIN, .data = {.u64 = i}};
      ::epoll_ctl(epoll_, EPOLL_CTL_ADD, waiters_[i].socket, &event);
    }
    const int writer = connect_to(port_);
    const double processor_before = processor_seconds();
    const std::uint64_t began = now_ns();
    send_all(writer, put_head(upload_, token_, size) + noise(size));
    std::size_t served = 0;
    std::array<epoll_event, 256> events;
    std::array<char, 65536> buffer;
    while (served < waiters_.size()) {
      const int ready = ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), 30'000);
      if (ready == 0) die("nothing came for 30 s: {} of {} are served", served, waiters_.size());
      for (int i = 0; i < ready; ++i) {
        if (receive(waiters_[events.at(static_cast<std::size_t>(i)).data.u64], buffer, size)) ++served;
      }
    }
    const std::uint64_t ended = now_ns();
    read_answer(writer);
    fmt::print("{{\"served\": {}, \"seconds\": {:.6f}, \"processor_seconds\": {:.6f}}}\n", served,
               to_seconds(ended - began), processor_seconds() - processor_before);
  }

 private:
  /// True when all of it is there.
  bool receive(Waiter& waiter, std::array<char, 65536>& buffer, std::uint64_t size) const {
    const ssize_t got = ::recv(waiter.socket, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return false;
    if (got <= 0) die("a stalled download ended without an answer");
    if (waiter.wanted == 0) {
      const std::string_view text(buffer.data(), static_cast<std::size_t>(got));
      const std::size_t end = text.find("\r\n\r\n");
      if (end == std::string_view::npos || status_of(text) != 200) die("a stalled download was answered {}", text);
      waiter.wanted = end + 4 + size;
    }
    waiter.received += static_cast<std::uint64_t>(got);
    if (waiter.received < waiter.wanted) return false;
    ::epoll_ctl(epoll_, EPOLL_CTL_DEL, waiter.socket, nullptr);
    return true;
  }

  std::uint16_t port_;
  std::string download_, upload_, token_;
  std::vector<Waiter> waiters_;
  int epoll_ = -1;
};

}  // namespace
}  // namespace sluice::bench

int main(int count, char** arguments) {
  using namespace sluice::bench;
  raise_descriptor_limit();
  Crowd crowd(Options(count, arguments));
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string command;
    std::uint64_t number = 0;
    words >> command >> number;
    if (command == "open") {
      crowd.open(number);
    } else if (command == "serve") {
      crowd.serve(number);
    } else {
      die("open or serve, not {}", command);
    }
    std::fflush(stdout);
  }
  return 0;
}
