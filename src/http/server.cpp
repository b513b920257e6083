// SPDX-License-Identifier: Apache-2.0
#include "http/server.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/post.hpp>
#include <utility>

#include "base/random.h"
#include "http/connection.h"
#include "runtime/loop_asio.h"

namespace sluice::http {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using Acceptor = asio::basic_socket_acceptor<tcp, asio::io_context::executor_type>;

constexpr int kBacklog = 4096;
// How long accepting rests when there is no room for a connection.
constexpr Milliseconds kAcceptRest{50};

using ReusePort = asio::detail::socket_option::boolean<SOL_SOCKET, SO_REUSEPORT>;

}  // namespace

/// One loop's share of the server: a listening socket of its own on the common port (SO_REUSEPORT), and its
/// connections. Everything but start-up happens on the loop.
class Server::Worker {
 public:
  Worker(Loop& loop, std::shared_ptr<Shared> shared)
      : loop_(loop), shared_(std::move(shared)), acceptor_(loop.impl().context), rest_(loop.impl().context) {}

  error_code listen(const tcp::endpoint& endpoint) {
    error_code error;
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) acceptor_.set_option(ReusePort(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(kBacklog, error);
    return error;
  }
  std::uint16_t port() const { return acceptor_.local_endpoint().port(); }
  void unbind() {
    error_code ignored;
    acceptor_.close(ignored);
  }

  void start() {
    loop_.post([this] { accept(); });
  }
  void drain() {
    loop_.post([this] {
      draining_ = true;
      unbind();
      rest_.cancel();
      for (Connection& connection : connections_) connection.drain();
    });
  }
  void abort() {
    loop_.post([this] {
      for (Connection& connection : connections_) connection.abort();
    });
  }

 private:
  void accept() {
    if (draining_) return;
    if (shared_->traffic.connections >= shared_->options.max_connections) return rest();
    acceptor_.async_accept(loop_.impl().context, [this](error_code error, Socket socket) {
      if (draining_) return;
      if (!error) {
        welcome(std::move(socket));
      } else if (error != asio::error::connection_aborted) {
        return rest();  // out of descriptors or memory: the client waits in the kernel's queue
      }
      accept();
    });
  }

  void rest() {
    rest_.expires_after(kAcceptRest);
    rest_.async_wait([this](error_code error) {
      if (!error) accept();
    });
  }

  // An exception that comes this far came in the middle of a response: there is nothing to say to the client any more.
  static Task<> run(std::shared_ptr<Connection> connection) {
    try {
      co_await connection->run();
    } catch (const std::exception& bug) {
      spdlog::error("a connection broke: {}", bug.what());
      connection->abort();
    }
  }

  void welcome(Socket socket) {
    error_code error;
    const tcp::endpoint peer = socket.remote_endpoint(error);
    if (error) return;  // it left already
    socket.set_option(tcp::no_delay(true), error);
    socket.native_non_blocking(true, error);
    auto connection = std::make_shared<Connection>(std::move(socket), peer.address().to_string(), shared_, draining_);
    connections_.push_back(*connection);
    spawn(run(std::move(connection)));
  }

  Loop& loop_;
  const std::shared_ptr<Shared> shared_;
  Acceptor acceptor_;
  LoopTimer rest_;
  boost::intrusive::list<Connection, boost::intrusive::constant_time_size<false>> connections_;
  bool draining_ = false;
};

Server::Server(ServerOptions options, std::vector<Loop*> loops, Handler handler,
               std::function<Response(const Error&)> turn_error, std::function<void(const ExchangeReport&)> on_exchange)
    : shared_(std::make_shared<Shared>(options, TrustedProxies(options.trusted_proxies), std::move(handler),
                                       std::move(turn_error), std::move(on_exchange))) {
  SystemRandom random;
  shared_->id_prefix = random_id(random, 3) + "-";
  for (Loop* loop : loops) workers_.push_back(std::make_unique<Worker>(*loop, shared_));
}

Server::~Server() = default;

std::expected<std::uint16_t, std::string> Server::start() {
  const ServerOptions& options = shared_->options;
  error_code error;
  const auto address = options.host == "localhost" ? asio::ip::make_address("127.0.0.1", error)
                                                   : asio::ip::make_address(options.host, error);
  tcp::endpoint endpoint(address, options.port);
  const auto failure = [&](const error_code& why) {
    return std::unexpected(fmt::format("cannot listen on {}:{}: {}", options.host, endpoint.port(), why.message()));
  };
  if (error) return failure(error);
  {
    // A shared port would let a second server of the same user slip in unnoticed and take half the clients. Binding
    // it for ourselves first finds out whether somebody is there.
    asio::io_context context;
    Acceptor probe(context);
    probe.open(endpoint.protocol(), error);
    if (!error) probe.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) probe.bind(endpoint, error);
    if (error) return failure(error);
  }
  for (const auto& worker : workers_) {
    if (const error_code refused = worker->listen(endpoint)) return failure(refused);
    endpoint.port(worker->port());
  }
  for (const auto& worker : workers_) worker->start();
  return endpoint.port();
}

void Server::drain() {
  for (const auto& worker : workers_) worker->drain();
}

void Server::abort() {
  for (const auto& worker : workers_) worker->abort();
}

const Traffic& Server::traffic() const { return shared_->traffic; }

}  // namespace sluice::http
