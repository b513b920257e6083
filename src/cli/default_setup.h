// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <expected>
#include <string>

#include "config/config.h"

namespace sluice::cli {

/// The configuration of `sluice serve` without a file: server name `localhost` and one admin, whose token is made at
/// the first start and kept in `<data_dir>/token`, readable by its owner alone. The environment is laid over it.
struct DefaultSetup {
  config::Config config;
  std::string token;
  std::string token_file;
  bool token_is_new = false;
};

/// The error is one or more lines for the user.
std::expected<DefaultSetup, std::string> make_default_setup(const config::Environment& environment);

}  // namespace sluice::cli
