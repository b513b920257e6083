// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/text.h"
#include "http/server.h"

// What the tests of the server share: a server on loopback with a toy behind it, and a client that sees every byte.
namespace sluice::http {

using std::chrono::milliseconds;

/// Longer than anything here takes, also under a sanitizer on a busy machine.
inline constexpr std::chrono::seconds kPatience{60};

/// For the few things that nobody announces.
template <class Condition>
bool eventually(Condition condition) {
  const auto give_up = std::chrono::steady_clock::now() + kPatience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > give_up) return false;
    std::this_thread::sleep_for(milliseconds(1));
  }
  return true;
}

inline std::shared_ptr<const FileDescriptor> file_of(std::string_view content) {
  FileDescriptor file(::memfd_create("test", MFD_CLOEXEC));
  if (::write(file.get(), content.data(), content.size()) != static_cast<ssize_t>(content.size())) {
    throw std::system_error(errno, std::generic_category(), "memfd");
  }
  return std::make_shared<const FileDescriptor>(std::move(file));
}

inline std::shared_ptr<const FileDescriptor> file_of_zeros(std::uint64_t size) {
  FileDescriptor file(::memfd_create("test", MFD_CLOEXEC));
  if (::ftruncate(file.get(), static_cast<off_t>(size)) != 0) {
    throw std::system_error(errno, std::generic_category(), "memfd");
  }
  return std::make_shared<const FileDescriptor>(std::move(file));
}

/// A file whose growth the test decides, with at most one follower. From any thread.
class Script {
 public:
  void append(std::string_view content) {
    const std::scoped_lock lock(mutex_);
    if (::write(file_->get(), content.data(), content.size()) != static_cast<ssize_t>(content.size())) std::abort();
    growth_.readable += content.size();
    wake();
  }
  void end(GrowingFile::Ending ending) {
    const std::scoped_lock lock(mutex_);
    growth_.ending = ending;
    wake();
  }
  /// Whoever looks at the growth from now on gets an exception.
  void fail() {
    const std::scoped_lock lock(mutex_);
    fails_ = true;
  }
  /// The follower has seen all there is and sleeps.
  bool has_sleeper() const {
    const std::scoped_lock lock(mutex_);
    return sleeper_ != nullptr;
  }
  int followers() const {
    const std::scoped_lock lock(mutex_);
    return followers_;
  }
  std::unique_ptr<GrowingFile> follow(std::shared_ptr<Signal> signal) {
    return std::make_unique<Follower>(*this, std::move(signal));
  }

 private:
  class Follower final : public GrowingFile {
   public:
    Follower(Script& script, std::shared_ptr<Signal> signal) : script_(script), signal_(std::move(signal)) {
      const std::scoped_lock lock(script_.mutex_);
      ++script_.followers_;
    }
    ~Follower() override {
      const std::scoped_lock lock(script_.mutex_);
      --script_.followers_;
      script_.sleeper_.reset();
    }
    int descriptor() const override { return script_.file_->get(); }
    Growth growth() const override {
      const std::scoped_lock lock(script_.mutex_);
      if (script_.fails_) throw std::runtime_error("a bug in a file");
      return script_.growth_;
    }
    void wake_beyond(std::uint64_t offset) override {
      const std::scoped_lock lock(script_.mutex_);
      script_.sleeper_ = signal_;
      if (script_.growth_.readable > offset || script_.growth_.ending != Ending::kNone) script_.wake();
    }

   private:
    Script& script_;
    const std::shared_ptr<Signal> signal_;
  };

  void wake() {
    if (const auto sleeper = std::exchange(sleeper_, nullptr)) sleeper->raise(Wake::kProgress);
  }

  mutable std::mutex mutex_;
  const std::shared_ptr<const FileDescriptor> file_ = file_of("");
  GrowingFile::Growth growth_;
  std::shared_ptr<Signal> sleeper_;
  int followers_ = 0;
  bool fails_ = false;
};

struct Report {
  std::string path;
  std::string client_address;
  int status = 0;
  bool completed = false;
  std::uint64_t bytes_received = 0;
  std::uint64_t bytes_sent = 0;
};

/// The handler behind the server, which does what the path says, and what it and the test tell each other.
class Toy {
 public:
  Task<Response> handle(Exchange& exchange) {
    const std::string path(exchange.head().target());
    note_seen(path);
    if (path == "/echo") co_return co_await echo(exchange);
    if (path == "/full") co_return co_await pour_into<Refusing>(exchange);
    if (path == "/throw-in-body") co_return co_await pour_into<Throwing>(exchange);
    if (path == "/throw") throw std::runtime_error("a bug");
    if (path == "/wait") co_return co_await wait(exchange);
    co_return answer(exchange, path);
  }

  static Response turn_error(const Error& error) {
    Response response;
    response.status = error.http_status;
    response.body = error.message;
    return response;
  }

  void record(const ExchangeReport& report) {
    const std::scoped_lock lock(mutex_);
    reports_.push_back({std::string(report.path), std::string(report.client_address), report.status, report.completed,
                        report.bytes_received, report.bytes_sent});
    changed_.notify_all();
  }

  /// The paths of the requests that were executed, in order.
  std::vector<std::string> seen() const {
    const std::scoped_lock lock(mutex_);
    return seen_;
  }
  bool has_seen(const std::string& path) const { return std::ranges::count(seen(), path) > 0; }
  void wait_until_seen(const std::string& path) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, kPatience, [&] { return std::ranges::count(seen_, path) > 0; })) << path;
  }
  /// The `n`th report, counted from 1.
  Report wait_for_report(std::size_t n) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, kPatience, [&] { return reports_.size() >= n; }));
    return reports_.size() >= n ? reports_[n - 1] : Report();
  }

  /// Lets those on /wait go.
  void open_gate() {
    const std::scoped_lock lock(mutex_);
    gate_is_open_ = true;
    for (const auto& signal : waiting_) signal->raise(Wake::kProgress);
  }

  // Set before the requests that use them.
  Script script;
  std::optional<std::uint64_t> follow_length;
  std::uint64_t follow_offset = 0;
  FileBody file;

 private:
  class Keeping final : public BodySink {
   public:
    Result<> write(std::span<const std::byte> data) override {
      content.append(reinterpret_cast<const char*>(data.data()), data.size());
      return {};
    }
    std::string content;
  };
  class Refusing final : public BodySink {
   public:
    Result<> write(std::span<const std::byte>) override { return fail::too_large("too much"); }
  };
  class Throwing final : public BodySink {
   public:
    Result<> write(std::span<const std::byte>) override { throw std::runtime_error("a bug in a sink"); }
  };

  static Task<Response> echo(Exchange& exchange) {
    Keeping sink;
    if (const Result<> received = co_await exchange.receive_body(sink); !received) {
      co_return turn_error(received.error());
    }
    Response response;
    response.body = sink.content;
    co_return response;
  }

  template <class Sink>
  static Task<Response> pour_into(Exchange& exchange) {
    Sink sink;
    const Result<> received = co_await exchange.receive_body(sink);
    co_return received ? Response() : turn_error(received.error());
  }

  Task<Response> wait(Exchange& exchange) {
    {
      const std::scoped_lock lock(mutex_);
      waiting_.push_back(exchange.signal());
    }
    while (exchange.is_present() && !is_gate_open()) co_await exchange.signal()->wait();
    Response response;
    response.body = "waited";
    co_return response;
  }

  Response answer(Exchange& exchange, const std::string& path) {
    Response response;
    response.body = "this is " + path;
    if (path == "/refuse") response.status = 403;
    if (path == "/empty") response.status = 204;
    if (path == "/not-modified") response.status = 304;
    if (path == "/close") response.close = true;
    if (path == "/split") response.with("X-Name", "a\r\nSet-Cookie: b");
    if (path == "/file") response.body = file;
    if (path == "/follow") {
      response.body = FollowBody{script.follow(exchange.signal()), follow_offset, follow_length};
    }
    return response;
  }

  void note_seen(const std::string& path) {
    const std::scoped_lock lock(mutex_);
    seen_.push_back(path);
    changed_.notify_all();
  }
  bool is_gate_open() const {
    const std::scoped_lock lock(mutex_);
    return gate_is_open_;
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> seen_;
  std::vector<Report> reports_;
  bool gate_is_open_ = false;
  std::vector<std::shared_ptr<Signal>> waiting_;
};

/// A server with a toy, on loops with threads of their own.
class TestServer {
 public:
  explicit TestServer(std::size_t loops, ServerOptions options = {}) {
    std::signal(SIGPIPE, SIG_IGN);  // as the program does: sendfile raises it when the client has left
    options.host = "127.0.0.1";
    std::vector<Loop*> all;
    for (std::size_t i = 0; i < loops; ++i) all.push_back(loops_.emplace_back(std::make_unique<Loop>()).get());
    server_.emplace(
        std::move(options), all, [this](Exchange& exchange) { return toy.handle(exchange); }, Toy::turn_error,
        [this](const ExchangeReport& report) { toy.record(report); });
    const auto port = server_->start();
    if (!port) throw std::runtime_error(port.error());
    port_ = *port;
    for (Loop* loop : all) threads_.emplace_back([loop] { loop->run(); });
  }

  /// The clients of the test have left by now: no connection may remain.
  ~TestServer() {
    server_->drain();
    EXPECT_TRUE(eventually([this] { return connections() == 0; })) << connections() << " connections leaked";
    for (const auto& loop : loops_) loop->stop();
    for (std::thread& thread : threads_) thread.join();
    server_.reset();
  }

  std::uint16_t port() const { return port_; }
  std::size_t connections() const { return server_->traffic().connections; }
  Server& server() { return *server_; }

  Toy toy;

 private:
  std::vector<std::unique_ptr<Loop>> loops_;
  std::vector<std::thread> threads_;
  std::optional<Server> server_;
  std::uint16_t port_ = 0;
};

struct Answer {
  int status = 0;  // 0: the connection ended, or was silent for too long, before a head had come
  std::string head;
  std::map<std::string, std::string> fields;  // names in lower case
  std::string body;
  bool is_whole = false;  // as far as its framing tells
};

/// A client on a plain socket.
class Client {
 public:
  explicit Client(const TestServer& server, int receive_buffer = 0) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    const timeval patience{kPatience.count(), 0};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    const int on = 1;
    ::setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (receive_buffer > 0) {
      ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    }
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(server.port());
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    is_connected_ = ::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }

  bool is_connected() const { return is_connected_; }

  /// False when the other side does not take it any more.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent < 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }
  void send_in_pieces(std::string_view bytes, std::size_t size) {
    for (; !bytes.empty(); bytes.remove_prefix(std::min(size, bytes.size()))) {
      if (!send(bytes.substr(0, size))) return;
    }
  }
  void leave() { socket_.reset(); }

  Answer request(std::string_view request) {
    send(request);
    return read();
  }
  Answer get(const std::string& path) { return request("GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n"); }

  /// Reads one answer; `to_head` if it is one to a HEAD request.
  Answer read(bool to_head = false) {
    Answer answer = read_head();
    if (answer.status == 0) return answer;
    const bool has_body = !to_head && answer.status >= 200 && answer.status != 204 && answer.status != 304;
    if (!has_body) {
      answer.is_whole = true;
    } else if (answer.fields.contains("transfer-encoding")) {
      read_chunks(answer);
    } else if (const auto length = answer.fields.find("content-length"); length != answer.fields.end()) {
      const std::size_t size = std::stoull(length->second);
      answer.is_whole = await(size);
      answer.body = take(std::min(size, received_.size()));
    } else {
      while (receive()) continue;
      answer.is_whole = end_ == End::kClean;
      answer.body = take(received_.size());
    }
    return answer;
  }
  Answer read_head() {
    Answer answer;
    std::size_t end = 0;
    while ((end = received_.find("\r\n\r\n")) == std::string::npos) {
      if (!receive()) return answer;
    }
    answer.head = take(end + 4);
    answer.status = std::stoi(answer.head.substr(answer.head.find(' ')));
    for (const std::string_view line : split(std::string_view(answer.head).substr(0, end), '\n')) {
      const std::size_t colon = line.find(':');
      if (colon == std::string_view::npos) continue;
      std::string_view value = trim(line.substr(colon + 1));
      if (value.ends_with('\r')) value.remove_suffix(1);
      answer.fields.emplace(to_lower(line.substr(0, colon)), value);
    }
    return answer;
  }

  /// The next bytes, as many as `size` of them, framing and all.
  std::string read_bytes(std::size_t size) {
    await(size);
    return take(std::min(size, received_.size()));
  }
  bool has_bytes() {
    char byte = 0;
    return !received_.empty() || ::recv(socket_.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
  }
  /// Whether the connection ends here, with no byte more.
  bool is_at_end() { return received_.empty() && !receive() && end_ != End::kSilence; }
  bool is_reset() { return received_.empty() && !receive() && end_ == End::kReset; }
  bool is_at_clean_end() { return received_.empty() && !receive() && end_ == End::kClean; }

 private:
  enum class End { kNone, kClean, kReset, kSilence };

  bool receive() {
    char buffer[64 * 1024];
    const ssize_t got = ::recv(socket_.get(), buffer, sizeof buffer, 0);
    if (got > 0) {
      received_.append(buffer, static_cast<std::size_t>(got));
      return true;
    }
    end_ = got == 0 ? End::kClean : errno == EAGAIN ? End::kSilence : End::kReset;
    return false;
  }
  bool await(std::size_t size) {
    while (received_.size() < size) {
      if (!receive()) return false;
    }
    return true;
  }
  std::string take(std::size_t size) {
    std::string taken = received_.substr(0, size);
    received_.erase(0, size);
    return taken;
  }
  void read_chunks(Answer& answer) {
    for (;;) {
      std::size_t line_end = 0;
      while ((line_end = received_.find("\r\n")) == std::string::npos) {
        if (!receive()) return;
      }
      const std::size_t size = std::stoull(take(line_end + 2), nullptr, 16);
      const bool came = await(size + 2);
      answer.body += take(std::min(size, received_.size()));
      if (!came || take(2) != "\r\n") return;
      if (size == 0) {
        answer.is_whole = true;
        return;
      }
    }
  }

  FileDescriptor socket_;
  bool is_connected_ = false;
  std::string received_;
  End end_ = End::kNone;
};

inline std::string get_request(const std::string& path, const std::string& fields = "") {
  return "GET " + path + " HTTP/1.1\r\nHost: h\r\n" + fields + "\r\n";
}
inline std::string post_request(const std::string& path, const std::string& body, const std::string& fields = "") {
  return "POST " + path + " HTTP/1.1\r\nHost: h\r\n" + fields + "Content-Length: " + std::to_string(body.size()) +
         "\r\n\r\n" + body;
}
inline std::string chunked_request(const std::string& path, const std::string& chunks, const std::string& fields = "") {
  return "POST " + path + " HTTP/1.1\r\nHost: h\r\n" + fields + "Transfer-Encoding: chunked\r\n\r\n" + chunks;
}

/// Each test runs with one loop and with two.
class ServerTest : public testing::TestWithParam<std::size_t> {
 protected:
  std::size_t loops() const { return GetParam(); }
};

inline auto loop_counts() { return testing::Values(std::size_t{1}, std::size_t{2}); }
inline std::string loop_count_name(const testing::TestParamInfo<std::size_t>& info) {
  return info.param == 1 ? "OneLoop" : "TwoLoops";
}

}  // namespace sluice::http
