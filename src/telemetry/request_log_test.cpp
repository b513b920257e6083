// SPDX-License-Identifier: Apache-2.0
#include "telemetry/request_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <memory>
#include <string>
#include <string_view>

#include "base/text.h"

namespace sluice::telemetry {
namespace {

using config::LogFormat;
using std::chrono::milliseconds;
using ::testing::HasSubstr;
using ::testing::Not;

class RequestLogTest : public ::testing::Test {
 protected:
  http::ExchangeReport report() const {
    return {.id = {.run = "1f", .connection = 7, .exchange = 2},
            .client_address = "192.0.2.1",
            .method = method_,
            .path = path_,
            .status = status_,
            .completed = completed_,
            .bytes_received = 10,
            .bytes_sent = 2048,
            .duration = milliseconds(42),
            .notes = notes_};
  }
  std::string text() const { return request_line(report(), LogFormat::kText); }
  boost::json::object json() const { return boost::json::parse(request_line(report(), LogFormat::kJson)).as_object(); }

  std::string method_ = "GET";
  std::string path_ = "/_matrix/media/v3/download/example.org/id";
  int status_ = 200;
  bool completed_ = true;
  http::Notes notes_;
};

// ---- what it tells ----

TEST_F(RequestLogTest, TellsWhoAskedWhatAndWhatCameOfIt) {
  EXPECT_EQ(text(), "1f-7.2 192.0.2.1 GET /_matrix/media/v3/download/example.org/id 200 in=10 out=2048 ms=42");
  EXPECT_EQ(json(), boost::json::parse(R"({
    "request": "1f-7.2", "client": "192.0.2.1", "method": "GET", "path": "/_matrix/media/v3/download/example.org/id",
    "status": 200, "bytes_in": 10, "bytes_out": 2048, "duration_ms": 42, "completed": true})"));
}

TEST_F(RequestLogTest, TellsWhatTheHandlerNoted) {
  notes_ = {.user = "@alice:example.org",
            .errcode = "M_NOT_YET_UPLOADED",
            .media = "mxc://example.org/id",
            .operation = "download",
            .outcome = "live",
            .waited = milliseconds(1234),
            .was_stalled = true};
  completed_ = false;
  EXPECT_THAT(text(), HasSubstr(" user=@alice:example.org live M_NOT_YET_UPLOADED waited_ms=1234 "
                                "mxc://example.org/id unfinished"));
  const boost::json::object line = json();
  EXPECT_EQ(line.at("user"), "@alice:example.org");
  EXPECT_EQ(line.at("errcode"), "M_NOT_YET_UPLOADED");
  EXPECT_EQ(line.at("media"), "mxc://example.org/id");
  EXPECT_EQ(line.at("operation"), "download");
  EXPECT_EQ(line.at("outcome"), "live");
  EXPECT_EQ(line.at("waited_ms"), 1234);
  EXPECT_EQ(line.at("completed"), false);
}

TEST_F(RequestLogTest, MarksAdmins) {
  notes_ = {.user = "@root:example.org", .admin = true};
  EXPECT_THAT(text(), testing::EndsWith(" user=@root:example.org admin"));
  EXPECT_EQ(json().at("admin"), true);
  notes_.admin = false;
  EXPECT_THAT(text(), testing::EndsWith(" user=@root:example.org"));
  EXPECT_FALSE(json().contains("admin"));
}

TEST_F(RequestLogTest, HasAPlaceForAMethodThatCouldNotBeRead) {
  method_ = path_ = "";
  EXPECT_EQ(text(), "1f-7.2 192.0.2.1 -  200 in=10 out=2048 ms=42");
  EXPECT_EQ(json().at("method"), "");
}

// ---- what it must not tell ----

TEST_F(RequestLogTest, NeverHoldsTheQuery) {
  for (const std::string_view query :
       {"?access_token=secret", "?a=b&access_token=secret", "??secret", "?secret?secret"}) {
    path_ = "/_matrix/media/v3/config" + std::string(query);
    for (const LogFormat format : {LogFormat::kText, LogFormat::kJson}) {
      const std::string line = request_line(report(), format);
      EXPECT_THAT(line, Not(HasSubstr("secret")));
      EXPECT_THAT(line, HasSubstr("/_matrix/media/v3/config"));
    }
  }
}

TEST_F(RequestLogTest, CannotBeForged) {
  std::string hostile = "a\nb\r\nc\x1b[2J\x07\x7f\t\"\\ \xff\xc2\x9b\xe2\x80\xa8" + std::string(1, '\0') + "end";
  method_ = path_ = notes_.user = notes_.errcode = hostile;
  for (const LogFormat format : {LogFormat::kText, LogFormat::kJson}) {
    const std::string line = request_line(report(), format);
    EXPECT_FALSE(has_control_characters(line)) << line;
    EXPECT_TRUE(std::ranges::all_of(line, [](char c) { return c >= ' ' && c < 0x7f; })) << line;
    EXPECT_THAT(line, HasSubstr("end"));
  }
  EXPECT_EQ(std::ranges::count(text(), ' '), 9) << "a space of the client's would make another field";
  EXPECT_EQ(json().at("status"), 200) << "a quote of the client's would make another member";
}

TEST_F(RequestLogTest, DoesNotGrowWithThePath) {
  path_ = "/" + std::string(8000, 'a');
  EXPECT_LT(text().size(), 700u);
  EXPECT_LT(request_line(report(), LogFormat::kJson).size(), 800u);
}

// ---- the log ----

class LogTest : public RequestLogTest {
 protected:
  ~LogTest() override { spdlog::set_default_logger(before_); }

  std::string logged(const config::Config::Log& config) {
    ::testing::internal::CaptureStderr();
    start_log(config);
    log_exchange(report(), config.format);
    spdlog::warn("a \"message\"\nof our own");
    spdlog::default_logger()->flush();
    return ::testing::internal::GetCapturedStderr();
  }

 private:
  const std::shared_ptr<spdlog::logger> before_ = spdlog::default_logger();
};

TEST_F(LogTest, IsTextWithTimeAndLevel) {
  EXPECT_THAT(logged({.format = LogFormat::kText, .level = config::LogLevel::kInfo}),
              ::testing::ContainsRegex("^[0-9-]+ [0-9:.]+ info 1f-7.2 192.0.2.1 GET "));
}

TEST_F(LogTest, IsOneJsonObjectALine) {
  const std::string lines = logged({.format = LogFormat::kJson, .level = config::LogLevel::kInfo});
  std::vector<std::string_view> parts = split(lines, '\n');
  ASSERT_EQ(parts.size(), 3u);
  EXPECT_EQ(parts.back(), "");
  const boost::json::value request = boost::json::parse(parts[0]);
  EXPECT_EQ(request.at("level"), "info");
  EXPECT_EQ(request.at("request"), "1f-7.2");
  EXPECT_GT(request.at("time_ms").as_int64(), 1'600'000'000'000);
  const boost::json::value message = boost::json::parse(parts[1]);
  EXPECT_EQ(message.at("level"), "warning");
  EXPECT_EQ(message.at("message"), "a \"message\"\nof our own");
}

TEST_F(LogTest, LeavesOutWhatIsBelowItsLevel) {
  const std::string lines = logged({.format = LogFormat::kText, .level = config::LogLevel::kWarn});
  EXPECT_THAT(lines, Not(HasSubstr("1f-7.2")));
  EXPECT_THAT(lines, HasSubstr("of our own"));
}

TEST_F(LogTest, KeepsTheChatterOfProgramsForDebugging) {
  for (const std::string_view routine : {"health", "progress"}) {
    notes_.operation = routine;
    EXPECT_THAT(logged({.format = LogFormat::kText, .level = config::LogLevel::kInfo}), Not(HasSubstr("1f-7.2")));
    EXPECT_THAT(logged({.format = LogFormat::kText, .level = config::LogLevel::kDebug}), HasSubstr("1f-7.2"));
  }
  status_ = 401;
  EXPECT_THAT(logged({.format = LogFormat::kText, .level = config::LogLevel::kInfo}), HasSubstr("1f-7.2"));
}

}  // namespace
}  // namespace sluice::telemetry
