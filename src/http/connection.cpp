// SPDX-License-Identifier: Apache-2.0
#include "http/connection.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <utility>

#include "base/text.h"

namespace sluice::http {
namespace {

// A head mostly comes in one segment; whatever else a client sends with it is kept only up to this size.
constexpr std::size_t kHeadReadBytes = 16 * 1024;
// Large enough that the cost of a system call vanishes beside copying and hashing the bytes.
constexpr std::size_t kBodyReadBytes = 256 * 1024;
// What one connection may send, receive or answer before the others of its loop have a turn. Receiving is the dearest,
// as every byte is hashed, and is counted with the frames of chunks, which cost work too.
constexpr std::uint64_t kTurnSentBytes = 2 * 1024 * 1024;
constexpr std::uint64_t kTurnReceivedBytes = kBodyReadBytes;
constexpr unsigned kTurnExchanges = 8;
// Slices of a chunked body below this size are gathered, so that a body of tiny chunks costs no write each.
constexpr std::size_t kGatheredSliceBytes = 4 * 1024;
constexpr std::size_t kGatheredBytes = 16 * 1024;
// How long a client that is still sending when it is refused is listened to, so that it finds the refusal rather than
// a reset (RFC 9112, section 9.6).
constexpr Milliseconds kLingerTotal = std::chrono::seconds(30);
constexpr Milliseconds kLingerIdle = std::chrono::seconds(5);

std::span<std::byte> scratch() {
  static_assert(kBodyReadBytes >= kHeadReadBytes);
  thread_local const std::unique_ptr<std::byte[]> area = std::make_unique<std::byte[]>(kBodyReadBytes);
  return {area.get(), kBodyReadBytes};
}

/// Lets the loop's other connections have a turn.
auto yield() {
  struct Awaiter {
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter) {
      Loop::current().post([waiter] { waiter.resume(); });
    }
    void await_resume() const noexcept {}
  };
  return Awaiter{};
}

// IMF-fixdate (RFC 9110, section 5.6.7), made once a second.
const std::string& date_now() {
  thread_local std::time_t made_at = 0;
  thread_local std::string text;
  const std::time_t now = std::time(nullptr);
  if (now != made_at) {
    made_at = now;
    text = fmt::format("{:%a, %d %b %Y %H:%M:%S} GMT", fmt::gmtime(now));
  }
  return text;
}

bool may_have_body(int status) { return status >= 200 && status != 204 && status != 304; }

class Discard final : public BodySink {
 public:
  Result<> write(std::span<const std::byte>) override { return {}; }
};

}  // namespace

Connection::Connection(Socket socket, std::string peer, std::shared_ptr<Server::Shared> shared, bool draining)
    : socket_(std::move(socket)),
      peer_(std::move(peer)),
      shared_(std::move(shared)),
      signal_(std::make_shared<Signal>(Loop::current())),
      deadline_(signal_),
      draining_(draining) {
  ++shared_->traffic.connections;
}

Connection::~Connection() { --shared_->traffic.connections; }

Task<> Connection::run() {
  for (;;) {
    const Head outcome = co_await receive_head();
    if (outcome == Head::kNone) break;
    int status = 0;
    bool completed = false;
    {
      Response response = co_await handle();
      status = client_left_ ? 499 : response.status;
      completed = !client_left_ && co_await respond(std::move(response), status);
    }
    report(status, completed);
    if (!completed || !keep_alive_) {
      // Who was too slow has had its time.
      const bool was_too_slow = refusal_ && refusal_->http_status == 408;
      if (completed && !was_too_slow) co_await linger();
      break;
    }
    parser_.reset();
    head_ = RequestHead();
    // Requests that came in one go are answered without ever sleeping.
    if (++exchanges_in_turn_ >= kTurnExchanges) {
      exchanges_in_turn_ = 0;
      co_await yield();
    }
  }
  deadline_.disarm();
  boost::system::error_code ignored;
  socket_.close(ignored);
}

void Connection::drain() {
  draining_ = true;
  signal_->raise(Wake::kReadable);
}

void Connection::abort() {
  aborted_ = true;
  client_left_ = true;
  boost::system::error_code ignored;
  if (!ends_with_connection_) socket_.shutdown(Socket::shutdown_both, ignored);
  signal_->raise(Wake::kReadable);
  signal_->raise(Wake::kWritable);
}

// ---- reading ----

Task<Connection::Head> Connection::receive_head() {
  parser_ = std::make_unique<RequestParser>();
  if (pending_.empty()) pending_ = std::string();  // an idle connection keeps no capacity
  bool has_started = !pending_.empty();
  arm_deadline(has_started ? shared_->options.header_timeout : shared_->options.idle_timeout);
  Result<> verdict;
  for (;;) {
    if (!pending_.empty()) {
      if (!has_started) {
        has_started = true;
        arm_deadline(shared_->options.header_timeout);
      }
      const auto consumed = parser_->feed_head(std::as_bytes(std::span(pending_)));
      if (!consumed) {
        verdict = std::unexpected(consumed.error());
        break;
      }
      pending_.erase(0, *consumed);
      if (pending_.empty()) pending_ = std::string();  // a stalled download must not keep its capacity
      if (parser_->has_head()) break;
    }
    const Received received = receive_now(kHeadReadBytes);
    if (received.outcome == Io::kEnded) co_return Head::kNone;
    if (received.outcome == Io::kDone) {
      pending_.append(reinterpret_cast<const char*>(received.bytes.data()), received.bytes.size());
      continue;
    }
    if (aborted_ || (draining_ && !has_started)) co_return Head::kNone;
    if (has_deadline_passed()) {
      if (!has_started) co_return Head::kNone;
      verdict = fail::with(408, "M_UNKNOWN", "The request head took too long to arrive");
      break;
    }
    watch_readable();
    exchanges_in_turn_ = 0;
    co_await signal_->wait();
  }
  deadline_.disarm();
  // What was read of a refused head is kept too: the log should tell who sent it.
  head_ = parser_->take_head();
  begin_exchange();
  if (!verdict) {
    refusal_ = verdict.error();
    co_return Head::kRefused;
  }
  co_return Head::kComplete;
}

void Connection::begin_exchange() {
  started_at_ = std::chrono::steady_clock::now();
  id_ = fmt::format("{}{:x}", shared_->id_prefix, shared_->next_exchange++);
  client_address_ = shared_->trusted_proxies.client_of(peer_, head_.combined_field("X-Forwarded-For"));
  notes() = Notes();
  bytes_received_ = 0;
  bytes_sent_ = 0;
  refusal_.reset();
  is_body_lost_ = false;
  continue_owed_ = head_.expects_continue();
  if (!head_.has_body()) parser_.reset();
}

Task<Response> Connection::handle() {
  if (refusal_) {
    notes().errcode = refusal_->errcode;
    Response response = shared_->turn_error(*refusal_);
    response.close = true;
    co_return response;
  }
  try {
    co_return co_await shared_->handler(*this);
  } catch (const std::exception& bug) {
    spdlog::error("request {}: {}", id_, bug.what());
  }
  notes().errcode = "M_UNKNOWN";
  co_return shared_->turn_error(Error{500, "M_UNKNOWN", "Internal error in request " + id_, {}, false});
}

Task<Result<>> Connection::receive_body(BodySink& sink) {
  if (!parser_) co_return Result<>();
  if (std::exchange(continue_owed_, false) && pending_.empty()) {
    if (!co_await send_bytes("HTTP/1.1 100 Continue\r\n\r\n", false)) {
      client_left_ = true;
      co_return fail::client_left();
    }
  }
  const Milliseconds window = shared_->options.body_timeout;
  const std::uint64_t least_bytes = shared_->options.min_body_rate * static_cast<std::uint64_t>(window.count()) / 1000;
  std::uint64_t window_began_with = bytes_received_;
  std::uint64_t received_in_turn = 0;
  arm_deadline(window);
  for (;;) {
    if (!pending_.empty()) {
      const auto consumed = feed(std::as_bytes(std::span(pending_)), sink);
      if (!consumed) co_return std::unexpected(consumed.error());
      pending_.erase(0, *consumed);
    }
    if (parser_->has_body_ended()) break;
    if (has_deadline_passed()) {
      if (bytes_received_ - window_began_with < least_bytes) {
        co_return fail::with(408, "M_UNKNOWN", "The request body came too slowly");
      }
      window_began_with = bytes_received_;
      arm_deadline(window);
    }
    if (received_in_turn >= kTurnReceivedBytes) {
      received_in_turn = 0;
      co_await yield();
    }
    if (aborted_) co_return fail::client_left();
    const Received received = receive_now(kBodyReadBytes);
    if (received.outcome == Io::kEnded) {
      client_left_ = true;
      co_return fail::client_left();
    }
    if (received.outcome == Io::kWouldBlock) {
      pending_.shrink_to_fit();  // it may have held a whole read, and a slow upload sleeps often
      watch_readable();
      co_await signal_->wait();
      continue;
    }
    received_in_turn += received.bytes.size();
    if (!pending_.empty()) {  // the middle of a chunk's frame: a few bytes
      pending_.append(reinterpret_cast<const char*>(received.bytes.data()), received.bytes.size());
      continue;
    }
    const auto consumed = feed(received.bytes, sink);
    if (!consumed) co_return std::unexpected(consumed.error());
    const auto rest = received.bytes.subspan(*consumed);
    pending_.assign(reinterpret_cast<const char*>(rest.data()), rest.size());
  }
  deadline_.disarm();
  co_return Result<>();
}

Result<std::size_t> Connection::feed(std::span<const std::byte> bytes, BodySink& sink) {
  // Nobody can say where the next request begins until this has gone well, not even if the sink throws.
  is_body_lost_ = true;
  std::array<std::byte, kGatheredBytes> gathered;
  std::size_t gathered_size = 0;
  const auto write = [&](std::span<const std::byte> content) {
    bytes_received_ += content.size();
    shared_->traffic.received_bytes += content.size();
    return sink.write(content);
  };
  const auto flush = [&]() -> Result<> {
    if (gathered_size == 0) return {};
    return write(std::span(gathered).first(std::exchange(gathered_size, 0)));
  };
  const auto consumed = parser_->feed_body(bytes, [&](std::span<const std::byte> content) -> Result<> {
    if (content.size() < kGatheredSliceBytes && content.size() <= gathered.size() - gathered_size) {
      std::ranges::copy(content, gathered.begin() + static_cast<std::ptrdiff_t>(gathered_size));
      gathered_size += content.size();
      return {};
    }
    if (Result<> flushed = flush(); !flushed) return flushed;
    return write(content);
  });
  // Also what came before a broken frame: it was received.
  if (Result<> flushed = flush(); !flushed) return std::unexpected(flushed.error());
  is_body_lost_ = !consumed;
  return consumed;
}

bool Connection::is_present() {
  while (!client_left_) {
    const Received received = receive_now(kHeadReadBytes);
    if (received.outcome == Io::kWouldBlock) {
      watch_readable();
      break;
    }
    // One that talks on and on instead of listening cannot be heard leaving: it counts as having left.
    if (received.outcome == Io::kEnded || pending_.size() + received.bytes.size() > kHeadReadBytes) client_left_ = true;
    pending_.append(reinterpret_cast<const char*>(received.bytes.data()), received.bytes.size());
  }
  return !client_left_;
}

Connection::Received Connection::receive_now(std::size_t limit) {
  for (;;) {
    const ssize_t got = ::recv(socket_.native_handle(), scratch().data(), limit, MSG_DONTWAIT);
    if (got > 0) return {Io::kDone, scratch().first(static_cast<std::size_t>(got))};
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return {Io::kWouldBlock, {}};
    return {Io::kEnded, {}};
  }
}

void Connection::watch_readable() {
  if (std::exchange(watching_readable_, true)) return;
  socket_.async_wait(Socket::wait_read, [self = shared_from_this()](boost::system::error_code) {
    self->watching_readable_ = false;
    self->signal_->raise(Wake::kReadable);
  });
}

void Connection::arm_deadline(Milliseconds from_now) {
  deadline_at_ = std::chrono::steady_clock::now() + from_now;
  deadline_.arm(deadline_at_);
}

// ---- answering ----

// `status` becomes that of the response that is really sent.
Task<bool> Connection::respond(Response response, int& status) {
  const bool body_settled = settle_request_body();
  keep_alive_ = head_.wants_keep_alive() && !response.close && !draining_ && body_settled && !refusal_;
  for (const auto& [name, value] : response.fields) {
    if (!has_control_characters(value)) continue;
    spdlog::error("request {}: a control character in response field {}", id_, name);
    response = shared_->turn_error(Error{500, "M_UNKNOWN", "Internal error in request " + id_, {}, false});
    status = response.status;
    break;
  }
  const auto content_length = [](std::uint64_t length) { return fmt::format("Content-Length: {}\r\n", length); };
  if (!may_have_body(response.status)) return send_text(compose_head(response, ""), "");
  if (auto* text = std::get_if<std::string>(&response.body)) {
    std::string head = compose_head(response, content_length(text->size()));
    return send_text(std::move(head), std::move(*text));
  }
  if (auto* file = std::get_if<FileBody>(&response.body)) {
    std::string head = compose_head(response, content_length(file->length));
    return send_file(std::move(head), std::move(*file));
  }
  auto& growing = std::get<FollowBody>(response.body);
  // RFC 9112 section 6.3: an HTTP/1.0 client knows no chunks, so the end of the connection ends the body.
  ends_with_connection_ = !growing.length && head_.is_http_1_0();
  keep_alive_ = keep_alive_ && !ends_with_connection_;
  std::string head = compose_head(response, growing.length          ? content_length(*growing.length)
                                            : ends_with_connection_ ? std::string()
                                                                    : "Transfer-Encoding: chunked\r\n");
  return send_growing(std::move(head), std::move(growing));
}

// Whether the request body needs no further reading. A small one that has already come is not worth a connection.
bool Connection::settle_request_body() {
  if (is_body_lost_) return false;
  if (!parser_ || refusal_) return !refusal_;
  Discard discard;
  if (!pending_.empty() && !parser_->has_body_ended()) {
    const auto consumed = feed(std::as_bytes(std::span(pending_)), discard);
    if (!consumed) return false;
    pending_.erase(0, *consumed);
  }
  return parser_->has_body_ended();
}

std::string Connection::compose_head(const Response& response, std::string_view framing) const {
  std::string text;
  text.reserve(1024);
  text += "HTTP/1.1 ";
  text += std::to_string(response.status);
  text += ' ';
  text += reason_phrase(response.status);
  text += "\r\n";
  const auto add = [&text](std::string_view name, std::string_view value) {
    text += name;
    text += ": ";
    text += value;
    text += "\r\n";
  };
  for (const auto& [name, value] : response.fields) add(name, value);
  for (const auto& [name, value] : shared_->options.common_fields) add(name, value);
  add("Date", date_now());
  if (!keep_alive_) add("Connection", "close");
  if (keep_alive_ && head_.is_http_1_0()) add("Connection", "keep-alive");
  text += framing;
  text += "\r\n";
  return text;
}

Task<bool> Connection::send_text(std::string head, std::string body) {
  if (!head_.is_head()) {
    bytes_sent_ += body.size();
    head += body;
  }
  co_return co_await send_bytes(head, false);
}

Task<bool> Connection::send_file(std::string head, FileBody body) {
  if (head_.is_head()) body.length = 0;
  if (!co_await send_bytes(head, body.length > 0)) co_return false;
  head = std::string();
  co_return co_await send_range(body.file->get(), body.offset, body.length);
}

Task<bool> Connection::send_growing(std::string head, FollowBody body) {
  const bool is_chunked = !body.length && !head_.is_http_1_0();
  const std::uint64_t end = body.length ? body.offset + *body.length : UINT64_MAX;
  // Such a body ends cleanly whenever its connection does, however that comes about: then let it be a reset, up to the
  // end that is meant.
  if (ends_with_connection_) reset_on_close(true);
  if (!co_await send_bytes(head, false)) co_return false;
  head = std::string();
  if (head_.is_head()) {
    reset_on_close(false);
    co_return true;
  }
  for (std::uint64_t offset = body.offset; offset < end;) {
    const GrowingFile::Growth growth = body.file->growth();
    if (const std::uint64_t readable = std::min(growth.readable, end); readable > offset) {
      const std::uint64_t length = readable - offset;
      if (is_chunked && !co_await send_bytes(fmt::format("{:x}\r\n", length), true)) co_return false;
      if (!co_await send_range(body.file->descriptor(), offset, length)) co_return false;
      if (is_chunked && !co_await send_bytes("\r\n", false)) co_return false;
      offset = readable;
      continue;
    }
    if (growth.ending == GrowingFile::Ending::kWhole && !body.length) break;
    if (growth.ending != GrowingFile::Ending::kNone || !is_present()) co_return false;  // or shorter than promised
    body.file->wake_beyond(offset);
    co_await signal_->wait();
  }
  if (is_chunked) co_return co_await send_bytes("0\r\n\r\n", false);
  if (ends_with_connection_) reset_on_close(false);
  co_return true;
}

void Connection::reset_on_close(bool reset) {
  boost::system::error_code ignored;
  socket_.set_option(boost::asio::socket_base::linger(reset, 0), ignored);
}

Task<bool> Connection::send_bytes(std::string_view bytes, bool more_follows) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket_.native_handle(), bytes.data(), bytes.size(),
                                MSG_DONTWAIT | MSG_NOSIGNAL | (more_follows ? MSG_MORE : 0));
    if (sent >= 0) {
      shared_->traffic.sent_bytes += static_cast<std::uint64_t>(sent);
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      if (!co_await wait_writable()) co_return false;
    } else if (errno != EINTR) {
      co_return false;
    }
  }
  co_return true;
}

Task<bool> Connection::send_range(int file, std::uint64_t offset, std::uint64_t length) {
  std::uint64_t turn = 0;
  while (length > 0) {
    auto position = static_cast<off_t>(offset);
    const ssize_t sent =
        ::sendfile(socket_.native_handle(), file, &position, std::min<std::uint64_t>(length, kTurnSentBytes));
    if (sent > 0) {
      const auto count = static_cast<std::uint64_t>(sent);
      offset += count;
      length -= count;
      bytes_sent_ += count;
      shared_->traffic.sent_bytes += count;
      if ((turn += count) >= kTurnSentBytes) {
        turn = 0;
        co_await yield();
        if (aborted_) co_return false;
      }
    } else if (sent == 0) {
      spdlog::error("request {}: a stored file is shorter than its record says", id_);
      co_return false;
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      if (!co_await wait_writable()) co_return false;
    } else if (errno != EINTR) {
      co_return false;
    }
  }
  co_return true;
}

// False when the client takes nothing for too long, or the server has no more time.
Task<bool> Connection::wait_writable() {
  arm_deadline(shared_->options.write_timeout);
  is_writable_ = false;
  socket_.async_wait(Socket::wait_write, [self = shared_from_this()](boost::system::error_code) {
    self->is_writable_ = true;
    self->signal_->raise(Wake::kWritable);
  });
  while (!is_writable_ && !aborted_ && !has_deadline_passed()) co_await signal_->wait();
  co_return is_writable_ && !aborted_;
}

// A client that is still sending its body when it is refused would find a reset instead of the answer if the
// connection closed under it.
Task<> Connection::linger() {
  boost::system::error_code ignored;
  socket_.shutdown(Socket::shutdown_send, ignored);
  const SteadyTime give_up = std::chrono::steady_clock::now() + kLingerTotal;
  arm_deadline(kLingerIdle);
  while (!aborted_) {
    // With MSG_TRUNC the kernel throws TCP bytes away without copying them (tcp(7)).
    const ssize_t got = ::recv(socket_.native_handle(), nullptr, kTurnSentBytes, MSG_DONTWAIT | MSG_TRUNC);
    if (got == 0) break;
    if (got < 0 && errno != EAGAIN && errno != EINTR) break;
    if (std::chrono::steady_clock::now() >= give_up) break;
    if (got > 0) {
      arm_deadline(kLingerIdle);
      co_await yield();
      continue;
    }
    if (has_deadline_passed() || draining_) break;
    watch_readable();
    co_await signal_->wait();
  }
}

void Connection::report(int status, bool completed) {
  const std::string_view target = head_.target();
  shared_->on_exchange(ExchangeReport{
      .id = id_,
      .client_address = client_address_.empty() ? std::string_view(peer_) : std::string_view(client_address_),
      .method = head_.method(),
      .path = target.substr(0, target.find('?')),
      .status = status,
      .completed = completed,
      .bytes_received = bytes_received_,
      .bytes_sent = bytes_sent_,
      .duration = std::chrono::duration_cast<Milliseconds>(std::chrono::steady_clock::now() - started_at_),
      .notes = notes(),
  });
}

}  // namespace sluice::http
