// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

namespace sluice::cli {

struct ServeOptions {
  std::optional<std::string> config_file;  // nothing: the embedded default
  std::string program = "sluice";          // how this program was called, for the commands it suggests
};

/// Runs the server until SIGTERM or SIGINT; returns the exit code of CONTRACT: 0, or 2 when it could not start.
int serve(const ServeOptions& options);

/// Prints what is in force, or what is wrong with the file; returns 0 or 1.
int check_config(const std::string& config_file);

}  // namespace sluice::cli
