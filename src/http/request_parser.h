// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "base/error.h"
#include "http/message.h"

namespace sluice::http {

inline constexpr std::size_t kMaxHeadBytes = 16 * 1024;   // request line and fields: 431 beyond
inline constexpr std::size_t kMaxTargetBytes = 8 * 1024;  // 414 beyond
inline constexpr std::size_t kMaxFields = 100;            // 431 beyond
// What stands between the contents of two chunks: a size with its extensions, or the last one with the trailers. Nobody
// needs either, and an incomplete one has to be kept. 400 beyond.
inline constexpr std::size_t kMaxChunkFrameBytes = 8 * 1024;

/// Reads one request from bytes as they arrive: first its head, then its body without a copy. It is Boost.Beast's
/// parser with stricter rules on top: what two servers in a row could read differently is refused (RFC 9112, sections
/// 6.3 and 11.2): both framings at once, any transfer coding but a single "chunked", more than one Content-Length or
/// Host, no Host in HTTP/1.1, whitespace before a colon, folded fields, bare CR, bare LF or NUL.
///
/// Offers to upgrade are ignored, and so are trailers. Not for use from more than one thread. After an error nothing
/// more may be fed to a head, and every further feed of a body is an error too.
class RequestParser {
 public:
  RequestParser();
  ~RequestParser();
  RequestParser(RequestParser&&) noexcept;
  RequestParser& operator=(RequestParser&&) noexcept;

  /// Feeds bytes until the head is complete. Yields how many were consumed. While the head is incomplete, unconsumed
  /// bytes must be fed again with more behind them; afterwards they belong to the body, or the next request.
  Result<std::size_t> feed_head(std::span<const std::byte> bytes);
  bool has_head() const;
  /// Once. In no more memory than it needs, as it may have to be kept for long.
  RequestHead take_head();

  /// Feeds bytes of the body and hands its content on in order, in slices of `bytes`. Yields how many bytes were
  /// consumed; unconsumed ones must be fed again with more behind them, unless the body has ended. The sink's Error
  /// comes back as it is.
  using Sink = std::function<Result<>(std::span<const std::byte>)>;
  Result<std::size_t> feed_body(std::span<const std::byte> bytes, const Sink& sink);
  bool has_body_ended() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::http
