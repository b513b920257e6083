// SPDX-License-Identifier: Apache-2.0
#include "telemetry/request_log.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <cerrno>
#include <chrono>
#include <climits>
#include <ctime>
#include <iterator>
#include <string_view>
#include <utility>

#include "base/text.h"
#include "runtime/loop.h"

namespace sluice::telemetry {
namespace {

constexpr std::size_t kMaxLoggedPathBytes = 512;

/// Formats a record as one JSON object.
class JsonFormatter final : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override {
    const std::string_view payload(message.payload.data(), message.payload.size());
    const auto since_epoch = std::chrono::duration_cast<std::chrono::milliseconds>(message.time.time_since_epoch());
    const auto level = spdlog::level::to_string_view(message.level);
    fmt::format_to(std::back_inserter(out), "{{\"time_ms\":{},\"level\":\"{}\",", since_epoch.count(),
                   std::string_view(level.data(), level.size()));
    fmt::format_to(std::back_inserter(out), "\"message\":{}}}\n",
                   boost::json::serialize(boost::json::string(is_utf8(payload) ? payload : "(not UTF-8)")));
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
void append_printable(std::string& line, std::string_view text) {
  const auto begin = static_cast<std::ptrdiff_t>(line.size());
  line += text.substr(0, kMaxLoggedPathBytes);
  std::replace_if(line.begin() + begin, line.end(), [](char c) { return c <= ' ' || c >= 0x7f; }, '?');
}

std::string printable(std::string_view text) {
  std::string clean;
  append_printable(clean, text);
  return clean;
}

// Without the query, which may hold a token.
std::string_view without_query(std::string_view target) { return target.substr(0, target.find('?')); }

void append_text_line(std::string& line, const http::ExchangeReport& report) {
  const http::Notes& notes = report.notes;
  const auto out = std::back_inserter(line);
  fmt::format_to(out, "{} {} ", report.id.to_string(), report.client_address);
  append_printable(line, report.method.empty() ? "-" : report.method);
  line += ' ';
  append_printable(line, without_query(report.path));
  fmt::format_to(out, " {} in={} out={} ms={}", report.status, report.bytes_received, report.bytes_sent,
                 report.duration.count());
  if (!notes.user.empty()) append_printable(line.append(" user="), notes.user);
  if (notes.admin) line += " admin";
  if (!notes.outcome.empty()) line.append(" ").append(notes.outcome);
  if (!notes.errcode.empty()) append_printable(line.append(" "), notes.errcode);
  if (notes.was_stalled) fmt::format_to(out, " waited_ms={}", notes.waited.count());
  if (!notes.media.empty()) line.append(" ").append(notes.media);
  if (!report.completed) line += " unfinished";
}

std::string json_line(const http::ExchangeReport& report) {
  const http::Notes& notes = report.notes;
  boost::json::object line;
  line["request"] = report.id.to_string();
  line["client"] = report.client_address;
  line["method"] = printable(report.method);
  line["path"] = printable(without_query(report.path));
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

/// The request lines of one thread. A loop writes those of all that it does in one turn in one go, and formats no date
/// twice in a second: a line cost 5.5 µs through the common logger, and the loops waited for each other there.
class PendingLines {
 public:
  ~PendingLines() { write(); }

  void append(const http::ExchangeReport& report, config::LogFormat format, spdlog::string_view_t level) {
    const auto now = std::chrono::floor<Milliseconds>(std::chrono::system_clock::now()).time_since_epoch();
    if (format == config::LogFormat::kJson) {
      fmt::format_to(std::back_inserter(text_), "{{\"time_ms\":{},\"level\":\"{}\",{}\n", now.count(), level,
                     std::string_view(json_line(report)).substr(1));
    } else {
      fmt::format_to(std::back_inserter(text_), "{}.{:03} {} ", date(std::chrono::floor<std::chrono::seconds>(now)),
                     now.count() % 1000, level);
      append_text_line(text_, report);
      text_ += '\n';
    }
    Loop* const loop = Loop::current_or_null();
    if (loop == nullptr) return write();
    if (std::exchange(posted_on_, loop) != loop) loop->post([this] { write(); });
  }

 private:
  // In local time, as the common logger's lines.
  std::string_view date(std::chrono::seconds now) {
    if (now != dated_) {
      dated_ = now;
      date_ = fmt::format("{:%Y-%m-%d %H:%M:%S}", fmt::localtime(static_cast<std::time_t>(now.count())));
    }
    return date_;
  }

  // Whole lines, and what a pipe takes in one piece (pipe(7)), so that the lines of several threads do not mix.
  void write() {
    posted_on_ = nullptr;
    std::string_view rest = text_;
    while (!rest.empty()) {
      std::size_t end = rest.size() <= PIPE_BUF ? rest.size() : rest.rfind('\n', PIPE_BUF - 1) + 1;
      if (end == 0) end = rest.find('\n') + 1;
      const ssize_t written = ::write(STDERR_FILENO, rest.data(), end);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) break;  // there is nobody to tell
      rest.remove_prefix(static_cast<std::size_t>(written));
    }
    text_.clear();
    if (text_.capacity() > kKeptBytes) text_.shrink_to_fit();
  }

  static constexpr std::size_t kKeptBytes = 64 * 1024;

  std::string text_;
  Loop* posted_on_ = nullptr;
  std::chrono::seconds dated_{-1};
  std::string date_;
};

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

void set_log_level(config::LogLevel level) { spdlog::set_level(to_spdlog(level)); }

std::string request_line(const http::ExchangeReport& report, config::LogFormat format) {
  if (format == config::LogFormat::kJson) return json_line(report);
  std::string line;
  append_text_line(line, report);
  return line;
}

void log_exchange(const http::ExchangeReport& report, config::LogFormat format) {
  // Asked again and again by programs; nobody reads a log for them. But who guesses tokens leaves a line.
  const bool is_routine =
      report.notes.operation == "health" || (report.notes.operation == "progress" && report.status < 400);
  const auto level = is_routine ? spdlog::level::debug : spdlog::level::info;
  if (!spdlog::should_log(level)) return;
  thread_local PendingLines lines;
  lines.append(report, format, spdlog::level::to_string_view(level));
}

}  // namespace sluice::telemetry
