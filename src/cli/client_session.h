// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/mxc.h"

namespace sluice::cli {

/// What the client commands take from their process, so that tests can set it. Descriptors stay the caller's.
struct ClientEnvironment {
  std::function<std::optional<std::string>(const char* name)> variable;
  // Where `sluice serve` without a configuration keeps its token, unless SLUICE_DATA_DIR names another folder.
  std::string token_file = "sluice-data/token";
  int input = 0;
  int output = 1;
  int diagnostics = 2;
  bool diagnostics_are_a_terminal = false;
  std::shared_ptr<const Clock> clock;
  std::function<void(Milliseconds)> sleep;

  static ClientEnvironment of_process();
};

/// How a command ends when it does not succeed: its exit code, and one line that says why and what to do.
struct CommandFailure {
  int exit_code = 1;
  std::string line;
};

template <class T = void>
using Outcome = std::expected<T, CommandFailure>;

inline std::unexpected<CommandFailure> failed(std::string line) {
  return std::unexpected(CommandFailure{1, std::move(line)});
}
inline std::unexpected<CommandFailure> bad_usage(std::string line) {
  return std::unexpected(CommandFailure{2, std::move(line)});
}

/// A request's body, read from a descriptor where it stands. It may be a pipe that is slow to give.
struct UploadBody {
  int descriptor = -1;
  std::optional<std::uint64_t> size;  // exactly so many bytes are sent; absent: until the end, in chunks
};

/// How an exchange ended. A response of 400 or more is always kWhole: what counts of it has arrived.
enum class ExchangeEnd {
  kWhole,
  kUnreachable,  // no connection came about, so the server knows nothing of the request
  kBroken,       // the connection ended early; the server may have done all, some or nothing
  kStopped,      // this side ended it: a callback said so, or the body could not be read
};

struct HttpResponse {
  ExchangeEnd end = ExchangeEnd::kBroken;
  int status = 0;  // 0: no response
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;             // what on_body did not take; at most 64 KiB
  std::uint64_t body_read = 0;  // bytes taken from the UploadBody
  std::optional<Milliseconds> retry_after;
  std::string trouble;  // in words; empty when kWhole

  /// The first header of that name in any case, without blanks around it.
  std::optional<std::string_view> header(std::string_view name) const;
};

struct HttpRequest {
  std::string method;
  std::string path;  // from the server's base URL on, with its query
  std::vector<std::string> headers;
  std::string body;  // for small ones; ignored when `upload` is there
  std::optional<UploadBody> upload;
  bool expect_continue = false;
  bool follow_redirects = false;
  std::optional<Milliseconds> time_limit;  // for the whole exchange; absent: as long as the connection lives

  // Each may be empty. Returning false ends the exchange.
  std::function<bool(const HttpResponse&)> on_head;         // the final response's, once
  std::function<bool(std::span<const std::byte>)> on_body;  // a 2xx response's body, in pieces
  std::function<void(std::uint64_t body_read)> on_tick;     // at least once a second, and as bytes move
};

/// One server, one token, HTTP/1.1, one exchange at a time. A connection serves one exchange: a command makes few,
/// and a stale connection must never cost an upload that cannot be repeated. Blocks; one thread.
class ClientSession {
 public:
  /// The server: the option, else SLUICE_SERVER, else http://127.0.0.1:8090. The token: the option, else SLUICE_TOKEN,
  /// else the token file's first line, else none, which leaves it to the server to refuse.
  static Outcome<ClientSession> open(const std::string& server, const std::string& token,
                                     const ClientEnvironment& environment);
  ~ClientSession();
  ClientSession(ClientSession&&) noexcept;
  ClientSession& operator=(ClientSession&&) noexcept;

  HttpResponse perform(const HttpRequest& request);
  const std::string& server() const;  // without a slash at its end

 private:
  struct Impl;
  explicit ClientSession(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// `/_matrix/client/v1/media/download/{serverName}/{mediaId}?timeout_ms=...`
std::string download_path(const Mxc& mxc, Milliseconds timeout);

/// A string member of a JSON object; nothing when it is not there or the text is not a JSON object.
std::optional<std::string> json_string(std::string_view json, const char* member);

/// The `errcode` of a refusal; empty when the body is not a Matrix error.
std::string errcode_of(const HttpResponse& response);

/// What went wrong, for people: "M_TOO_LARGE: The file is too large (HTTP 413)", or the connection's trouble.
std::string describe_failure(const HttpResponse& response);

/// What its reader can do about it, as half a sentence.
std::string advice_for(const HttpResponse& response);

/// 502, 503 and 504: the server, or what stands before it, may do better soon.
bool is_transient(int status);

/// The longest Retry-After that is waited for; who asks for more is told to come back later.
inline constexpr Milliseconds kMaxRetryAfter = std::chrono::minutes(5);

/// For people, rounded up: "500ms", "3s", "5m", "24h".
std::string describe_wait(Milliseconds wait);

/// The wait before the next try after `failures` in a row (from 1): half a second, doubling, at most 15 s.
Milliseconds backoff(int failures);

}  // namespace sluice::cli
