// SPDX-License-Identifier: Apache-2.0
#include "http/connection.h"

#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace sluice::http {
namespace {

// A head mostly comes in one segment; whatever else a client sends with it is kept only up to this size.
constexpr std::size_t kHeadReadBytes = 16 * 1024;
// Large enough that the cost of a system call vanishes beside copying and hashing the bytes.
constexpr std::size_t kBodyReadBytes = 256 * 1024;
// What one connection may receive or answer before the others of its loop have a turn. Receiving is the dearest, as
// every byte is hashed, and is counted with the frames of chunks, which cost work too.
constexpr std::uint64_t kTurnReceivedBytes = kBodyReadBytes;
constexpr unsigned kTurnExchanges = 8;
// Slices of a chunked body below this size are gathered, so that a body of tiny chunks costs no write each.
constexpr std::size_t kGatheredSliceBytes = 4 * 1024;
constexpr std::size_t kGatheredBytes = 16 * 1024;
// How long a client that is still sending when it is refused is listened to, so that it finds the refusal rather than
// a reset (RFC 9112, section 9.6).
constexpr Milliseconds kLingerTotal = std::chrono::seconds(30);
constexpr Milliseconds kLingerIdle = std::chrono::seconds(5);
constexpr std::size_t kLingerReadBytes = 2 * 1024 * 1024;

std::span<std::byte> scratch() {
  static_assert(kBodyReadBytes >= kHeadReadBytes);
  thread_local const std::unique_ptr<std::byte[]> area = std::make_unique<std::byte[]>(kBodyReadBytes);
  return {area.get(), kBodyReadBytes};
}

class Discard final : public BodySink {
 public:
  Result<> write(std::span<const std::byte>) override { return {}; }
};

}  // namespace

Connection::Connection(FileDescriptor socket, std::string peer, Server::Shared& shared, Server::Tally& tally,
                       bool draining)
    : shared_(shared),
      tally_(tally),
      peer_(canonical_address(peer)),
      signal_(std::make_shared<Signal>(Loop::current())),
      socket_(std::move(socket), signal_),
      deadline_(signal_),
      number_(++shared.connections_ever),
      is_proxied_(shared.trusted_proxies.contain(peer)),
      draining_(draining) {
  ++shared_.connections;
}

Connection::~Connection() { --shared_.connections; }

Task<> Connection::run() {
  try {
    for (;;) {
      const Head outcome = co_await receive_head();
      if (outcome == Head::kNone) break;
      int status = 0;
      bool completed = false;
      {
        Response response;
        try {
          response = outcome == Head::kRefused ? refuse(*refusal_) : co_await shared_.handler(*this);
        } catch (const std::exception& bug) {
          response = tell_bug(bug.what());
        }
        if (client_left_) {
          status = 499;
        } else {
          std::string unsent;
          const Io sent = begin_response(response, unsent);
          status = response.status;
          completed = sent == Io::kDone;
          if (sent == Io::kWouldBlock) completed = co_await finish_response(std::move(unsent), std::move(response));
        }
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
      if (++exchanges_in_turn_ >= kTurnExchanges || sent_in_turn_ >= kTurnSentBytes) {
        co_await yield_to_loop();
        begin_turn();
      }
    }
  } catch (const std::exception& bug) {
    // In the middle of a response: there is nothing to say to the client any more.
    spdlog::error("a connection broke: {}", bug.what());
  }
  deadline_.disarm();
  socket_.close();
}

void Connection::drain() {
  draining_ = true;
  signal_->raise(Wake::kReadable);
}

void Connection::abort() {
  aborted_ = true;
  client_left_ = true;
  if (!ends_with_connection_) ::shutdown(socket_.get(), SHUT_RDWR);
  signal_->raise(Wake::kReadable);
  signal_->raise(Wake::kWritable);
}

Task<Connection::Head> Connection::receive_head() {
  bool has_started = !pending_.empty();
  bool is_timed = false;
  Result<> verdict;
  if (has_started) {
    const std::string received = std::exchange(pending_, std::string());
    verdict = feed_head(std::as_bytes(std::span(received)));
  }
  while (verdict && !(parser_ && parser_->has_head())) {
    const Received received = receive_now(kHeadReadBytes);
    if (received.outcome == Io::kEnded) co_return Head::kNone;
    if (received.outcome == Io::kDone) {
      // From now on the head has its time; until now the connection was idle.
      if (!std::exchange(has_started, true)) is_timed = false;
      verdict = feed_head(received.bytes);
      continue;
    }
    if (aborted_ || (draining_ && !has_started)) co_return Head::kNone;
    if (!std::exchange(is_timed, true)) {
      arm_deadline(has_started ? shared_.options.header_timeout : shared_.options.idle_timeout);
    } else if (has_deadline_passed()) {
      if (!has_started) co_return Head::kNone;
      verdict = fail::with(408, "M_UNKNOWN", "The request head took too long to arrive");
      break;
    }
    co_await signal_->wait();
    begin_turn();
  }
  deadline_.disarm();
  // What was read of a refused head is kept too: the log should tell who sent it.
  head_ = parser_->take_head();
  begin_exchange();
  if (!verdict) {
    refusal_ = std::make_unique<const Error>(verdict.error());
    co_return Head::kRefused;
  }
  co_return Head::kComplete;
}

// What is not consumed stays pending: the middle of a line, or what follows the head.
Result<> Connection::feed_head(std::span<const std::byte> bytes) {
  if (!parser_) parser_ = std::make_unique<RequestParser>();
  if (!pending_.empty()) {
    keep(bytes);
    const std::string joined = std::exchange(pending_, std::string());
    return feed_head(std::as_bytes(std::span(joined)));
  }
  const auto consumed = parser_->feed_head(bytes);
  if (!consumed) return std::unexpected(consumed.error());
  keep(bytes.subspan(*consumed));
  return {};
}

void Connection::keep(std::span<const std::byte> bytes) {
  pending_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

void Connection::begin_exchange() {
  started_at_ = std::chrono::steady_clock::now();
  ++exchange_;
  if (is_proxied_) {
    const auto forwarded_for = head_.combined_field("X-Forwarded-For");
    client_address_ = forwarded_for ? shared_.trusted_proxies.client_of(peer_, forwarded_for) : std::string();
  }
  notes() = Notes();
  bytes_received_ = 0;
  bytes_sent_ = 0;
  refusal_.reset();
  is_body_lost_ = false;
  continue_owed_ = head_.expects_continue();
  if (!head_.has_body()) parser_.reset();
}

Response Connection::refuse(const Error& error) {
  notes().errcode = error.errcode;
  Response response = shared_.turn_error(error);
  response.close = true;
  return response;
}

Response Connection::tell_bug(std::string_view what) {
  spdlog::error("request {}: {}", id().to_string(), what);
  notes().errcode = "M_UNKNOWN";
  return shared_.turn_error(Error{500, "M_UNKNOWN", "Internal error in request " + id().to_string(), {}, false});
}

Task<Result<>> Connection::receive_body(BodySink& sink) {
  if (!parser_) co_return Result<>();
  if (std::exchange(continue_owed_, false) && pending_.empty()) {
    if (!co_await send_bytes("HTTP/1.1 100 Continue\r\n\r\n", false)) {
      client_left_ = true;
      co_return fail::client_left();
    }
  }
  const Milliseconds window = shared_.options.body_timeout;
  const std::uint64_t least_bytes = shared_.options.min_body_rate * static_cast<std::uint64_t>(window.count()) / 1000;
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
      co_await yield_to_loop();
    }
    if (aborted_) co_return fail::client_left();
    const Received received = receive_now(kBodyReadBytes);
    if (received.outcome == Io::kEnded) {
      client_left_ = true;
      co_return fail::client_left();
    }
    if (received.outcome == Io::kWouldBlock) {
      pending_.shrink_to_fit();  // it may have held a whole read, and a slow upload sleeps often
      co_await signal_->wait();
      continue;
    }
    received_in_turn += received.bytes.size();
    if (!pending_.empty()) {  // the middle of a chunk's frame: a few bytes
      keep(received.bytes);
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
    Server::Tally::add(tally_.received_bytes, content.size());
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
    if (received.outcome == Io::kWouldBlock) break;
    // One that talks on and on instead of listening cannot be heard leaving: it counts as having left.
    if (received.outcome == Io::kEnded || pending_.size() + received.bytes.size() > kHeadReadBytes) client_left_ = true;
    keep(received.bytes);
  }
  return !client_left_;
}

Connection::Received Connection::receive_now(std::size_t limit) {
  while (socket_.may_be_readable()) {
    const ssize_t got = ::recv(socket_.get(), scratch().data(), limit, MSG_DONTWAIT);
    if (got > 0) {
      const auto count = static_cast<std::size_t>(got);
      if (count < limit) socket_.found_drained();
      return {Io::kDone, scratch().first(count)};
    }
    if (got < 0 && errno == EINTR) continue;
    if (got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) return {Io::kEnded, {}};
    socket_.found_drained();
    if (socket_.may_be_readable()) return {Io::kEnded, {}};  // the other side has hung up, and all it sent is read
  }
  return {Io::kWouldBlock, {}};
}

void Connection::arm_deadline(Milliseconds from_now) {
  deadline_at_ = std::chrono::steady_clock::now() + from_now;
  deadline_.arm(deadline_at_);
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

// A client that is still sending its body when it is refused would find a reset instead of the answer if the
// connection closed under it.
Task<> Connection::linger() {
  ::shutdown(socket_.get(), SHUT_WR);
  const SteadyTime give_up = std::chrono::steady_clock::now() + kLingerTotal;
  arm_deadline(kLingerIdle);
  while (!aborted_) {
    // With MSG_TRUNC the kernel throws TCP bytes away without copying them (tcp(7)).
    const ssize_t got = ::recv(socket_.get(), nullptr, kLingerReadBytes, MSG_DONTWAIT | MSG_TRUNC);
    if (got < 0 && errno == EINTR) continue;
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK)) break;
    if (std::chrono::steady_clock::now() >= give_up) break;
    if (got > 0) {
      arm_deadline(kLingerIdle);
      co_await yield_to_loop();
      continue;
    }
    socket_.found_drained();
    if (socket_.may_be_readable() || has_deadline_passed() || draining_) break;
    co_await signal_->wait();
  }
}

void Connection::report(int status, bool completed) {
  const std::string_view target = head_.target();
  shared_.on_exchange(ExchangeReport{
      .id = id(),
      .client_address = client_address().empty() ? peer_ : client_address(),
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
