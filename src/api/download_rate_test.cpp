// SPDX-License-Identifier: Apache-2.0
// How fast content may be downloaded, through the whole Api.
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "api/api_fixture_test.h"

namespace sluice::api {
namespace {

class DownloadRateTest : public ApiTest {
 protected:
  DownloadRateTest() { limits_.downloads.rate.per_user = {.bytes_per_second = 1, .burst = 1000}; }

  static std::string legacy_path_of(const Mxc& mxc) {
    return "/_matrix/media/v3/download/" + mxc.server_name() + "/" + mxc.media_id();
  }
  /// Ends the exchange as a connection that has sent so much would.
  void settle(const Reply& reply, std::uint64_t bytes_sent) {
    loop_.start(settle_on_loop(api(), reply.notes, bytes_sent)).get();
  }

 private:
  static Task<> settle_on_loop(Api& api, const http::Notes& notes, std::uint64_t bytes_sent) {
    const http::ExchangeReport report{.id = {},
                                      .client_address = "192.0.2.1",
                                      .method = "GET",
                                      .path = "",
                                      .status = 200,
                                      .bytes_sent = bytes_sent,
                                      .notes = notes};
    api.settle(report);
    co_return;
  }
};

TEST_F(DownloadRateTest, LetsALargeFilePassAndThenWaits) {
  const Mxc mxc = store(std::string(10'000, 'x'));
  const Reply first = get(path_of(mxc));
  EXPECT_EQ(first.body.size(), 10'000u);
  settle(first, 10'000);
  const Reply refused = get(path_of(mxc));
  EXPECT_EQ(refused.status, 429);
  EXPECT_EQ(refused.errcode(), "M_LIMIT_EXCEEDED");
  EXPECT_NEAR(std::stoi(refused.field("Retry-After")), 9001, 100) << "on a slow machine some of it is over";
  EXPECT_EQ(get(path_of(reserve())).status, 429) << "before it waits";
  clock_.advance_steady(std::chrono::seconds(9001));
  EXPECT_EQ(get(path_of(mxc)).status, 200);
}

TEST_F(DownloadRateTest, GivesBackWhatWasNotSent) {
  const Mxc mxc = store(std::string(10'000, 'x'));
  settle(get(path_of(mxc)), 5);
  EXPECT_EQ(get(path_of(mxc)).status, 200);
  EXPECT_EQ(get(path_of(mxc)).status, 429) << "of the second one it is not known yet";
}

TEST_F(DownloadRateTest, CountsWhatIsSent) {
  const Mxc mxc = store(std::string(10'000, 'x'));
  const std::pair<std::string, std::string> range{"Range", "bytes=0-199"};
  for (int i = 0; i < 4; ++i) settle(get(path_of(mxc), {kBearer, range}), 200);
  for (int i = 0; i < 9; ++i) settle(send({.method = "HEAD", .target = path_of(mxc), .fields = {kBearer}}), 0);
  const std::string etag = send({.method = "HEAD", .target = path_of(mxc), .fields = {kBearer}}).field("ETag");
  EXPECT_EQ(get(path_of(mxc), {kBearer, {"If-None-Match", etag}}).status, 304);
  EXPECT_EQ(get(path_of(mxc), {kBearer, {"Range", "bytes=0-1199"}}).status, 206);
  EXPECT_EQ(get(path_of(mxc), {kBearer, range}).status, 429);
}

TEST_F(DownloadRateTest, CountsALiveDownloadWithoutALengthWhenItIsOver) {
  const Mxc mxc = reserve();
  auto upload = *begin(mxc);
  ASSERT_TRUE(write(upload, std::string(5000, 'x')));
  auto live = start({.method = "GET", .target = path_of(mxc), .fields = {kBearer}});
  live->exchange_double.caller().await_asked(1);
  ASSERT_TRUE(seal(upload));
  const Reply reply = live->reply.get();
  EXPECT_EQ(reply.body.size(), 5000u);
  ASSERT_EQ(reply.notes.outcome, "live");
  settle(reply, 5000);
  EXPECT_EQ(get(path_of(mxc)).status, 429);
}

TEST_F(DownloadRateTest, CountsUsersAndAddressesApart) {
  limits_.downloads.rate.per_address = limits_.downloads.rate.per_user;
  const Mxc mxc = store(std::string(10'000, 'x'));
  EXPECT_EQ(get(path_of(mxc)).status, 200);
  EXPECT_EQ(get(path_of(mxc)).status, 429);
  EXPECT_EQ(get(path_of(mxc), {{"Authorization", "Bearer mallory"}}).status, 200);
  EXPECT_EQ(get(legacy_path_of(mxc), {}).status, 200);
  EXPECT_EQ(get(legacy_path_of(mxc), {}).status, 429);
}

TEST_F(DownloadRateTest, CountsEverybodyByAddressWhereOnlyThatIsLimited) {
  limits_.downloads.rate = {.per_user = {}, .per_address = {.bytes_per_second = 1, .burst = 1000}};
  const Mxc mxc = store(std::string(10'000, 'x'));
  EXPECT_EQ(get(path_of(mxc)).status, 200);
  EXPECT_EQ(get(path_of(mxc), {{"Authorization", "Bearer mallory"}}).status, 429);
}

TEST_F(DownloadRateTest, IsOffUnlessGiven) {
  limits_.downloads.rate = {};
  const Mxc mxc = store(std::string(10'000, 'x'));
  for (int i = 0; i < 3; ++i) {
    const Reply reply = get(path_of(mxc));
    EXPECT_EQ(reply.status, 200);
    EXPECT_FALSE(reply.notes.charged_bytes);
  }
}

}  // namespace
}  // namespace sluice::api
