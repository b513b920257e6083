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

/// Why there is no response: could not resolve, connect, be read in time or within the limit. For logs, not clients.
struct Failure {
  bool timed_out = false;
  std::string message;
};

/// HTTP to others. Connections are pooled; redirects are not followed; proxies from the environment are not used.
class Client {
 public:
  virtual ~Client() = default;
  /// Awaitable on any loop; comes back to the same loop.
  virtual Task<std::expected<Response, Failure>> get(Request request) = 0;
};

/// A client on libcurl's multi interface with one thread of its own. Destroy it only when no request is under way.
std::unique_ptr<Client> make_curl_client();

}  // namespace sluice::outbound
