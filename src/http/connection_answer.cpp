// SPDX-License-Identifier: Apache-2.0
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <ctime>
#include <utility>

#include "http/connection.h"

namespace sluice::http {
namespace {

// A head goes out together with a body of up to this size (MSG_MORE): for 10 KiB that saves a fifth of the processor
// time. Of larger ones the kernel then makes packets of odd sizes: 64 KiB took half as much again as in packets of
// their own.
constexpr std::uint64_t kJoinedBytes = 32 * 1024;

// The smallest are read behind their head and go out with it in one call: sendfile costs more than copying a page.
// 1 KiB hot: 11.2 µs of processor time before, 10.0 after; 100,000 stalled ones woken: 1.52 s before, 1.31 after. At 4
// KiB there was no difference.
constexpr std::uint64_t kCopiedBytes = 2 * 1024;

// Appends the body to its head if it is as small as that. False when it is not, or cannot be read.
bool copy_small(const FileBody& body, std::string& text) {
  if (body.length == 0 || body.length > kCopiedBytes) return false;
  const std::size_t head = text.size();
  text.resize(head + body.length);
  const ssize_t got = ::pread(body.file->get(), text.data() + head, body.length, static_cast<off_t>(body.offset));
  if (got == static_cast<ssize_t>(body.length)) return true;
  text.resize(head);
  return false;
}

bool joins(std::uint64_t length) { return length > 0 && length <= kJoinedBytes; }

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

// Nothing: it ends with the file.
std::optional<std::uint64_t> length_of(const Response& response) {
  if (const auto* text = std::get_if<std::string>(&response.body)) return text->size();
  if (const auto* file = std::get_if<FileBody>(&response.body)) return file->length;
  return std::get<FollowBody>(response.body).length;
}

}  // namespace

// Sends what the kernel takes at once, which mostly is all. kWouldBlock: `unsent` and what is left in the body of
// `response` are still to be sent.
Connection::Io Connection::begin_response(Response& response, std::string& unsent) {
  const bool body_settled = settle_request_body();
  if (!response.fields.is_fit()) response = tell_bug("a control character in a response field");
  keep_alive_ = head_.wants_keep_alive() && !response.close && !draining_ && body_settled && !refusal_;
  // RFC 9112 section 6.3: an HTTP/1.0 client knows no chunks, so the end of the connection ends the body.
  ends_with_connection_ = may_have_body(response.status) && !length_of(response) && head_.is_http_1_0();
  keep_alive_ = keep_alive_ && !ends_with_connection_;
  // Such a body ends cleanly whenever its connection does, however that comes about: then let it be a reset, up to the
  // end that is meant.
  if (ends_with_connection_) reset_on_close(true);

  std::string_view head = compose_head(response);
  if (const auto* text = text_to_send(response)) bytes_sent_ += text->size();
  if (!sends_body(response)) {
    if (ends_with_connection_) reset_on_close(false);
    response.body = std::string();
  }
  auto* file = std::get_if<FileBody>(&response.body);
  Io outcome = send_now(head, file != nullptr && joins(file->length));
  if (outcome == Io::kDone && file != nullptr) outcome = send_file_now(file->file->get(), file->offset, file->length);
  if (outcome == Io::kDone && std::holds_alternative<FollowBody>(response.body)) outcome = Io::kWouldBlock;
  if (outcome == Io::kWouldBlock) unsent = head;
  return outcome;
}

bool Connection::sends_body(const Response& response) const {
  return may_have_body(response.status) && !head_.is_head();
}

const std::string* Connection::text_to_send(const Response& response) const {
  return sends_body(response) ? std::get_if<std::string>(&response.body) : nullptr;
}

// Everything up to the body; with a body of text also that, and with a small file, which then is no body any more. Good
// until the next response of this thread.
std::string_view Connection::compose_head(Response& response) {
  thread_local std::string text;
  text.clear();
  const auto append_number = [](std::uint64_t number) {
    std::array<char, 20> digits;
    text.append(digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr);
  };
  text += "HTTP/1.1 ";
  append_number(static_cast<std::uint64_t>(response.status));
  text.append(" ").append(reason_phrase(response.status)).append("\r\n");
  text.append(response.fields.text()).append(shared_.options.common_fields.text());
  text.append("Date: ").append(date_now()).append("\r\n");
  if (!keep_alive_) text += "Connection: close\r\n";
  if (keep_alive_ && head_.is_http_1_0()) text += "Connection: keep-alive\r\n";
  if (may_have_body(response.status)) {
    if (const auto length = length_of(response)) {
      text += "Content-Length: ";
      append_number(*length);
      text += "\r\n";
    } else if (!ends_with_connection_) {
      text += "Transfer-Encoding: chunked\r\n";
    }
  }
  text += "\r\n";
  if (const auto* body = text_to_send(response)) text += *body;
  if (const auto* file = std::get_if<FileBody>(&response.body);
      file && sends_body(response) && copy_small(*file, text)) {
    bytes_sent_ += file->length;
    response.body = std::string();
  }
  return text;
}

Task<bool> Connection::finish_response(std::string unsent, Response response) {
  auto* file = std::get_if<FileBody>(&response.body);
  if (!co_await send_bytes(unsent, file != nullptr && joins(file->length))) co_return false;
  unsent = std::string();
  if (file != nullptr) co_return co_await send_range(file->file->get(), file->offset, file->length);
  if (auto* growing = std::get_if<FollowBody>(&response.body)) co_return co_await send_growing(std::move(*growing));
  co_return true;
}

Task<bool> Connection::send_growing(FollowBody body) {
  const bool is_chunked = !body.length && !head_.is_http_1_0();
  const std::uint64_t end = body.length ? body.offset + *body.length : UINT64_MAX;
  for (std::uint64_t offset = body.offset; offset < end;) {
    const GrowingFile::Growth growth = body.file->growth();
    if (const std::uint64_t readable = std::min(growth.readable, end); readable > offset) {
      const std::uint64_t length = readable - offset;
      if (is_chunked && !co_await send_bytes(fmt::format("{:x}\r\n", length), joins(length))) co_return false;
      if (!co_await send_range(body.file->descriptor(), offset, length)) co_return false;
      if (is_chunked && !co_await send_bytes("\r\n", false)) co_return false;
      offset = readable;
      continue;
    }
    if (growth.ending == GrowingFile::Ending::kWhole && !body.length) break;
    if (growth.ending != GrowingFile::Ending::kNone || !is_present()) co_return false;  // or shorter than promised
    body.file->wake_beyond(offset);
    co_await signal_->wait();
    begin_turn();
  }
  if (is_chunked) co_return co_await send_bytes("0\r\n\r\n", false);
  if (ends_with_connection_) reset_on_close(false);
  co_return true;
}

Task<bool> Connection::send_bytes(std::string_view bytes, bool more_follows) {
  for (;;) {
    const Io outcome = send_now(bytes, more_follows);
    if (outcome != Io::kWouldBlock) co_return outcome == Io::kDone;
    if (!co_await wait_writable()) co_return false;
  }
}

Task<bool> Connection::send_range(int file, std::uint64_t offset, std::uint64_t length) {
  for (;;) {
    const Io outcome = send_file_now(file, offset, length);
    if (outcome != Io::kWouldBlock) co_return outcome == Io::kDone;
    if (!socket_.may_be_writable()) {
      if (!co_await wait_writable()) co_return false;
    } else {  // its turn is over
      co_await yield_to_loop();
      begin_turn();
      if (aborted_) co_return false;
    }
  }
}

// False when the client takes nothing for too long, or the server has no more time.
Task<bool> Connection::wait_writable() {
  arm_deadline(shared_.options.write_timeout);
  int unsent = socket_.unsent_bytes();
  while (!socket_.may_be_writable() && !aborted_) {
    if (has_deadline_passed()) {
      // The kernel says that there is room only when much of its buffer has gone, which a slow client may take long
      // for.
      const int still_unsent = socket_.unsent_bytes();
      if (still_unsent >= unsent) break;
      unsent = still_unsent;
      arm_deadline(shared_.options.write_timeout);
    }
    co_await signal_->wait();
    begin_turn();
  }
  co_return socket_.may_be_writable() && !aborted_;
}

// Takes what was sent off the front of `bytes`.
Connection::Io Connection::send_now(std::string_view& bytes, bool more_follows) {
  while (!bytes.empty()) {
    if (!socket_.may_be_writable()) return Io::kWouldBlock;
    const ssize_t sent =
        ::send(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL | (more_follows ? MSG_MORE : 0));
    if (sent >= 0) {
      Server::Tally::add(tally_.sent_bytes, static_cast<std::uint64_t>(sent));
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      socket_.found_full();
    } else if (errno != EINTR) {
      return Io::kEnded;
    }
  }
  return Io::kDone;
}

// As much as one turn allows; `offset` and `length` become what is left. kWouldBlock with a socket that may still be
// writable: the turn is over.
Connection::Io Connection::send_file_now(int file, std::uint64_t& offset, std::uint64_t& length) {
  while (length > 0) {
    if (!socket_.may_be_writable() || sent_in_turn_ >= kTurnSentBytes) return Io::kWouldBlock;
    auto position = static_cast<off_t>(offset);
    const ssize_t sent = ::sendfile(socket_.get(), file, &position, std::min(length, kTurnSentBytes));
    if (sent > 0) {
      const auto count = static_cast<std::uint64_t>(sent);
      offset += count;
      length -= count;
      sent_in_turn_ += count;
      bytes_sent_ += count;
      Server::Tally::add(tally_.sent_bytes, count);
    } else if (sent == 0) {
      spdlog::error("request {}: a stored file is shorter than its record says", id().to_string());
      return Io::kEnded;
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      socket_.found_full();
    } else if (errno != EINTR) {
      return Io::kEnded;
    }
  }
  return Io::kDone;
}

void Connection::reset_on_close(bool reset) {
  const struct linger option{.l_onoff = reset ? 1 : 0, .l_linger = 0};
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_LINGER, &option, sizeof option);
}

}  // namespace sluice::http
