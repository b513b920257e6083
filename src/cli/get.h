// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "cli/client_session.h"

namespace sluice::cli {

struct GetOptions {
  std::string mxc;
  std::string output;  // a file, which is replaced; "-": standard output; empty: a free name from what the server says
  std::string server;  // empty: see ClientSession::open
  std::string token;   // empty: see ClientSession::open
  std::optional<std::chrono::milliseconds> wait;  // for an upload to begin, or to go on; absent: 24 hours
  bool quiet = false;                             // only failures are said
};

/// `sluice get`: downloads one piece of media and follows an upload that is still running. Waits for one that has not
/// begun, resumes where a connection broke off, and never joins two different contents. The bytes gather in FILE.part,
/// which becomes FILE when it is whole and which stays behind when it does not. Returns the exit code: 0; 1 after a
/// failure, said in one line on standard error; 2 for bad usage.
int get(const GetOptions& options);
int get(const GetOptions& options, const ClientEnvironment& environment);

/// A file name that can be used as it is: of what the server said, the last path component, without control
/// characters and leading dots, short enough for any file system; `fallback` when nothing is left of it.
std::string safe_file_name(std::string_view name, std::string_view fallback);

/// A Content-Range (RFC 9110, section 14.4).
struct ContentRange {
  std::optional<std::uint64_t> first;  // absent with `last`: an unsatisfied range
  std::optional<std::uint64_t> last;   // inclusive
  std::optional<std::uint64_t> total;

  bool operator==(const ContentRange&) const = default;
};

/// Nothing for other units and anything malformed.
std::optional<ContentRange> parse_content_range(std::string_view field);

}  // namespace sluice::cli
