// SPDX-License-Identifier: Apache-2.0
#include "telemetry/request_log.h"

#include <fmt/format.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include "base/text.h"

namespace sluice::telemetry {
namespace {

constexpr std::size_t kMaxLoggedPathBytes = 512;

/// Formats a whole record as one JSON object. A message that is one already (a request line) gives its members.
class JsonFormatter final : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override {
    const std::string_view payload(message.payload.data(), message.payload.size());
    const auto since_epoch = std::chrono::duration_cast<std::chrono::milliseconds>(message.time.time_since_epoch());
    const auto level = spdlog::level::to_string_view(message.level);
    fmt::format_to(std::back_inserter(out), "{{\"time_ms\":{},\"level\":\"{}\",", since_epoch.count(),
                   std::string_view(level.data(), level.size()));
    if (payload.starts_with('{')) {
      fmt::format_to(std::back_inserter(out), "{}\n", payload.substr(1));
    } else {
      fmt::format_to(std::back_inserter(out), "\"message\":{}}}\n",
                     boost::json::serialize(boost::json::string(is_utf8(payload) ? payload : "(not UTF-8)")));
    }
  }
  std::unique_ptr<spdlog::formatter> clone() const override { return std::make_unique<JsonFormatter>(); }
};

spdlog::level::level_enum to_spdlog(config::LogLevel level) {
  switch (level) {
    case config::LogLevel::kDebug:
      return spdlog::level::debug;
    case config::LogLevel::kInfo:
      return spdlog::level::info;
    case config::LogLevel::kWarn:
      return spdlog::level::warn;
    case config::LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

// What a client wrote must not be able to forge a line, or hide one behind terminal codes.
std::string printable(std::string_view text) {
  std::string clean(text.substr(0, kMaxLoggedPathBytes));
  for (char& c : clean) {
    if (c <= ' ' || c >= 0x7f) c = '?';
  }
  return clean;
}

// Without the query, which may hold a token.
std::string printable_path(std::string_view target) { return printable(target.substr(0, target.find('?'))); }

std::string text_line(const http::ExchangeReport& report) {
  const http::Notes& notes = report.notes;
  std::string line = fmt::format("{} {} {} {} {} in={} out={} ms={}", report.id.to_string(), report.client_address,
                                 report.method.empty() ? "-" : printable(report.method), printable_path(report.path),
                                 report.status, report.bytes_received, report.bytes_sent, report.duration.count());
  if (!notes.user.empty()) line += " user=" + printable(notes.user);
  if (notes.admin) line += " admin";
  if (!notes.outcome.empty()) line += fmt::format(" {}", notes.outcome);
  if (!notes.errcode.empty()) line += " " + printable(notes.errcode);
  if (notes.was_stalled) line += fmt::format(" waited_ms={}", notes.waited.count());
  if (!notes.media.empty()) line += " " + notes.media;
  if (!report.completed) line += " unfinished";
  return line;
}

std::string json_line(const http::ExchangeReport& report) {
  const http::Notes& notes = report.notes;
  boost::json::object line;
  line["request"] = report.id.to_string();
  line["client"] = report.client_address;
  line["method"] = printable(report.method);
  line["path"] = printable_path(report.path);
  line["status"] = report.status;
  line["bytes_in"] = report.bytes_received;
  line["bytes_out"] = report.bytes_sent;
  line["duration_ms"] = report.duration.count();
  line["completed"] = report.completed;
  if (!notes.user.empty()) line["user"] = printable(notes.user);
  if (notes.admin) line["admin"] = true;
  if (!notes.operation.empty()) line["operation"] = notes.operation;
  if (!notes.outcome.empty()) line["outcome"] = notes.outcome;
  if (!notes.errcode.empty()) line["errcode"] = printable(notes.errcode);
  if (!notes.media.empty()) line["media"] = notes.media;
  if (notes.was_stalled) line["waited_ms"] = notes.waited.count();
  return boost::json::serialize(line);
}

}  // namespace

void start_log(const config::Config::Log& config) {
  auto logger = std::make_shared<spdlog::logger>("sluice", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  logger->set_level(to_spdlog(config.level));
  if (config.format == config::LogFormat::kJson) {
    logger->set_formatter(std::make_unique<JsonFormatter>());
  } else {
    logger->set_pattern("%Y-%m-%d %H:%M:%S.%e %^%l%$ %v");
  }
  spdlog::set_default_logger(std::move(logger));
}

std::string request_line(const http::ExchangeReport& report, config::LogFormat format) {
  return format == config::LogFormat::kJson ? json_line(report) : text_line(report);
}

void log_exchange(const http::ExchangeReport& report, config::LogFormat format) {
  // Asked again and again by programs; nobody reads a log for them. But who guesses tokens leaves a line.
  const bool is_routine =
      report.notes.operation == "health" || (report.notes.operation == "progress" && report.status < 400);
  const auto level = is_routine ? spdlog::level::debug : spdlog::level::info;
  if (spdlog::should_log(level)) spdlog::log(level, "{}", request_line(report, format));
}

}  // namespace sluice::telemetry
