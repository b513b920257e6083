// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the load generators share: a clock, sockets on loopback, options of the form key=value. A generator that cannot
// go on says why on standard error and exits with 1: its figures would be worth nothing.

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::bench {

template <class... Arguments>
[[noreturn]] void die(fmt::format_string<Arguments...> text, Arguments&&... arguments) {
  fmt::print(stderr, "{}\n", fmt::format(text, std::forward<Arguments>(arguments)...));
  std::exit(1);
}

[[noreturn]] inline void die_of_errno(std::string_view doing) { die("{}: {}", doing, std::strerror(errno)); }

inline std::uint64_t now_ns() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(time.tv_nsec);
}

/// What this process has used of its core, in seconds.
inline double processor_seconds() {
  timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

inline double to_seconds(std::uint64_t ns) { return static_cast<double>(ns) / 1e9; }
inline double to_us(std::uint64_t ns) { return static_cast<double>(ns) / 1e3; }
inline double to_ms(std::uint64_t ns) { return static_cast<double>(ns) / 1e6; }

inline void raise_descriptor_limit() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

/// The command line: key=value, each key once.
class Options {
 public:
  Options(int count, char** arguments) {
    for (int i = 1; i < count; ++i) {
      const std::string_view argument = arguments[i];
      const std::size_t equals = argument.find('=');
      if (equals == std::string_view::npos) die("not key=value: {}", argument);
      values_[std::string(argument.substr(0, equals))] = argument.substr(equals + 1);
    }
  }

  std::string text(const std::string& key, std::string fallback = "") const {
    const auto found = values_.find(key);
    return found == values_.end() ? fallback : found->second;
  }

  std::uint64_t number(const std::string& key, std::uint64_t fallback = 0) const {
    const std::string value = text(key);
    if (value.empty()) return fallback;
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc{} || end != value.data() + value.size()) die("{} is not a number: {}", key, value);
    return number;
  }

 private:
  std::map<std::string, std::string> values_;
};

/// A connection to 127.0.0.1:port. From 127.0.0.`source`, unless that is 0: each source has ports of its own.
inline int connect_to(std::uint16_t port, std::uint8_t source = 0) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket < 0) die_of_errno("socket");
  const int on = 1;
  ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  if (source != 0) {
    // The port is chosen by connect, which knows the other end and so may use a port twice.
    ::setsockopt(socket, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK - 1 + source);
    if (::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) die_of_errno("bind");
  }
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  if (::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) die_of_errno("connect");
  return socket;
}

inline void set_non_blocking(int socket) { ::fcntl(socket, F_SETFL, ::fcntl(socket, F_GETFL) | O_NONBLOCK); }

/// Sends all of it on a blocking socket.
inline void send_all(int socket, std::string_view data) {
  while (!data.empty()) {
    const ssize_t sent = ::send(socket, data.data(), data.size(), MSG_NOSIGNAL);
    if (sent < 0) die_of_errno("send");
    data.remove_prefix(static_cast<std::size_t>(sent));
  }
}

/// The value of a field in a head, by its name in any case; empty if it is not there. Looks at line beginnings only:
/// the generator's own cost of a response is on the same scale as the server's.
inline std::string_view field_of(std::string_view head, std::string_view name) {
  for (std::size_t end = head.find('\n'); end != std::string_view::npos; end = head.find('\n')) {
    head.remove_prefix(end + 1);
    if (head.size() <= name.size() || head[name.size()] != ':' || (head[0] | 0x20) != (name[0] | 0x20)) continue;
    if (::strncasecmp(head.data(), name.data(), name.size()) != 0) continue;
    std::string_view value = head.substr(name.size() + 1, head.find('\r') - name.size() - 1);
    while (value.starts_with(' ')) value.remove_prefix(1);
    return value;
  }
  return {};
}

inline int status_of(std::string_view head) {
  return head.size() < 12 ? 0 : (head[9] - '0') * 100 + (head[10] - '0') * 10 + (head[11] - '0');
}

inline std::uint64_t length_of(std::string_view head) {
  const std::string_view value = field_of(head, "Content-Length");
  std::uint64_t length = 0;
  std::from_chars(value.data(), value.data() + value.size(), length);
  return length;
}

/// Reads a whole response with Content-Length from a blocking socket; dies unless its status is 2xx.
inline void read_answer(int socket) {
  std::string received;
  char buffer[16384];
  for (;;) {
    const std::size_t end = received.find("\r\n\r\n");
    if (end != std::string::npos && received.size() >= end + 4 + length_of(received)) break;
    const ssize_t count = ::recv(socket, buffer, sizeof buffer, 0);
    if (count <= 0) die("the answer ended early: {}", received);
    received.append(buffer, static_cast<std::size_t>(count));
  }
  if (status_of(received) / 100 != 2) die("the answer was {}", received);
}

inline std::string get_head(std::string_view target, std::string_view token) {
  return fmt::format("GET {} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n", target, token);
}

inline std::string put_head(std::string_view target, std::string_view token, std::uint64_t length) {
  return fmt::format(
      "PUT {} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: application/octet-stream\r\n"
      "Content-Length: {}\r\n\r\n",
      target, token, length);
}

/// Bytes that no file system or network compresses.
inline std::string noise(std::size_t size) {
  std::string data(size, '\0');
  std::uint64_t state = 0x9e3779b97f4a7c15ull ^ now_ns();
  for (std::size_t i = 0; i + 8 <= size; i += 8) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    std::memcpy(data.data() + i, &state, 8);
  }
  return data;
}

/// The value below which `share` of the sorted values lie.
inline std::uint64_t quantile(const std::vector<std::uint64_t>& sorted, double share) {
  if (sorted.empty()) return 0;
  return sorted[std::min(sorted.size() - 1, static_cast<std::size_t>(static_cast<double>(sorted.size()) * share))];
}

}  // namespace sluice::bench
