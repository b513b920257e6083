// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "http/client_address.h"
#include "http/message.h"
#include "runtime/loop.h"
#include "runtime/signal.h"
#include "runtime/task.h"

namespace sluice::http {

/// Takes the bytes of a request body as they come.
class BodySink {
 public:
  virtual ~BodySink() = default;
  /// Takes all of `data`, at once and without waiting for anybody. An Error stops the reading of the body.
  virtual Result<> write(std::span<const std::byte> data) = 0;
};

/// What a handler has to tell about its exchange beyond HTTP, for logs and metrics. The texts are literals.
struct Notes {
  std::string user;            // who asked; empty: nobody said
  bool admin = false;          // is that an administrator
  std::string errcode;         // of a refusal
  std::string media;           // the mxc URI it is about
  std::string_view operation;  // "create", "upload", "download", ...
  std::string_view outcome;    // "stored", "live", "broken", "refused"; empty: nothing to tell
  /// Of the response's bytes, what was charged for when it began; nothing: no rate limits them.
  std::optional<std::uint64_t> charged_bytes;
  Milliseconds waited{0};  // how long it was stalled
  bool was_stalled = false;
};

/// Names a request in the log. Made into text when somebody wants to read it.
struct ExchangeId {
  std::string_view run;  // keeps ids of different runs apart
  std::uint64_t connection = 0;
  std::uint32_t exchange = 0;  // of that connection

  std::string to_string() const;
};

/// One request and the way to its answer. Lives on its connection's loop; valid until the handler's task ends.
class Exchange : public Caller {
 public:
  virtual const RequestHead& head() const = 0;
  virtual ExchangeId id() const = 0;
  /// See TrustedProxies::client_of and network_of.
  virtual const std::string& client_address() const = 0;
  Notes& notes() { return notes_; }
  const Notes& notes() const { return notes_; }

  /// Pours the request body into `sink`, to its end; asks for it with 100 Continue if the client waits for that. Until
  /// it is called, no byte of the body is read: a refusal that comes before costs nothing. An Error of status 408 when
  /// the body came slower than the least rate, 400 when it was malformed, 499 when the client went away in the middle
  /// (nobody will see that answer), or the sink's own.
  virtual Task<Result<>> receive_body(BodySink& sink) = 0;

 private:
  Notes notes_;
};

using Handler = std::function<Task<Response>(Exchange&)>;

/// What became of one exchange, told when its response is over.
struct ExchangeReport {
  ExchangeId id;
  std::string_view client_address;
  std::string_view method;  // empty when the head could not be read
  std::string_view path;    // the target without its query, which may hold a token
  int status = 0;
  bool completed = false;            // the response went out whole
  std::uint64_t bytes_received = 0;  // of the request body
  std::uint64_t bytes_sent = 0;      // of the response body
  Milliseconds duration{0};
  const Notes& notes;
};

struct ServerOptions {
  std::string host;  // an IP literal or "localhost"
  std::uint16_t port = 0;
  std::size_t max_connections = 1000;  // beyond it, clients wait in the kernel's queue
  Milliseconds header_timeout = std::chrono::seconds(15);
  Milliseconds idle_timeout = std::chrono::seconds(75);
  Milliseconds body_timeout = std::chrono::seconds(30);
  std::uint64_t min_body_rate = 64;  // bytes per second, over each body_timeout
  Milliseconds write_timeout = std::chrono::seconds(60);
  std::vector<std::string> trusted_proxies;
  Fields common_fields;  // go on every response
};

struct Traffic {
  std::uint64_t received_bytes = 0;  // of request bodies
  std::uint64_t sent_bytes = 0;      // heads included
  std::size_t connections = 0;       // open now
};

/// An HTTP/1.1 server (RFC 9110, 9112) on several loops, which share one port. It frames and times requests and sends
/// responses; what they mean is the handler's business. An exception from the handler becomes a 500.
class Server {
 public:
  /// `turn_error` makes the response for a refusal of the server's own (a malformed request, a timeout).
  /// Everything must outlive the server, which is destroyed when the loops have run for the last time. The process
  /// must ignore SIGPIPE: sendfile raises it when a client has left.
  Server(ServerOptions options, std::vector<Loop*> loops, Handler handler,
         std::function<Response(const Error&)> turn_error, std::function<void(const ExchangeReport&)> on_exchange);
  ~Server();

  /// Binds and listens; yields the port, or why not. Serves from now on.
  std::expected<std::uint16_t, std::string> start();

  /// Stops accepting, closes idle connections, and closes the others as their exchanges end. From any thread.
  void drain();
  /// Cuts what is left. From any thread.
  void abort();

  Traffic traffic() const;

  // The server's own parts; see connection.h and server.cpp.
  class Worker;
  struct Shared;
  struct Tally;

 private:
  const std::unique_ptr<Shared> shared_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace sluice::http
