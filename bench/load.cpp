// SPDX-License-Identifier: Apache-2.0

// A closed loop of HTTP/1.1 requests over keep-alive connections, one thread, for what wrk cannot do: bodies that are
// never twice the same, ranges at random offsets, and reading without copying (recv with MSG_TRUNC), so that a server
// with sendfile stays the slower side. Prints one JSON object.
//
//   bench_load port=8090 targets=FILE [method=GET|POST|PUT] [connections=64] [seconds=5 | count=1000] [tokens=FILE]
//              [body=10240] [range=65536 size=268435456] [discard=1] [host=localhost]
//
// `targets` and `tokens` hold one per line and are used in turn; a connection keeps its token. A body of more than
// 16 bytes begins with 16 that no other request of this run has.

#include <sys/epoll.h>
#include <sys/uio.h>

#include <array>
#include <fstream>
#include <random>

#include "support.h"

namespace sluice::bench {
namespace {

constexpr std::size_t kBuffer = std::size_t{1} << 20;
constexpr std::size_t kStamp = 16;

std::vector<std::string> lines_of(const std::string& path) {
  std::ifstream file(path);
  if (!file) die("cannot read {}", path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  if (lines.empty()) die("{} is empty", path);
  return lines;
}

struct Plan {
  explicit Plan(const Options& options)
      : port(static_cast<std::uint16_t>(options.number("port"))),
        connections(options.number("connections", 1)),
        deadline_ns(options.number("seconds") * 1'000'000'000),
        count(options.number("count")),
        method(options.text("method", "GET")),
        host(options.text("host", "localhost")),
        targets(lines_of(options.text("targets"))),
        tokens(options.text("tokens").empty() ? std::vector<std::string>() : lines_of(options.text("tokens"))),
        body(noise(options.number("body"))),
        range(options.number("range")),
        size(options.number("size")),
        discard(options.number("discard") != 0) {}

  /// Then a connection writes its head once: beside a fast server that shows.
  bool is_always_the_same() const { return targets.size() == 1 && range == 0; }

  std::uint16_t port;
  std::uint64_t connections;
  std::uint64_t deadline_ns;
  std::uint64_t count;
  std::string method;
  std::string host;
  std::vector<std::string> targets;
  std::vector<std::string> tokens;
  std::string body;
  std::uint64_t range;
  std::uint64_t size;
  bool discard;
};

struct Connection {
  int socket = -1;
  std::size_t number = 0;
  std::string head;  // of the request
  std::array<char, kStamp> stamp{};
  std::size_t sent = 0;
  bool waits_to_send = false;
  std::string answer;      // its head, and what came with it
  std::uint64_t left = 0;  // of the answer's body
  bool in_body = false;
  bool is_chunked = false;
  int status = 0;
  std::uint64_t began_ns = 0;
};

class Generator {
 public:
  explicit Generator(const Plan& plan) : plan_(plan), buffer_(kBuffer, '\0') {
    epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
    connections_.resize(plan.connections);
    latencies_.reserve(1 << 20);
  }

  void run() {
    for (std::size_t i = 0; i < connections_.size(); ++i) {
      connections_[i].number = i;
      open(connections_[i]);
    }
    const double processor_before = processor_seconds();
    const std::uint64_t began = now_ns();
    for (Connection& connection : connections_) begin(connection);
    std::array<epoll_event, 256> events;
    while (!is_over(began)) {
      const int ready = ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), 100);
      for (int i = 0; i < ready; ++i) {
        const epoll_event& event = events.at(static_cast<std::size_t>(i));
        Connection& connection = *static_cast<Connection*>(event.data.ptr);
        if ((event.events & EPOLLOUT) != 0) send(connection);
        if ((event.events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) receive(connection);
      }
    }
    report(to_seconds(now_ns() - began), processor_seconds() - processor_before);
  }

 private:
  bool is_over(std::uint64_t began) const {
    if (plan_.count != 0 && done_ >= plan_.count) return true;
    return plan_.deadline_ns != 0 && now_ns() - began >= plan_.deadline_ns;
  }

  void open(Connection& connection) {
    // One address has some 28,000 ports towards a server; several are there for runs in a row.
    connection.socket = connect_to(plan_.port, static_cast<std::uint8_t>(1 + connection.number % 16));
    set_non_blocking(connection.socket);
    epoll_event event{.events = EPOLLIN, .data = {.ptr = &connection}};
    ::epoll_ctl(epoll_, EPOLL_CTL_ADD, connection.socket, &event);
    connection.waits_to_send = false;
  }

  void begin(Connection& connection) {
    if (plan_.count != 0 && begun_ >= plan_.count) return;
    if (connection.head.empty() || !plan_.is_always_the_same()) write_head(connection);
    const std::array<std::uint64_t, 2> stamp = {begun_, seed_};
    std::memcpy(connection.stamp.data(), stamp.data(), kStamp);
    ++begun_;
    connection.sent = 0;
    connection.in_body = false;
    connection.answer.clear();
    connection.began_ns = now_ns();
    send(connection);
  }

  void write_head(Connection& connection) {
    const std::string& target = plan_.targets[begun_ % plan_.targets.size()];
    std::string& head = connection.head;
    head.clear();
    fmt::format_to(std::back_inserter(head), "{} {} HTTP/1.1\r\nHost: {}\r\n", plan_.method, target, plan_.host);
    if (!plan_.tokens.empty()) {
      const std::string& token = plan_.tokens[connection.number % plan_.tokens.size()];
      fmt::format_to(std::back_inserter(head), "Authorization: Bearer {}\r\n", token);
    }
    if (plan_.range != 0) {
      const std::uint64_t first = random_() % (plan_.size - plan_.range + 1);
      fmt::format_to(std::back_inserter(head), "Range: bytes={}-{}\r\n", first, first + plan_.range - 1);
    }
    if (plan_.method != "GET") {
      fmt::format_to(std::back_inserter(head), "Content-Type: {}\r\nContent-Length: {}\r\n",
                     plan_.body.empty() ? "application/json" : "application/octet-stream", plan_.body.size());
    }
    head += "\r\n";
  }

  /// The request is three pieces: its head, the stamp, and the part of the body that all share.
  void send(Connection& connection) {
    const std::size_t stamp = std::min(kStamp, plan_.body.size());
    const std::array<std::string_view, 3> pieces = {connection.head, std::string_view(connection.stamp.data(), stamp),
                                                    std::string_view(plan_.body).substr(stamp)};
    const std::size_t total = connection.head.size() + plan_.body.size();
    while (connection.sent < total) {
      std::array<iovec, 3> vectors{};
      std::size_t skip = connection.sent;
      for (std::size_t i = 0; i < pieces.size(); ++i) {
        const std::size_t here = std::min(skip, pieces.at(i).size());
        vectors.at(i) = {.iov_base = const_cast<char*>(pieces.at(i).data() + here),
                         .iov_len = pieces.at(i).size() - here};
        skip -= here;
      }
      msghdr message{};
      message.msg_iov = vectors.data();
      message.msg_iovlen = vectors.size();
      const ssize_t sent = ::sendmsg(connection.socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0 && errno == EAGAIN) return wait_to_send(connection, true);
      if (sent < 0) return fail(connection);
      connection.sent += static_cast<std::size_t>(sent);
    }
    wait_to_send(connection, false);
  }

  void wait_to_send(Connection& connection, bool waits) {
    if (connection.waits_to_send == waits) return;
    connection.waits_to_send = waits;
    epoll_event event{.events = waits ? EPOLLIN | EPOLLOUT : EPOLLIN, .data = {.ptr = &connection}};
    ::epoll_ctl(epoll_, EPOLL_CTL_MOD, connection.socket, &event);
  }

  void receive(Connection& connection) {
    const bool discard = plan_.discard && connection.in_body && !connection.is_chunked;
    const std::size_t most = discard ? std::min<std::size_t>(connection.left, kBuffer) : buffer_.size();
    const ssize_t count = ::recv(connection.socket, buffer_.data(), most, MSG_DONTWAIT | (discard ? MSG_TRUNC : 0));
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) return fail(connection);
    const std::string_view data(buffer_.data(), discard ? 0 : static_cast<std::size_t>(count));
    bytes_ += static_cast<std::uint64_t>(count);
    if (!connection.in_body) return receive_head(connection, data);
    if (connection.is_chunked) return receive_chunks(connection, data);
    take(connection, static_cast<std::uint64_t>(count));
  }

  void receive_head(Connection& connection, std::string_view data) {
    // Almost always the head comes whole: then nothing is copied.
    std::string_view head = data;
    if (!connection.answer.empty()) head = connection.answer.append(data);
    const std::size_t end = head.find("\r\n\r\n");
    if (end == std::string_view::npos) {
      if (connection.answer.empty()) connection.answer = data;
      return;
    }
    const std::string_view body = head.substr(end + 4);
    head = head.substr(0, end + 2);
    connection.status = status_of(head);
    connection.in_body = true;
    const std::string_view length = field_of(head, "Content-Length");
    connection.is_chunked = length.empty();
    connection.left = 0;
    std::from_chars(length.data(), length.data() + length.size(), connection.left);
    if (connection.is_chunked) {
      const std::string copy(body);
      connection.answer.clear();
      return receive_chunks(connection, copy);
    }
    take(connection, body.size());
  }

  void take(Connection& connection, std::uint64_t count) {
    if (count > connection.left) die("more came than the answer's Content-Length");
    connection.left -= count;
    if (connection.left == 0) end(connection);
  }

  /// Only Synapse's short JSON comes so: the last chunk is looked for at the end of what has arrived.
  void receive_chunks(Connection& connection, std::string_view data) {
    connection.answer.append(data);
    if (connection.answer.ends_with("0\r\n\r\n")) end(connection);
  }

  void end(Connection& connection) {
    ++done_;
    if (connection.status / 100 == 2) {
      latencies_.push_back(now_ns() - connection.began_ns);
    } else {
      ++refused_[connection.status];
    }
    begin(connection);
  }

  void fail(Connection& connection) {
    ++broken_;
    if (broken_ > 1000) die("1000 connections broke");
    ::close(connection.socket);
    open(connection);
    begin(connection);
  }

  void report(double seconds, double processor) {
    std::ranges::sort(latencies_);
    std::string refused;
    for (const auto& [status, count] : refused_) {
      refused += fmt::format("{}\"{}\": {}", refused.empty() ? "" : ", ", status, count);
    }
    fmt::print(
        "{{\"requests\": {}, \"seconds\": {:.6f}, \"bytes\": {}, \"refused\": {{{}}}, \"broken\": {}, "
        "\"median_us\": {:.1f}, \"p99_us\": {:.1f}, \"worst_us\": {:.1f}, \"processor_seconds\": {:.6f}}}\n",
        latencies_.size(), seconds, bytes_, refused, broken_, to_us(quantile(latencies_, 0.5)),
        to_us(quantile(latencies_, 0.99)), to_us(latencies_.empty() ? 0 : latencies_.back()), processor);
  }

  const Plan& plan_;
  std::string buffer_;
  int epoll_ = -1;
  std::vector<Connection> connections_;
  std::mt19937_64 random_{20240229};
  std::uint64_t seed_ = now_ns();
  std::uint64_t begun_ = 0;
  std::uint64_t done_ = 0;
  std::uint64_t bytes_ = 0;
  std::uint64_t broken_ = 0;
  std::map<int, std::uint64_t> refused_;
  std::vector<std::uint64_t> latencies_;
};

}  // namespace
}  // namespace sluice::bench

int main(int count, char** arguments) {
  sluice::bench::raise_descriptor_limit();
  const sluice::bench::Plan plan(sluice::bench::Options(count, arguments));
  sluice::bench::Generator(plan).run();
  return 0;
}
