// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::http {

/// One range of bytes as a client asks for it (RFC 9110, section 14.1.2).
struct ByteRange {
  std::optional<std::uint64_t> first;  // nothing: a suffix of `last` bytes
  std::optional<std::uint64_t> last;   // inclusive; nothing: to the end

  bool is_suffix() const { return !first; }
};

/// Reads a Range field. Nothing for what a server ignores: other units, several ranges, anything malformed. Numbers
/// beyond 64 bits count as the largest.
std::optional<ByteRange> parse_range(std::string_view field);

/// A range laid on a representation of known size.
struct Span {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

/// Nothing if the range lies outside (416). A suffix longer than the whole is the whole.
std::optional<Span> resolve(const ByteRange& range, std::uint64_t size);

/// `bytes 0-99/200`; `*` for an unknown size.
std::string content_range(const Span& span, std::optional<std::uint64_t> size);
/// `bytes */200`, for a 416.
std::string unsatisfied_content_range(std::uint64_t size);

/// Whether If-None-Match names this entity tag or is `*`; weak comparison (RFC 9110, section 13.1.2).
bool matches_any_etag(std::string_view if_none_match, std::string_view etag);

/// Whether If-Range lets a Range stand: only the same strong entity tag does (section 13.1.5). Dates never do, as no
/// Last-Modified is sent.
bool matches_if_range(std::string_view if_range, std::string_view etag);

}  // namespace sluice::http
