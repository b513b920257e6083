// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <expected>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/task.h"

namespace sluice::outbound {

struct Request {
  std::string url;  // http or https
  std::vector<std::pair<std::string, std::string>> headers;
  std::chrono::milliseconds timeout = std::chrono::seconds(10);  // for the whole exchange, connecting included
  std::size_t max_response_bytes = 64 * 1024;                    // a longer body is a failure
};

struct Response {
  int status = 0;
  std::string body;
  std::string retry_after;  // the header's text, empty if there was none
};

/// Why there is no response: could not resolve, connect, be read in time or within the limit. For logs, not clients:
/// `message` may name a host and a port, but never holds a header that was sent.
struct Failure {
  bool timed_out = false;
  std::string message;
};

/// HTTP to others. Connections are pooled; redirects are not followed; proxies from the environment are not used.
class Client {
 public:
  virtual ~Client() = default;
  /// Awaitable on any loop; comes back to the same loop.
  /// Control characters in the URL or a header are a failure, and nothing is sent.
  virtual Task<std::expected<Response, Failure>> get(Request request) = 0;
};

/// A client on libcurl's multi interface with one thread of its own. At most 64 requests are under way at once and
/// 1,024 wait for their turn, within their own timeout; one more fails at once. Connecting may take 5 s of the timeout,
/// a response's head 64 KiB. Destroy it only when no request is under way, and before the loops that awaited it.
std::unique_ptr<Client> make_curl_client();

}  // namespace sluice::outbound
