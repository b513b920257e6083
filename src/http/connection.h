// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/intrusive/list.hpp>
#include <memory>
#include <optional>
#include <string>

#include "http/request_parser.h"
#include "http/server.h"

namespace sluice::http {

using Socket = boost::asio::basic_stream_socket<boost::asio::ip::tcp, boost::asio::io_context::executor_type>;

struct Server::Shared {
  ServerOptions options;
  TrustedProxies trusted_proxies;
  Handler handler;
  std::function<Response(const Error&)> turn_error;
  std::function<void(const ExchangeReport&)> on_exchange;
  Traffic traffic;
  std::atomic<std::uint64_t> next_exchange{0};
  std::string id_prefix;  // keeps ids of different runs apart
};

/// One client's connection, as one coroutine that reads top to bottom: head, handler, response, again. It sleeps in
/// one place, its signal; the socket, the timers, transfers and the waiting room all wake it there. While it sleeps it
/// holds no buffer: bytes are read into a scratch area that all connections of a thread share.
class Connection final
    : public Exchange,
      public std::enable_shared_from_this<Connection>,
      public boost::intrusive::list_base_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
 public:
  Connection(Socket socket, std::string peer, std::shared_ptr<Server::Shared> shared, bool draining);
  ~Connection();

  Task<> run();
  void drain();
  void abort();

  // Exchange.
  const std::shared_ptr<Signal>& signal() override { return signal_; }
  bool is_present() override;
  const RequestHead& head() const override { return head_; }
  std::string_view id() const override { return id_; }
  const std::string& client_address() const override { return client_address_; }
  Task<Result<>> receive_body(BodySink& sink) override;

 private:
  enum class Head { kComplete, kRefused, kNone };
  enum class Io { kDone, kWouldBlock, kEnded };
  struct Received {
    Io outcome = Io::kEnded;
    std::span<const std::byte> bytes;
  };

  Task<Head> receive_head();
  Task<Response> handle();
  void begin_exchange();
  void report(int status, bool completed);

  bool settle_request_body();
  std::string compose_head(const Response& response, std::string_view framing) const;
  Task<bool> respond(Response response, int& status);
  Task<bool> send_text(std::string head, std::string body);
  Task<bool> send_file(std::string head, FileBody body);
  Task<bool> send_growing(std::string head, FollowBody body);
  Task<bool> send_bytes(std::string_view bytes, bool more_follows);
  Task<bool> send_range(int file, std::uint64_t offset, std::uint64_t length);
  Task<bool> wait_writable();
  void reset_on_close(bool reset);
  Task<> linger();

  Received receive_now(std::size_t limit);
  Result<std::size_t> feed(std::span<const std::byte> bytes, BodySink& sink);
  void watch_readable();
  bool has_deadline_passed() const { return std::chrono::steady_clock::now() >= deadline_at_; }
  void arm_deadline(Milliseconds from_now);

  Socket socket_;
  const std::string peer_;
  const std::shared_ptr<Server::Shared> shared_;
  const std::shared_ptr<Signal> signal_;
  Deadline deadline_;
  SteadyTime deadline_at_;

  RequestHead head_;
  std::unique_ptr<RequestParser> parser_;  // while a head or a body is being read
  std::string pending_;                    // received, not consumed
  std::optional<Error> refusal_;           // of a head that could not be read
  std::string id_;
  std::string client_address_;
  SteadyTime started_at_;
  std::uint64_t bytes_received_ = 0;
  std::uint64_t bytes_sent_ = 0;

  unsigned exchanges_in_turn_ = 0;  // since it last slept or gave others a turn
  bool watching_readable_ = false;
  bool is_writable_ = false;
  bool continue_owed_ = false;  // the client waits for 100 Continue before it sends its body
  bool is_body_lost_ = false;   // the request body could not be read to its end
  bool client_left_ = false;
  bool keep_alive_ = false;
  bool ends_with_connection_ = false;  // the response body has no other end
  bool draining_ = false;
  bool aborted_ = false;
};

}  // namespace sluice::http
