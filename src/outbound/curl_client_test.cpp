// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <expected>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/file_system.h"
#include "outbound/client.h"
#include "runtime/run_on_loop_test.h"

namespace sluice::outbound {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::Not;

// One connection that the test's server has accepted.
class Peer {
 public:
  explicit Peer(int fd) : fd_(fd) {}

  /// The next request's head, or nothing when the client has closed.
  std::optional<std::string> read_head() {
    for (;;) {
      if (const std::size_t end = received_.find("\r\n\r\n"); end != std::string::npos) {
        std::string head = received_.substr(0, end + 4);
        received_.erase(0, end + 4);
        return head;
      }
      char buffer[4096];
      const ssize_t got = recv(fd_, buffer, sizeof buffer, 0);
      if (got <= 0) return std::nullopt;
      received_.append(buffer, static_cast<std::size_t>(got));
    }
  }
  /// False once the client takes no more.
  bool send(std::string_view data) {
    while (!data.empty()) {
      const ssize_t sent = ::send(fd_, data.data(), data.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      data.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }
  void wait_until_closed() {
    while (read_head()) {
    }
  }

 private:
  const int fd_;
  std::string received_;
};

// A server on a port of its own, with a thread for each connection.
class Server {
 public:
  using Behaviour = std::function<void(Peer&)>;

  explicit Server(Behaviour behaviour) : behaviour_(std::move(behaviour)) {
    listener_ = FileDescriptor(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    EXPECT_EQ(bind(listener_.get(), as_sockaddr(&address), length), 0);
    EXPECT_EQ(listen(listener_.get(), 128), 0);
    EXPECT_EQ(getsockname(listener_.get(), as_sockaddr(&address), &length), 0);
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { accept_all(); });
  }
  ~Server() {
    shutdown(listener_.get(), SHUT_RDWR);
    acceptor_.join();
    {
      const std::lock_guard lock(mutex_);
      for (const int fd : open_) shutdown(fd, SHUT_RDWR);
    }
    for (std::thread& thread : threads_) thread.join();
  }

  std::string url(std::string_view path = "/") const {
    return "http://127.0.0.1:" + std::to_string(port_) + std::string(path);
  }
  int connections() const { return connections_.load(); }

 private:
  static sockaddr* as_sockaddr(sockaddr_in* address) { return reinterpret_cast<sockaddr*>(address); }

  void accept_all() {
    for (;;) {
      const int fd = accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) return;
      ++connections_;
      const std::lock_guard lock(mutex_);
      open_.push_back(fd);
      threads_.emplace_back([this, fd] { serve(fd); });
    }
  }
  void serve(int fd) {
    Peer peer(fd);
    behaviour_(peer);
    const std::lock_guard lock(mutex_);
    std::erase(open_, fd);
    close(fd);
  }

  const Behaviour behaviour_;
  FileDescriptor listener_;
  std::uint16_t port_ = 0;
  std::atomic<int> connections_ = 0;
  std::mutex mutex_;
  std::vector<int> open_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

std::string ok(std::string_view body, std::string_view more_headers = "") {
  return "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" + std::string(more_headers) +
         "\r\n" + std::string(body);
}

// Answers every request on every connection with the same bytes.
Server::Behaviour always(std::string response) {
  return [response = std::move(response)](Peer& peer) {
    while (peer.read_head() && peer.send(response)) {
    }
  };
}

// Answers one request, then closes.
Server::Behaviour once(std::string response) {
  return [response = std::move(response)](Peer& peer) {
    if (peer.read_head()) peer.send(response);
  };
}

Server::Behaviour never() {
  return [](Peer& peer) { peer.wait_until_closed(); };
}

using Outcome = std::expected<Response, Failure>;

Request request_to(std::string url) { return {.url = std::move(url), .headers = {{"Authorization", "Bearer t0k3n"}}}; }

class CurlClientTest : public ::testing::Test {
 protected:
  Outcome get(Request request) { return run_on_loop(client_->get(std::move(request))); }

  std::unique_ptr<Client> client_ = make_curl_client();
};

TEST_F(CurlClientTest, BringsTheResponse) {
  Server server(once("HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\nRetry-After: 17\r\n\r\nhello"));
  const Outcome outcome = get(request_to(server.url()));
  ASSERT_TRUE(outcome.has_value()) << outcome.error().message;
  EXPECT_EQ(outcome->status, 403);
  EXPECT_EQ(outcome->body, "hello");
  EXPECT_EQ(outcome->retry_after, "17");
}

TEST_F(CurlClientTest, RetryAfterIsEmptyWithoutTheHeader) {
  Server server(always(ok("hello")));
  EXPECT_EQ(get(request_to(server.url()))->retry_after, "");
}

TEST_F(CurlClientTest, SendsTheRequestAsGiven) {
  std::promise<std::string> head;
  Server server([&head](Peer& peer) {
    head.set_value(peer.read_head().value_or(""));
    peer.send(ok(""));
  });
  Request request = request_to(server.url("/a/b?user_id=%40a"));
  request.headers.emplace_back("X-Empty", "");
  EXPECT_TRUE(get(std::move(request)));
  const std::string sent = head.get_future().get();
  EXPECT_THAT(sent, testing::StartsWith("GET /a/b?user_id=%40a HTTP/1.1\r\n"));
  EXPECT_THAT(sent, HasSubstr("\r\nAuthorization: Bearer t0k3n\r\n"));
  EXPECT_THAT(sent, HasSubstr("\r\nX-Empty:\r\n"));
  EXPECT_THAT(sent, HasSubstr("\r\nUser-Agent: sluice/"));
}

TEST_F(CurlClientTest, ReadsChunkedBodies) {
  Server server(once("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"));
  EXPECT_EQ(get(request_to(server.url()))->body, "abcde");
}

TEST_F(CurlClientTest, GivesUpOnAServerThatDoesNotAnswer) {
  Server server(never());
  Request request = request_to(server.url());
  request.timeout = milliseconds(150);
  const auto begin = std::chrono::steady_clock::now();
  const Outcome outcome = get(std::move(request));
  ASSERT_FALSE(outcome.has_value());
  EXPECT_TRUE(outcome.error().timed_out);
  EXPECT_GE(std::chrono::steady_clock::now() - begin, milliseconds(140));
}

TEST_F(CurlClientTest, TimeoutIsForTheWholeExchangeHoweverLivelyItIs) {
  Server server([](Peer& peer) {
    if (!peer.read_head()) return;
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
    while (peer.send("x")) std::this_thread::sleep_for(milliseconds(5));
  });
  Request request = request_to(server.url());
  request.timeout = milliseconds(150);
  const Outcome outcome = get(std::move(request));
  ASSERT_FALSE(outcome.has_value());
  EXPECT_TRUE(outcome.error().timed_out);
}

TEST_F(CurlClientTest, NoTimeAtAllIsNotAllTheTime) {
  Server server(never());
  Request request = request_to(server.url());
  request.timeout = milliseconds(0);
  const Outcome outcome = get(std::move(request));
  ASSERT_FALSE(outcome.has_value());
  EXPECT_TRUE(outcome.error().timed_out);
}

TEST_F(CurlClientTest, BodyMayBeAsLongAsItsLimitAndNoLonger) {
  Server server(always(ok(std::string(1000, 'x'))));
  Request request = request_to(server.url());
  request.max_response_bytes = 1000;
  EXPECT_EQ(get(request)->body.size(), 1000u);

  request.max_response_bytes = 999;
  const Outcome outcome = get(request);
  ASSERT_FALSE(outcome.has_value());
  EXPECT_FALSE(outcome.error().timed_out);
  EXPECT_THAT(outcome.error().message, HasSubstr("999"));
}

TEST_F(CurlClientTest, EndlessBodyIsCutOff) {
  Server server([](Peer& peer) {
    if (!peer.read_head()) return;
    peer.send("HTTP/1.1 200 OK\r\n\r\n");
    const std::string chunk(64 * 1024, 'x');
    while (peer.send(chunk)) {
    }
  });
  EXPECT_FALSE(get(request_to(server.url())).has_value());
}

TEST_F(CurlClientTest, EndlessHeadIsCutOff) {
  Server server([](Peer& peer) {
    if (!peer.read_head()) return;
    peer.send("HTTP/1.1 200 OK\r\n");
    while (peer.send("X-More: and more\r\n")) {
    }
  });
  const Outcome outcome = get(request_to(server.url()));
  ASSERT_FALSE(outcome.has_value());
  EXPECT_FALSE(outcome.error().timed_out);
}

TEST_F(CurlClientTest, RefusedConnectionIsAFailure) {
  std::string url;
  {
    const Server closed(never());
    url = closed.url();
  }
  const Outcome outcome = get(request_to(url));
  ASSERT_FALSE(outcome.has_value());
  EXPECT_FALSE(outcome.error().timed_out);
  EXPECT_FALSE(outcome.error().message.empty());
  EXPECT_THAT(outcome.error().message, Not(HasSubstr("t0k3n")));
}

TEST_F(CurlClientTest, BodyThatEndsEarlyIsAFailure) {
  Server server(once("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"));
  EXPECT_FALSE(get(request_to(server.url())).has_value());
  Server chunked(once("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"));
  EXPECT_FALSE(get(request_to(chunked.url())).has_value());
}

TEST_F(CurlClientTest, NonsenseInsteadOfHttpIsAFailure) {
  Server server(once("SSH-2.0-OpenSSH_9.2\r\n"));
  EXPECT_FALSE(get(request_to(server.url())).has_value());
  Server silent(once(""));
  EXPECT_FALSE(get(request_to(silent.url())).has_value());
}

TEST_F(CurlClientTest, RedirectsAreNotFollowed) {
  Server target(always(ok("the target")));
  Server server(once("HTTP/1.1 302 Found\r\nLocation: " + target.url() + "\r\nContent-Length: 0\r\n\r\n"));
  EXPECT_EQ(get(request_to(server.url()))->status, 302);
  EXPECT_EQ(target.connections(), 0);
}

TEST_F(CurlClientTest, SpeaksHttpOnly) {
  for (const char* url : {"file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1/", "no url", ""}) {
    EXPECT_FALSE(get(request_to(url)).has_value()) << url;
  }
}

TEST_F(CurlClientTest, LetsNoHeaderSmuggleAnother) {
  Server server(always(ok("")));
  Request request = request_to(server.url());
  request.headers.emplace_back("X-Innocent", "a\r\nX-Evil: b");
  EXPECT_FALSE(get(std::move(request)).has_value());
  EXPECT_FALSE(get(request_to(server.url("/a\r\nX-Evil: b"))).has_value());
  EXPECT_EQ(server.connections(), 0);
}

TEST_F(CurlClientTest, ConnectionsAreUsedAgain) {
  Server server(always(ok("hello")));
  for (int i = 0; i < 5; ++i) EXPECT_EQ(get(request_to(server.url()))->body, "hello");
  EXPECT_EQ(server.connections(), 1);
}

TEST_F(CurlClientTest, AConnectionThatTheServerClosedIsReplaced) {
  Server server(once(ok("hello")));
  for (int i = 0; i < 5; ++i) EXPECT_EQ(get(request_to(server.url()))->body, "hello");
  EXPECT_EQ(server.connections(), 5);
}

TEST_F(CurlClientTest, ProxiesOfTheEnvironmentAreNotUsed) {
  Server proxy(always(ok("from the proxy")));
  setenv("http_proxy", proxy.url().c_str(), 1);
  setenv("all_proxy", proxy.url().c_str(), 1);
  Server server(always(ok("from the server")));
  EXPECT_EQ(get(request_to(server.url()))->body, "from the server");
  unsetenv("http_proxy");
  unsetenv("all_proxy");
}

Task<bool> comes_back(Client& client, Request request) {
  Loop* const home = &Loop::current();
  const Outcome outcome = co_await client.get(std::move(request));
  co_return outcome.has_value() && &Loop::current() == home;
}

TEST_F(CurlClientTest, EachOfSeveralLoopsGetsItsOwnBack) {
  Server server(always(ok("hello")));
  LoopThread first;
  LoopThread second;
  std::vector<std::future<bool>> results;
  for (int i = 0; i < 50; ++i) {
    results.push_back(first.start(comes_back(*client_, request_to(server.url()))));
    results.push_back(second.start(comes_back(*client_, request_to(server.url()))));
  }
  for (std::future<bool>& result : results) EXPECT_TRUE(result.get());
}

TEST_F(CurlClientTest, OneSlowServerHoldsNobodyElse) {
  std::promise<void> release;
  Server slow([&release](Peer& peer) {
    if (!peer.read_head()) return;
    release.get_future().wait();
    peer.send(ok("at last"));
  });
  Server server(always(ok("hello")));
  LoopThread thread;
  auto held = thread.start(client_->get(request_to(slow.url())));
  EXPECT_EQ(get(request_to(server.url()))->body, "hello");
  EXPECT_EQ(held.wait_for(seconds(0)), std::future_status::timeout);
  release.set_value();
  EXPECT_EQ(held.get()->body, "at last");
}

Task<void> do_nothing() { co_return; }

// Holds every request until so many are there.
class Gate {
 public:
  explicit Gate(int goal) : goal_(goal) {}
  void pass() {
    std::unique_lock lock(mutex_);
    ++come_;
    opened_.notify_all();
    opened_.wait(lock, [this] { return come_ >= goal_; });
  }
  void await_full() {
    std::unique_lock lock(mutex_);
    opened_.wait(lock, [this] { return come_ >= goal_; });
  }

 private:
  const int goal_;
  int come_ = 0;
  std::mutex mutex_;
  std::condition_variable opened_;
};

TEST_F(CurlClientTest, RequestsBeyondTheMostConnectionsTakeTurns) {
  constexpr int kConnections = 64;
  Gate gate(kConnections);
  Server server([&gate](Peer& peer) {
    while (peer.read_head()) {
      gate.pass();
      if (!peer.send(ok("hello"))) return;
    }
  });
  LoopThread thread;
  std::vector<std::future<Outcome>> results;
  for (int i = 0; i < 3 * kConnections; ++i) results.push_back(thread.start(client_->get(request_to(server.url()))));
  for (std::future<Outcome>& result : results) EXPECT_EQ(result.get()->body, "hello");
  EXPECT_EQ(server.connections(), kConnections);
}

TEST_F(CurlClientTest, WaitingForATurnCountsAgainstTheTimeoutAndIsBounded) {
  constexpr int kConnections = 64;
  constexpr int kWaiting = 1024;
  std::promise<void> release;
  const std::shared_future<void> released = release.get_future().share();
  Gate gate(kConnections);
  Server server([&gate, released](Peer& peer) {
    while (peer.read_head()) {
      gate.pass();
      released.wait();
      if (!peer.send(ok("hello"))) return;
    }
  });
  LoopThread thread;
  std::vector<std::future<Outcome>> held;
  for (int i = 0; i < kConnections; ++i) held.push_back(thread.start(client_->get(request_to(server.url()))));
  gate.await_full();

  Request impatient = request_to(server.url());
  impatient.timeout = milliseconds(100);
  const Outcome late = get(impatient);
  ASSERT_FALSE(late.has_value());
  EXPECT_TRUE(late.error().timed_out);

  for (int i = 0; i < kWaiting; ++i) held.push_back(thread.start(client_->get(request_to(server.url()))));
  thread.start(do_nothing()).get();  // by now all of them are handed over
  const Outcome beyond = get(request_to(server.url()));
  ASSERT_FALSE(beyond.has_value());
  EXPECT_FALSE(beyond.error().timed_out);

  release.set_value();
  for (std::future<Outcome>& result : held) EXPECT_EQ(result.get()->body, "hello");
}

}  // namespace
}  // namespace sluice::outbound
