// SPDX-License-Identifier: Apache-2.0
// The demo's paths through the whole Api.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "api/api_fixture_test.h"

namespace sluice::api {
namespace {

using ::testing::HasSubstr;

class ApiDemoTest : public ApiTest {
 protected:
  ApiDemoTest() { offers_demo_ = true; }
  static std::string progress_of(const Mxc& mxc) {
    return "/_sluice/demo/progress/" + mxc.server_name() + "/" + mxc.media_id();
  }
};

TEST_F(ApiTest, KnowsNoDemoUntilItIsSwitchedOn) {
  const Mxc mxc = store("content");
  for (const std::string& path :
       {std::string("/_sluice/demo"), std::string("/_sluice/demo/"), std::string("/_sluice/demo/demo.js"),
        "/_sluice/demo/progress/example.org/" + mxc.media_id()}) {
    const Reply reply = get(path);
    EXPECT_EQ(reply.status, 404) << path;
    EXPECT_EQ(reply.body, get("/nowhere").body) << path;
    EXPECT_EQ(reply.fields, get("/nowhere").fields) << path;
  }
}

TEST_F(ApiDemoTest, ServesThePageToAnybody) {
  for (const char* path : {"/_sluice/demo", "/_sluice/demo/", "/_sluice/demo/index.html", "/_sluice/demo?a=b"}) {
    const Reply reply = get(path, {});
    EXPECT_EQ(reply.status, 200) << path;
    EXPECT_THAT(reply.body, HasSubstr("<!doctype html>")) << path;
    EXPECT_EQ(reply.notes.operation, "demo");
  }
  EXPECT_EQ(get("/_sluice/demo/worker.js", {}).field("Service-Worker-Allowed"), "/_sluice/demo");
  EXPECT_TRUE(here_->asked().empty());
}

TEST_F(ApiDemoTest, AnswersHeadLikeGet) {
  for (const char* path : {"/_sluice/demo", "/_sluice/demo/demo.js", "/_sluice/demo/worker.js"}) {
    const Reply reply = send({.method = "HEAD", .target = path});
    EXPECT_EQ(reply.status, 200) << path;
    EXPECT_EQ(reply.fields, get(path, {}).fields) << path;
  }
}

TEST_F(ApiDemoTest, KnowsNothingElseThere) {
  for (const char* path :
       {"/_sluice/demo/nowhere.js", "/_sluice/demo/..", "/_sluice/demo/%2e%2e", "/_sluice/demo/demo.js/",
        "/_sluice/demo/demo.js%00", "/_sluice/demo/%00", "/_sluice", "/_sluice/demo/progress/example.org"}) {
    const Reply reply = get(path);
    EXPECT_EQ(reply.status, 404) << path;
    EXPECT_EQ(reply.errcode(), "M_UNRECOGNIZED") << path;
  }
  for (const char* path : {"/_sluice/demo", "/_sluice/demo/demo.js", "/_sluice/demo/progress/example.org/id"}) {
    const Reply reply = send({.method = "POST", .target = path});
    EXPECT_EQ(reply.status, 405) << path;
    EXPECT_EQ(reply.field("Allow"), "GET, HEAD, OPTIONS") << path;
  }
}

TEST_F(ApiDemoTest, SendsThePageOnlyToWhoHasItNot) {
  const std::string tag = get("/_sluice/demo").field("ETag");
  const Reply again = get("/_sluice/demo", {{"If-None-Match", tag}});
  EXPECT_EQ(again.status, 304);
  EXPECT_EQ(again.body, "");
}

TEST_F(ApiDemoTest, TellsHowFarAnUploadIs) {
  const Mxc mxc = reserve();
  EXPECT_EQ(get(progress_of(mxc)).body, R"({"state":"pending","received":0})");
  auto upload = *begin(mxc, repository::kAlice, {.content_length = 10});
  EXPECT_EQ(get(progress_of(mxc)).body, R"({"state":"receiving","received":0,"size":10})");
  ASSERT_TRUE(write(upload, "01234"));
  EXPECT_EQ(get(progress_of(mxc)).body, R"({"state":"receiving","received":5,"size":10})");
  upload.reset();
  EXPECT_EQ(get(progress_of(mxc)).body, R"({"state":"pending","received":0})") << "it broke off";
  ASSERT_TRUE(fill(mxc, "0123456789"));
  EXPECT_EQ(get(progress_of(mxc)).body, R"({"state":"stored","received":10,"size":10})");
}

TEST_F(ApiDemoTest, TellsHowFarAnUploadOfUnknownLengthIs) {
  const Mxc mxc = reserve();
  auto upload = *begin(mxc, repository::kAlice, {.content_length = {}});
  ASSERT_TRUE(write(upload, "01234"));
  EXPECT_EQ(get(progress_of(mxc)).body, R"({"state":"receiving","received":5})");
}

TEST_F(ApiDemoTest, TellsItOnlyWithAToken) {
  const Mxc mxc = store("content");
  EXPECT_EQ(get(progress_of(mxc), {}).errcode(), "M_MISSING_TOKEN");
  EXPECT_EQ(get(progress_of(mxc), {{"Authorization", "Bearer nobody"}}).errcode(), "M_UNKNOWN_TOKEN");
  EXPECT_EQ(get(progress_of(mxc), {{"Authorization", "Bearer guest"}}).status, 200) << "as for downloads";
}

TEST_F(ApiDemoTest, TellsNothingOfIdsThatAreNotThere) {
  limits_.uploads.unused_expiry = std::chrono::hours(1);
  const Mxc expired = reserve();
  clock_.advance_wall(std::chrono::hours(1));
  for (const std::string& path :
       {progress_of(expired), progress_of(*Mxc::of("example.org", "unknown")),
        progress_of(*Mxc::of("elsewhere.org", "id")), std::string("/_sluice/demo/progress/example.org/..")}) {
    const Reply reply = get(path);
    EXPECT_EQ(reply.status, 404) << path;
    EXPECT_EQ(reply.errcode(), "M_NOT_FOUND") << path;
  }
}

TEST_F(ApiDemoTest, TellsOfAnUploadThatOutlivesItsReservation) {
  limits_.uploads.unused_expiry = std::chrono::hours(1);
  const Mxc mxc = reserve();
  auto upload = *begin(mxc);
  ASSERT_TRUE(write(upload, "01234"));
  clock_.advance_wall(std::chrono::hours(1));
  EXPECT_EQ(get(progress_of(mxc)).body, R"({"state":"receiving","received":5})");
  upload.reset();
  EXPECT_EQ(get(progress_of(mxc)).status, 404);
}

}  // namespace
}  // namespace sluice::api
