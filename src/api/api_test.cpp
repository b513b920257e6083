// SPDX-License-Identifier: Apache-2.0
#include "api/api.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "api/api_fixture_test.h"

namespace sluice::api {
namespace {

using ::testing::HasSubstr;

// ---- routes ----

struct Route {
  std::string method;  // one that the path knows
  std::string path;
  std::string allow;
};

const std::vector<Route> kRoutes = {
    {"POST", "/_matrix/media/v1/create", "POST, OPTIONS"},
    {"POST", "/_matrix/media/r0/create", "POST, OPTIONS"},
    {"POST", "/_matrix/media/unstable/fi.mau.msc2246/create", "POST, OPTIONS"},
    {"PUT", "/_matrix/media/v3/upload/example.org/id", "PUT, OPTIONS"},
    {"PUT", "/_matrix/media/r0/upload/id", "PUT, OPTIONS"},
    {"PUT", "/_matrix/media/unstable/fi.mau.msc2246/upload/example.org/id", "PUT, OPTIONS"},
    {"POST", "/_matrix/media/r0/upload", "POST, OPTIONS"},
    {"POST", "/_matrix/media/v1/upload", "POST, OPTIONS"},
    {"POST", "/_matrix/media/v3/upload", "POST, OPTIONS"},
    {"GET", "/_matrix/media/r0/download/example.org/id", "GET, HEAD, OPTIONS"},
    {"GET", "/_matrix/media/v1/download/example.org/id", "GET, HEAD, OPTIONS"},
    {"GET", "/_matrix/media/v3/download/example.org/id", "GET, HEAD, OPTIONS"},
    {"GET", "/_matrix/media/v3/download/example.org/id/cat.png", "GET, HEAD, OPTIONS"},
    {"HEAD", "/_matrix/client/v1/media/download/example.org/id", "GET, HEAD, OPTIONS"},
    {"GET", "/_matrix/client/v1/media/download/example.org/id/cat.png", "GET, HEAD, OPTIONS"},
    {"GET", "/_matrix/media/r0/config", "GET, HEAD, OPTIONS"},
    {"GET", "/_matrix/media/v1/config", "GET, HEAD, OPTIONS"},
    {"GET", "/_matrix/media/v3/config", "GET, HEAD, OPTIONS"},
    {"GET", "/_matrix/client/v1/media/config", "GET, HEAD, OPTIONS"},
    {"GET", "/health", "GET, HEAD, OPTIONS"},
};

TEST_F(ApiTest, KnowsItsPaths) {
  for (const Route& route : kRoutes) {
    const Reply reply = send({.method = route.method, .target = route.path + "?timeout_ms=0", .fields = {kBearer}});
    EXPECT_TRUE(reply.status == 200 || reply.errcode() != "M_UNRECOGNIZED") << route.method << " " << route.path;
  }
}

TEST_F(ApiTest, TellsTheMethodsOfAPath) {
  for (const Route& route : kRoutes) {
    const Reply reply = send({.method = "PATCH", .target = route.path, .fields = {kBearer}});
    EXPECT_EQ(reply.status, 405) << route.path;
    EXPECT_EQ(reply.errcode(), "M_UNRECOGNIZED");
    EXPECT_EQ(reply.field("Allow"), route.allow) << route.path;
    EXPECT_EQ(reply.notes.errcode, "M_UNRECOGNIZED");
  }
}

TEST_F(ApiTest, DoesNotRecognizeOtherPaths) {
  for (const std::string path :
       {"/", "/_matrix", "/_matrix/media/v3/create", "/_matrix/media/v2/upload", "/_matrix/media/v3/upload/example.org",
        "/_matrix/media/v3/download/example.org", "/_matrix/media/v3/download/example.org/id/cat.png/more",
        "/_matrix/client/v3/media/config", "//health", "/health/", "/_matrix/media/v3/../v3/config",
        "/_matrix/media/v3%2Fconfig", "/_MATRIX/media/v3/config"}) {
    const Reply reply = get(path);
    EXPECT_EQ(reply.status, 404) << path;
    EXPECT_EQ(reply.errcode(), "M_UNRECOGNIZED");
    EXPECT_EQ(reply.field("Allow"), "(none)");
  }
}

TEST_F(ApiTest, AnswersAPreflightOnEveryPath) {
  for (const std::string path : {"/_matrix/media/v3/config", "/nowhere"}) {
    const Reply reply = send({.method = "OPTIONS", .target = path});
    EXPECT_EQ(reply.status, 204);
    EXPECT_EQ(reply.body, "");
  }
}

TEST_F(ApiTest, RefusesABrokenTarget) {
  const Reply reply = get("/_matrix/media/v3/config?a=%zz");
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(reply.errcode(), "M_INVALID_PARAM");
}

// ---- who asks, and whom ----

TEST_F(ApiTest, TakesTheTokenFromTheHeaderOrTheQuery) {
  const std::string path = "/_matrix/client/v1/media/config";
  EXPECT_EQ(get(path).status, 200);
  EXPECT_EQ(get(path, {{"Authorization", "bearer alice"}}).status, 200) << "schemes ignore case (RFC 9110)";
  EXPECT_EQ(get(path, {{"Authorization", "Bearer   alice"}}).status, 200);
  EXPECT_EQ(get(path + "?access_token=alice", {}).status, 200);
  EXPECT_EQ(get(path + "?access_token=nobody", {kBearer}).status, 200) << "the header goes first";
  EXPECT_EQ(get(path, {}).errcode(), "M_MISSING_TOKEN");
  EXPECT_EQ(get(path, {{"Authorization", "Bearer"}}).errcode(), "M_MISSING_TOKEN");
  EXPECT_EQ(get(path, {{"Authorization", "Basic alice"}}).errcode(), "M_MISSING_TOKEN");
  EXPECT_EQ(get(path, {{"Authorization", "Bearer nobody"}}).errcode(), "M_UNKNOWN_TOKEN");
}

TEST_F(ApiTest, PassesTheUserOfAnApplicationServiceOn) {
  get("/_matrix/client/v1/media/config?user_id=%40bridged%3Aexample.org");
  ASSERT_EQ(here_->asked().size(), 1u);
  EXPECT_EQ(here_->asked()[0].token, "alice");
  EXPECT_EQ(here_->asked()[0].user_id, "@bridged:example.org");
}

TEST_F(ApiTest, AsksTheHomeserverThatTheHostMeans) {
  const auto ask = [this](std::string host, std::string token) {
    return send({.target = "/_matrix/client/v1/media/config",
                 .fields = {{"Authorization", "Bearer " + token}},
                 .host = std::move(host)})
        .status;
  };
  for (const std::string host : {"example.org", "EXAMPLE.org", "media.example.org", "example.org:443", "unknown.org"}) {
    EXPECT_EQ(ask(host, "alice"), 200) << host;
    EXPECT_EQ(ask(host, "nora"), 401) << host;
  }
  for (const std::string host : {"example.net", "Example.Net:8448", "[2001:db8::1]", "[2001:db8::1]:8448"}) {
    EXPECT_EQ(ask(host, "nora"), 200) << host;
    EXPECT_EQ(ask(host, "alice"), 401) << host;
  }
}

// ---- config, health ----

TEST_F(ApiTest, TellsTheUploadLimit) {
  limits_.uploads.max_size = 12345;
  const Reply reply = get("/_matrix/media/v3/config");
  EXPECT_EQ(reply.body, R"({"m.upload.size":12345})");
  EXPECT_EQ(get("/_matrix/media/v3/config", {}).status, 401);
}

TEST_F(ApiTest, IsHealthyUntilSomethingIsBroken) {
  EXPECT_EQ(get("/health", {}).status, 200);
  clock_.advance_steady(std::chrono::seconds(1));  // it is looked at once a second
  catalog_.fail_check({500, "M_UNKNOWN", "the catalog is damaged", {}, false});
  const Reply reply = get("/health", {});
  EXPECT_EQ(reply.status, 503);
  EXPECT_THAT(reply.text("error"), HasSubstr("the catalog is damaged"));
}

TEST_F(ApiTest, AnswersWithAServerErrorWhatIsBroken) {
  const Mxc mxc = reserve();
  disk_.fail_call(FaultyFileSystem::Call::kWriteAt, 2, ENOSPC);
  const Reply reply = send(put_request(mxc, "content"));
  EXPECT_EQ(reply.status, 507);
  EXPECT_EQ(reply.errcode(), "M_UNKNOWN");
  EXPECT_EQ(send(put_request(mxc, "content")).status, 200);
}

}  // namespace
}  // namespace sluice::api
