// SPDX-License-Identifier: Apache-2.0

// One writer and its readers, in one thread on one core, so that both ends share a clock. Prints one JSON object.
//
//   bench_live mode=delay  port=P [slices=10000] [slice=16384] [upload=TARGET download=TARGET token=T]
//   bench_live mode=crowd  port=P readers=N size=BYTES download=TARGET token=T [upload=TARGET]
//
// delay: sends a slice, waits until the reader has all of it, and so on; without targets it speaks to bench_relay.
// crowd: readers that wait, then a writer at full speed; without an upload the readers get a file that is there.
// Readers take what comes without copying it (recv with MSG_TRUNC).

#include <sys/epoll.h>

#include <array>

#include "support.h"

namespace sluice::bench {
namespace {

constexpr std::size_t kPiece = std::size_t{1} << 20;

void receive_exactly(int socket, std::uint64_t count, std::string& buffer) {
  while (count > 0) {
    const ssize_t got = ::recv(socket, buffer.data(), std::min<std::uint64_t>(count, buffer.size()), 0);
    if (got <= 0) die("the reader's connection ended early");
    count -= static_cast<std::uint64_t>(got);
  }
}

/// Reads the head of a 2xx; what has come of the body, in bytes.
std::uint64_t receive_head(int socket) {
  std::string received(16384, '\0');
  std::size_t size = 0;
  for (;;) {
    const ssize_t got = ::recv(socket, received.data() + size, received.size() - size, 0);
    if (got <= 0) die("the reader's connection ended early");
    size += static_cast<std::size_t>(got);
    const std::string_view text = std::string_view(received).substr(0, size);
    const std::size_t end = text.find("\r\n\r\n");
    if (end == std::string_view::npos) continue;
    if (status_of(text) / 100 != 2) die("the reader was answered {}", text);
    return size - end - 4;
  }
}

void measure_delay(const Options& options) {
  const auto port = static_cast<std::uint16_t>(options.number("port"));
  const std::uint64_t slices = options.number("slices", 10'000);
  const std::string slice = noise(options.number("slice", 16'384));
  const bool is_http = !options.text("upload").empty();
  std::string buffer(kPiece, '\0');

  const int writer = connect_to(port);
  const int reader = connect_to(port);
  // One slice goes ahead, which opens the answer; one byte comes last, because a server that promises what it has sent
  // may hold it back until the bytes are on disk. Neither is counted.
  const std::uint64_t total = (slices + 1) * slice.size() + 1;
  if (is_http) send_all(writer, put_head(options.text("upload"), options.text("token"), total));
  if (is_http) send_all(reader, get_head(options.text("download"), options.text("token")));
  send_all(writer, slice);
  receive_exactly(reader, slice.size() - (is_http ? receive_head(reader) : 0), buffer);

  std::vector<std::uint64_t> delays;
  delays.reserve(slices);
  const double processor_before = processor_seconds();
  const std::uint64_t began = now_ns();
  for (std::uint64_t i = 0; i < slices; ++i) {
    const std::uint64_t sent = now_ns();
    send_all(writer, slice);
    receive_exactly(reader, slice.size(), buffer);
    delays.push_back(now_ns() - sent);
  }
  const double seconds = to_seconds(now_ns() - began);
  const double processor = processor_seconds() - processor_before;
  send_all(writer, "x");
  receive_exactly(reader, 1, buffer);
  if (is_http) read_answer(writer);
  std::ranges::sort(delays);
  fmt::print(
      "{{\"slices\": {}, \"seconds\": {:.6f}, \"median_us\": {:.1f}, \"p99_us\": {:.1f}, \"worst_us\": {:.1f}, "
      "\"processor_seconds\": {:.6f}}}\n",
      slices, seconds, to_us(quantile(delays, 0.5)), to_us(quantile(delays, 0.99)), to_us(delays.back()), processor);
}

struct Reader {
  int socket = -1;
  bool has_head = false;
  bool has_almost = false;  // all but one byte
  std::uint64_t received = 0;
};

class Crowd {
 public:
  explicit Crowd(const Options& options)
      : port_(static_cast<std::uint16_t>(options.number("port"))),
        size_(options.number("size")),
        token_(options.text("token")),
        download_(options.text("download")),
        upload_(options.text("upload")),
        readers_(options.number("readers", 1)),
        buffer_(kPiece, '\0'),
        data_(noise(kPiece)) {
    epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
  }

  void run() {
    for (std::size_t i = 0; i < readers_.size(); ++i) {
      readers_[i].socket = connect_to(port_, static_cast<std::uint8_t>(1 + i % 16));
      watch(readers_[i].socket, EPOLLIN, &readers_[i]);
    }
    double processor_before = processor_seconds();
    std::uint64_t began = now_ns();
    for (const Reader& reader : readers_) send_all(reader.socket, get_head(download_, token_));
    if (!upload_.empty()) {
      // They wait before the writer comes: its connection is opened when the server has read what they sent.
      wait_until_read();
      writer_ = connect_to(port_);
      watch(writer_, EPOLLIN | EPOLLOUT, &writer_);
      processor_before = processor_seconds();
      began = now_ns();
      send_all(writer_, put_head(upload_, token_, size_));
      set_non_blocking(writer_);
    } else {
      last_sent_ = began;
      is_answered_ = true;
    }
    while (done_ < readers_.size() || !is_answered_) step();
    const std::uint64_t sent = upload_.empty() ? began : last_sent_;
    const auto after_sent_ms = [&](std::uint64_t time) { return time < sent ? 0.0 : to_ms(time - sent); };
    fmt::print(
        "{{\"bytes\": {}, \"seconds\": {:.6f}, \"almost_seconds\": {:.6f}, \"sent_seconds\": {:.6f}, "
        "\"tail_ms\": {:.3f}, \"almost_tail_ms\": {:.3f}, \"answer_ms\": {:.3f}, \"processor_seconds\": {:.6f}}}\n",
        size_ * readers_.size(), to_seconds(last_received_ - began), to_seconds(almost_received_ - began),
        to_seconds(sent - began), after_sent_ms(last_received_), after_sent_ms(almost_received_),
        after_sent_ms(answered_), processor_seconds() - processor_before);
  }

 private:
  void watch(int socket, std::uint32_t events, void* what) {
    epoll_event event{.events = events, .data = {.ptr = what}};
    ::epoll_ctl(epoll_, EPOLL_CTL_ADD, socket, &event);
  }

  /// Until nothing of the requests is left unacknowledged or unread, as far as the kernel tells, and a moment more.
  void wait_until_read() const {
    for (const Reader& reader : readers_) {
      tcp_info info{};
      socklen_t size = sizeof info;
      do {
        ::getsockopt(reader.socket, IPPROTO_TCP, TCP_INFO, &info, &size);
      } while (info.tcpi_unacked != 0);
    }
    const timespec moment{.tv_sec = 0, .tv_nsec = 100'000'000};
    ::nanosleep(&moment, nullptr);
  }

  void step() {
    std::array<epoll_event, 256> events;
    const int ready = ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), 10'000);
    if (ready == 0) die("nothing came for 10 s: {} of {} readers have all", done_, readers_.size());
    for (int i = 0; i < ready; ++i) {
      const epoll_event& event = events.at(static_cast<std::size_t>(i));
      if (event.data.ptr != &writer_) {
        read(*static_cast<Reader*>(event.data.ptr));
      } else if ((event.events & EPOLLIN) != 0) {
        read_answer(writer_);
        answered_ = now_ns();
        is_answered_ = true;
        ::epoll_ctl(epoll_, EPOLL_CTL_DEL, writer_, nullptr);
      } else if ((event.events & EPOLLOUT) != 0) {
        write();
      }
    }
  }

  void write() {
    const std::uint64_t piece = std::min<std::uint64_t>(size_ - written_, data_.size());
    const ssize_t sent = ::send(writer_, data_.data(), piece, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EAGAIN) return;
    if (sent < 0) die_of_errno("send");
    written_ += static_cast<std::uint64_t>(sent);
    if (written_ < size_) return;
    last_sent_ = now_ns();
    epoll_event event{.events = EPOLLIN, .data = {.ptr = &writer_}};
    ::epoll_ctl(epoll_, EPOLL_CTL_MOD, writer_, &event);
  }

  void read(Reader& reader) {
    if (!reader.has_head) {
      reader.received = receive_head(reader.socket);
      reader.has_head = true;
    } else {
      const ssize_t got = ::recv(reader.socket, buffer_.data(), kPiece, MSG_DONTWAIT | MSG_TRUNC);
      if (got < 0 && errno == EAGAIN) return;
      if (got <= 0) die("a reader's connection ended after {} bytes", reader.received);
      reader.received += static_cast<std::uint64_t>(got);
    }
    if (!reader.has_almost && reader.received >= size_ - 1) {
      reader.has_almost = true;
      almost_received_ = now_ns();
    }
    if (reader.received < size_) return;
    last_received_ = now_ns();
    ++done_;
    ::epoll_ctl(epoll_, EPOLL_CTL_DEL, reader.socket, nullptr);
  }

  std::uint16_t port_;
  std::uint64_t size_;
  std::string token_, download_, upload_;
  std::vector<Reader> readers_;
  std::string buffer_, data_;
  int epoll_ = -1;
  int writer_ = -1;
  std::uint64_t written_ = 0;
  std::uint64_t last_sent_ = 0, last_received_ = 0, almost_received_ = 0, answered_ = 0;
  std::size_t done_ = 0;
  bool is_answered_ = false;
};

}  // namespace
}  // namespace sluice::bench

int main(int count, char** arguments) {
  using namespace sluice::bench;
  raise_descriptor_limit();
  const Options options(count, arguments);
  const std::string mode = options.text("mode");
  if (mode == "delay") {
    measure_delay(options);
  } else if (mode == "crowd") {
    Crowd(options).run();
  } else {
    die("mode is delay or crowd");
  }
  return 0;
}
