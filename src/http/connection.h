// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <boost/intrusive/list.hpp>
#include <memory>
#include <optional>
#include <string>

#include "http/request_parser.h"
#include "http/server.h"
#include "runtime/socket.h"

namespace sluice::http {

struct Server::Shared {
  ServerOptions options;
  TrustedProxies trusted_proxies;
  Handler handler;
  std::function<Response(const Error&)> turn_error;
  std::function<void(const ExchangeReport&)> on_exchange;
  std::atomic<std::size_t> connections{0};  // open now
  std::atomic<std::uint64_t> connections_ever{0};
  std::string run;  // see ExchangeId
};

/// What the connections of one loop have moved. Only its thread counts, others read: so that loops need not pass the
/// counters to and fro for each request.
struct alignas(64) Server::Tally {
  std::atomic<std::uint64_t> received_bytes{0};
  std::atomic<std::uint64_t> sent_bytes{0};

  static void add(std::atomic<std::uint64_t>& counter, std::uint64_t bytes) {
    counter.store(counter.load(std::memory_order_relaxed) + bytes, std::memory_order_relaxed);
  }
};

/// One client's connection, as one coroutine that reads top to bottom: head, handler, response, again. It sleeps in
/// one place, its signal; the socket, the timers, transfers and the waiting room all wake it there. While it sleeps it
/// holds no buffer: bytes are read into a scratch area that all connections of a thread share.
///
/// A request that has come whole, and a response that the kernel takes at once, cost no coroutine but this one.
class Connection final
    : public Exchange,
      public boost::intrusive::list_base_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
 public:
  Connection(FileDescriptor socket, std::string peer, Server::Shared& shared, Server::Tally& tally, bool draining);
  ~Connection();

  /// Does not throw. The connection must live until it has ended.
  Task<> run();
  void drain();
  void abort();

  // Exchange.
  const std::shared_ptr<Signal>& signal() override { return signal_; }
  bool is_present() override;
  const RequestHead& head() const override { return head_; }
  ExchangeId id() const override { return {shared_.run, number_, exchange_}; }
  const std::string& client_address() const override { return is_proxied_ ? client_address_ : peer_; }
  Task<Result<>> receive_body(BodySink& sink) override;

 private:
  enum class Head { kComplete, kRefused, kNone };
  enum class Io { kDone, kWouldBlock, kEnded };
  struct Received {
    Io outcome = Io::kEnded;
    std::span<const std::byte> bytes;
  };

  // connection.cpp: its life, and what it receives.
  Task<Head> receive_head();
  Result<> feed_head(std::span<const std::byte> bytes);
  void begin_exchange();
  Response refuse(const Error& error);
  Response tell_bug(std::string_view what);
  void report(int status, bool completed);
  bool settle_request_body();
  Task<> linger();
  Received receive_now(std::size_t limit);
  Result<std::size_t> feed(std::span<const std::byte> bytes, BodySink& sink);
  void keep(std::span<const std::byte> bytes);
  bool has_deadline_passed() const { return std::chrono::steady_clock::now() >= deadline_at_; }
  void arm_deadline(Milliseconds from_now);
  void begin_turn() { exchanges_in_turn_ = 0, sent_in_turn_ = 0; }

  // connection_answer.cpp: what it sends.
  Io begin_response(Response& response, std::string& unsent);
  std::string_view compose_head(Response& response);
  bool sends_body(const Response& response) const;
  const std::string* text_to_send(const Response& response) const;
  Task<bool> finish_response(std::string unsent, Response response);
  Task<bool> send_growing(FollowBody body);
  Task<bool> send_bytes(std::string_view bytes, bool more_follows);
  Task<bool> send_range(int file, std::uint64_t offset, std::uint64_t length);
  Task<bool> wait_writable();
  Io send_now(std::string_view& bytes, bool more_follows);
  Io send_file_now(int file, std::uint64_t& offset, std::uint64_t& length);
  void reset_on_close(bool reset);

  Server::Shared& shared_;
  Server::Tally& tally_;
  const std::string peer_;
  const std::shared_ptr<Signal> signal_;
  Socket socket_;
  Deadline deadline_;
  SteadyTime deadline_at_;

  RequestHead head_;
  std::unique_ptr<RequestParser> parser_;  // while a head or a body is being read
  std::string pending_;                    // received, not consumed
  std::unique_ptr<const Error> refusal_;   // of a head that could not be read
  std::string client_address_;             // when the peer is a proxy
  SteadyTime started_at_;
  std::uint64_t bytes_received_ = 0;
  std::uint64_t bytes_sent_ = 0;
  const std::uint64_t number_;
  std::uint32_t exchange_ = 0;

  // Since it last slept or gave others a turn.
  unsigned exchanges_in_turn_ = 0;
  std::uint64_t sent_in_turn_ = 0;

  const bool is_proxied_;
  bool continue_owed_ = false;  // the client waits for 100 Continue before it sends its body
  bool is_body_lost_ = false;   // the request body could not be read to its end
  bool client_left_ = false;
  bool keep_alive_ = false;
  bool ends_with_connection_ = false;  // the response body has no other end
  bool draining_ = false;
  bool aborted_ = false;
};

// What one connection may send before the others of its loop have a turn.
inline constexpr std::uint64_t kTurnSentBytes = 2 * 1024 * 1024;

}  // namespace sluice::http
