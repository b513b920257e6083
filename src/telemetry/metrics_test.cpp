// SPDX-License-Identifier: Apache-2.0
#include "telemetry/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/text.h"

namespace sluice::telemetry {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;
using ::testing::Not;

class MetricsTest : public ::testing::Test {
 protected:
  void record(int status, const http::Notes& notes = {}, milliseconds duration = milliseconds(3)) {
    metrics_.record({.id = {},
                     .client_address = "192.0.2.1",
                     .method = "GET",
                     .path = "/",
                     .status = status,
                     .completed = true,
                     .duration = duration,
                     .notes = notes});
  }
  std::string text(const Levels& levels = {}) const { return metrics_.text(levels); }

  Metrics metrics_;
};

TEST_F(MetricsTest, CountsRequestsByStatus) {
  record(200);
  record(200);
  record(404);
  EXPECT_THAT(text(), HasSubstr("sluice_requests_total{status=\"200\"} 2\n"));
  EXPECT_THAT(text(), HasSubstr("sluice_requests_total{status=\"404\"} 1\n"));
}

TEST_F(MetricsTest, CountsRefusalsByErrcode) {
  record(404, {.errcode = "M_NOT_FOUND"});
  record(200);
  EXPECT_THAT(text(), HasSubstr("sluice_refusals_total{errcode=\"M_NOT_FOUND\"} 1\n"));
}

TEST_F(MetricsTest, CountsUploadsAndDownloadsByWhatBecameOfThem) {
  record(200, {.operation = "upload", .outcome = "stored"});
  record(507, {.operation = "upload", .outcome = "broken"});
  record(403, {.operation = "upload", .outcome = "refused"});
  record(200, {.operation = "download", .outcome = "stored"});
  record(200, {.operation = "download", .outcome = "live"});
  record(200, {.operation = "download", .outcome = "live"});
  record(504, {.operation = "download"});
  record(200, {.operation = "create"});
  EXPECT_THAT(text(), HasSubstr("sluice_uploads_total{result=\"stored\"} 1\n"));
  EXPECT_THAT(text(), HasSubstr("sluice_uploads_total{result=\"broken\"} 1\n"));
  EXPECT_THAT(text(), HasSubstr("sluice_uploads_total{result=\"refused\"} 1\n"));
  EXPECT_THAT(text(), HasSubstr("sluice_downloads_total{kind=\"stored\"} 1\n"));
  EXPECT_THAT(text(), HasSubstr("sluice_downloads_total{kind=\"live\"} 2\n"));
}

TEST_F(MetricsTest, MeasuresRequestsAndWaitsInSeconds) {
  record(200, {.operation = "download", .waited = milliseconds(1500), .was_stalled = true}, milliseconds(2000));
  record(200, {}, milliseconds(10));
  EXPECT_THAT(text(), HasSubstr("sluice_request_seconds_count 2\n"));
  EXPECT_THAT(text(), HasSubstr("sluice_request_seconds_sum 2.01\n"));
  EXPECT_THAT(text(), HasSubstr("sluice_request_seconds_bucket{le=\"0.02\"} 1\n"));
  EXPECT_THAT(text(), HasSubstr("sluice_request_seconds_bucket{le=\"5\"} 2\n"));
  EXPECT_THAT(text(), HasSubstr("sluice_wait_seconds_count 1\n"));
  EXPECT_THAT(text(), HasSubstr("sluice_wait_seconds_sum 1.5\n"));
}

TEST_F(MetricsTest, ShowsTheLevelsOfTheMoment) {
  const std::string shown = text({.stalled_downloads = 1,
                                  .live_followers = 2,
                                  .running_uploads = 3,
                                  .queued_thumbnails = 6,
                                  .connections = 4,
                                  .received_bytes = 5,
                                  .sent_bytes = 1ull << 60});
  for (const std::string_view line :
       {"\nsluice_stalled_downloads 1\n", "\nsluice_live_followers 2\n", "\nsluice_uploads_running 3\n",
        "\nsluice_thumbnails_queued 6\n", "\nsluice_connections 4\n", "\nsluice_received_bytes_total 5\n",
        "\nsluice_sent_bytes_total 1152921504606846976\n"}) {
    EXPECT_THAT(shown, HasSubstr(line));
  }
}

// https://prometheus.io/docs/instrumenting/exposition_formats, text format 0.0.4.
TEST_F(MetricsTest, IsWhatPrometheusReads) {
  record(404, {.errcode = "M_\"QUOTED\"\\\n", .operation = "download", .outcome = "live", .was_stalled = true});
  record(200, {.operation = "upload", .outcome = "stored"});
  const std::string shown = text();
  ASSERT_TRUE(shown.ends_with('\n')) << "the last line has its end, too";
  const std::regex comment(R"re(# (HELP|TYPE) [a-z_]+ .+)re");
  const std::regex sample(R"re(([a-z_]+)(\{[a-z]+="([^"\\]|\\["\\n])*"\})? [0-9.e+-]+)re");
  std::set<std::string> typed;
  for (const std::string_view line : split(std::string_view(shown).substr(0, shown.size() - 1), '\n')) {
    std::match_results<std::string_view::const_iterator> match;
    if (line.starts_with('#')) {
      EXPECT_TRUE(std::regex_match(line.begin(), line.end(), comment)) << line;
      if (line.starts_with("# TYPE ")) {
        EXPECT_TRUE(typed.emplace(line.substr(7, line.find(' ', 7) - 7)).second) << line << " is there twice";
      }
      continue;
    }
    ASSERT_TRUE(std::regex_match(line.begin(), line.end(), match, sample)) << line;
    std::string name = match[1];
    for (const std::string_view suffix : {"_bucket", "_sum", "_count"}) {
      if (name.ends_with(suffix) && !typed.contains(name)) name.resize(name.size() - suffix.size());
    }
    EXPECT_TRUE(typed.contains(name)) << name << " has no type";
  }
  EXPECT_EQ(typed.size(), 13u);
}

TEST_F(MetricsTest, CountsFromManyThreads) {
  constexpr int kThreads = 4;
  constexpr int kRequests = 1000;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([this] {
        for (int n = 0; n < kRequests; ++n) {
          record(200 + n % 5, {.errcode = "M_" + std::to_string(n % 7)});
          if (n % 100 == 0) text();
        }
      });
    }
  }
  EXPECT_THAT(text(), HasSubstr("sluice_requests_total{status=\"203\"} 800\n"));
  EXPECT_THAT(text(), HasSubstr("sluice_request_seconds_count 4000\n"));
}

}  // namespace
}  // namespace sluice::telemetry
