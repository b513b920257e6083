// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "config/config.h"
#include "http/server.h"

namespace sluice::telemetry {

/// Sets up the process's log: lines on standard error, text or JSON, from this level on.
void start_log(const config::Config::Log& config);

/// From which level on lines are written from now on. From any thread.
void set_log_level(config::LogLevel level);

/// One line for one exchange: id, who, what, status, bytes, times. Never a token: queries are left out, and so is
/// every header.
std::string request_line(const http::ExchangeReport& report, config::LogFormat format);

/// Writes that line: at level info; the chatter of health checks at level debug.
void log_exchange(const http::ExchangeReport& report, config::LogFormat format);

}  // namespace sluice::telemetry
