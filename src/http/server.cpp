// SPDX-License-Identifier: Apache-2.0
#include "http/server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <system_error>
#include <utility>

#include "base/random.h"
#include "http/connection.h"

namespace sluice::http {
namespace {

constexpr int kBacklog = 4096;
// How long accepting rests when there is no room for a connection.
constexpr Milliseconds kAcceptRest{50};
// Connections that are accepted before those that exist have a turn.
constexpr int kAcceptsInTurn = 64;

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = sizeof(sockaddr_storage);

  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  sockaddr_in& v4() { return reinterpret_cast<sockaddr_in&>(storage); }
  sockaddr_in6& v6() { return reinterpret_cast<sockaddr_in6&>(storage); }

  static std::optional<SocketAddress> of(const std::string& host, std::uint16_t port) {
    SocketAddress address;
    if (::inet_pton(AF_INET, host == "localhost" ? "127.0.0.1" : host.c_str(), &address.v4().sin_addr) == 1) {
      address.storage.ss_family = AF_INET;
      address.size = sizeof(sockaddr_in);
    } else if (::inet_pton(AF_INET6, host.c_str(), &address.v6().sin6_addr) == 1) {
      address.storage.ss_family = AF_INET6;
      address.size = sizeof(sockaddr_in6);
    } else {
      return std::nullopt;
    }
    address.set_port(port);
    return address;
  }
  // Both families have it in the same place.
  std::uint16_t port() { return ntohs(v4().sin_port); }
  void set_port(std::uint16_t port) { v4().sin_port = htons(port); }

  std::string host() {
    std::array<char, INET6_ADDRSTRLEN> text{};
    const bool is_v4 = storage.ss_family == AF_INET;
    const void* bytes = is_v4 ? static_cast<const void*>(&v4().sin_addr) : &v6().sin6_addr;
    const char* written = ::inet_ntop(storage.ss_family, bytes, text.data(), text.size());
    return written != nullptr ? written : "";
  }
};

bool turn_on(const FileDescriptor& socket, int level, int option) {
  const int on = 1;
  return ::setsockopt(socket.get(), level, option, &on, sizeof on) == 0;
}

std::error_code last_error() { return {errno, std::generic_category()}; }

enum class Sharing { kAlone, kShared };

// A socket bound to `address`; with a port that the kernel chose, `address` gets it.
std::expected<FileDescriptor, std::error_code> bind_to(SocketAddress& address, Sharing sharing) {
  FileDescriptor socket(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const bool is_bound = socket && turn_on(socket, SOL_SOCKET, SO_REUSEADDR) &&
                        (sharing == Sharing::kAlone || turn_on(socket, SOL_SOCKET, SO_REUSEPORT)) &&
                        ::bind(socket.get(), address.get(), address.size) == 0 &&
                        ::getsockname(socket.get(), address.get(), &address.size) == 0;
  if (!is_bound) return std::unexpected(last_error());
  return socket;
}

}  // namespace

std::string ExchangeId::to_string() const { return fmt::format("{}-{:x}.{}", run, connection, exchange); }

/// One loop's share of the server: a listening socket of its own on the common port (SO_REUSEPORT), and its
/// connections. Everything but start-up happens on the loop.
class Server::Worker final : Loop::Watcher, Loop::Timer {
 public:
  Worker(Loop& loop, Shared& shared) : loop_(loop), shared_(shared) {}

  std::error_code listen(SocketAddress& address) {
    auto bound = bind_to(address, Sharing::kShared);
    if (!bound) return bound.error();
    listener_ = *std::move(bound);
    return ::listen(listener_.get(), kBacklog) == 0 ? std::error_code() : last_error();
  }

  std::error_code start() { return loop_.watch(listener_.get(), *this) ? std::error_code() : last_error(); }
  void drain() {
    loop_.post([this] {
      draining_ = true;
      loop_.unwatch(listener_.get(), *this);
      listener_.reset();
      for (Connection& connection : connections_) connection.drain();
    });
  }
  void abort() {
    loop_.post([this] {
      for (Connection& connection : connections_) connection.abort();
    });
  }

  const Tally& tally() const { return tally_; }

 private:
  void on_ready(Readiness) override { accept(); }
  void on_time() override { accept(); }

  // Until nobody is left who wants to come in: only new ones are told of.
  void accept() {
    for (int accepted = 0; !draining_; ++accepted) {
      if (shared_.connections >= shared_.options.max_connections) return rest();
      if (accepted == kAcceptsInTurn) return loop_.post([this] { accept(); });
      SocketAddress peer;
      FileDescriptor socket(::accept4(listener_.get(), peer.get(), &peer.size, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (socket) {
        welcome(std::move(socket), peer);
      } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
        return;
      } else if (errno != ECONNABORTED && errno != EINTR) {
        return rest();  // out of descriptors or memory: the client waits in the kernel's queue
      }
    }
  }

  void rest() { loop_.set(*this, std::chrono::steady_clock::now() + kAcceptRest); }

  void welcome(FileDescriptor socket, SocketAddress& peer) {
    turn_on(socket, IPPROTO_TCP, TCP_NODELAY);
    turn_on(socket, SOL_SOCKET,
            SO_OOBINLINE);  // or a read would stop short at urgent data, and look as if all were read
    auto connection = std::make_unique<Connection>(std::move(socket), peer.host(), shared_, tally_, draining_);
    connections_.push_back(*connection);
    Task<> life = connection->run();
    spawn(std::move(life), std::move(connection));
  }

  Loop& loop_;
  Shared& shared_;
  Tally tally_;
  FileDescriptor listener_;
  boost::intrusive::list<Connection, boost::intrusive::constant_time_size<false>> connections_;
  bool draining_ = false;
};

Server::Server(ServerOptions options, std::vector<Loop*> loops, Handler handler,
               std::function<Response(const Error&)> turn_error, std::function<void(const ExchangeReport&)> on_exchange)
    : shared_(std::make_unique<Shared>(options, TrustedProxies(options.trusted_proxies), std::move(handler),
                                       std::move(turn_error), std::move(on_exchange))) {
  SystemRandom random;
  shared_->run = random_id(random, 3);
  for (Loop* loop : loops) workers_.push_back(std::make_unique<Worker>(*loop, *shared_));
}

Server::~Server() = default;

std::expected<std::uint16_t, std::string> Server::start() {
  const ServerOptions& options = shared_->options;
  auto address = SocketAddress::of(options.host, options.port);
  const auto failure = [&](const std::error_code& why) {
    const std::uint16_t port = address ? address->port() : options.port;
    return std::unexpected(fmt::format("cannot listen on {}:{}: {}", options.host, port, why.message()));
  };
  if (!address) return failure(std::make_error_code(std::errc::invalid_argument));
  // A shared port would let a second server of the same user slip in unnoticed and take half the clients. Binding it
  // for ourselves first finds out whether somebody is there.
  if (auto probe = bind_to(*address, Sharing::kAlone); !probe) return failure(probe.error());
  address->set_port(options.port);  // one that the kernel chose for the probe is free again, and may be gone
  for (const auto& worker : workers_) {
    if (const std::error_code refused = worker->listen(*address)) return failure(refused);
  }
  for (const auto& worker : workers_) {
    if (const std::error_code refused = worker->start()) return failure(refused);
  }
  return address->port();
}

void Server::drain() {
  for (const auto& worker : workers_) worker->drain();
}

void Server::abort() {
  for (const auto& worker : workers_) worker->abort();
}

Traffic Server::traffic() const {
  Traffic traffic{.connections = shared_->connections};
  for (const auto& worker : workers_) {
    traffic.received_bytes += worker->tally().received_bytes.load(std::memory_order_relaxed);
    traffic.sent_bytes += worker->tally().sent_bytes.load(std::memory_order_relaxed);
  }
  return traffic;
}

}  // namespace sluice::http
