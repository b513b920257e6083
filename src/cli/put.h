// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "cli/client_session.h"

namespace sluice::cli {

struct PutOptions {
  std::string file;          // "-": standard input
  std::string server;        // empty: see ClientSession::open
  std::string token;         // empty: see ClientSession::open
  std::string content_type;  // empty: guessed from the name
  std::string filename;      // what the server is told; empty: the file's own name, none for standard input
  bool quiet = false;        // only failures are said
};

/// `sluice put`: creates an MXC URI, prints it on standard output at once, then uploads. What is not a regular file is
/// sent in chunks as it comes. A regular file is sent again, five times at most, when the connection breaks off or the
/// server is briefly unable: a broken upload leaves its id free (client-server API, "PUT .../upload/{serverName}
/// /{mediaId}"). Returns the exit code: 0 when the server has acknowledged the upload; 1 after a failure, said in one
/// line on standard error; 2 for bad usage.
int put(const PutOptions& options);
int put(const PutOptions& options, const ClientEnvironment& environment);

/// The media type that the name's extension stands for; application/octet-stream for what is not common.
std::string_view guess_content_type(std::string_view filename);

}  // namespace sluice::cli
