// SPDX-License-Identifier: Apache-2.0
// Creating and filling ids, through the whole Api.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "api/api_fixture_test.h"

namespace sluice::api {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

using ApiUploadTest = ApiTest;

TEST_F(ApiUploadTest, CreatesAnId) {
  const Reply reply = send({.method = "POST", .target = "/_matrix/media/v1/create", .fields = {kBearer}});
  EXPECT_EQ(reply.status, 200);
  const auto mxc = Mxc::parse(reply.text("content_uri"));
  ASSERT_TRUE(mxc);
  EXPECT_EQ(mxc->server_name(), "example.org");
  EXPECT_EQ(boost::json::parse(reply.body).at("unused_expires_at").as_int64(),
            (clock_.now() + limits_.uploads.unused_expiry).time_since_epoch().count());
  EXPECT_THAT(reply.body, Not(HasSubstr("media_id")));
  EXPECT_EQ(reply.notes.operation, "create");
  EXPECT_EQ(reply.notes.user, "@alice:example.org");
  EXPECT_EQ(reply.notes.media, mxc->to_uri());
}

TEST_F(ApiUploadTest, CreatesAnIdInTheSeedsForm) {
  const Reply reply = send({.method = "POST",
                            .target = "/_matrix/media/r0/create",
                            .fields = {kBearer},
                            .body = R"({"content_type": "image/png", "filename": "cat.png"})"});
  EXPECT_EQ(reply.status, 200);
  const auto mxc = Mxc::parse(reply.text("content_uri"));
  ASSERT_TRUE(mxc);
  EXPECT_EQ(reply.text("media_id"), mxc->media_id());
  ASSERT_TRUE(fill(*mxc, "content", {.content_type = ""}));
  const Reply download = get(path_of(*mxc));
  EXPECT_EQ(download.field("Content-Type"), "image/png");
  EXPECT_EQ(download.field("Content-Disposition"), "inline; filename=\"cat.png\"");
}

TEST_F(ApiUploadTest, RefusesACreateBodyThatIsTooLarge) {
  const Reply reply = send(
      {.method = "POST", .target = "/_matrix/media/v1/create", .fields = {kBearer}, .body = std::string(20'000, ' ')});
  EXPECT_EQ(reply.status, 413);
  EXPECT_EQ(reply.errcode(), "M_TOO_LARGE");
}

TEST_F(ApiUploadTest, FillsAnId) {
  const Mxc mxc = reserve();
  Request request = put_request(mxc, "content");
  request.target += "?filename=my+cat%21.txt";
  const Reply reply = send(request);
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.body, "{}");
  EXPECT_EQ(reply.notes.operation, "upload");
  EXPECT_EQ(reply.notes.outcome, "stored");
  const Reply download = get(path_of(mxc));
  EXPECT_EQ(download.body, "content");
  EXPECT_EQ(download.field("Content-Type"), "text/plain");
  EXPECT_EQ(download.field("Content-Disposition"), "inline; filename=\"my cat!.txt\"");
}

TEST_F(ApiUploadTest, UploadsInOneStep) {
  const Reply reply = send({.method = "POST",
                            .target = "/_matrix/media/v3/upload",
                            .fields = {kBearer, {"Content-Length", "7"}},
                            .body = "content"});
  EXPECT_EQ(reply.status, 200);
  const auto mxc = Mxc::parse(reply.text("content_uri"));
  ASSERT_TRUE(mxc);
  const Reply download = get(path_of(*mxc));
  EXPECT_EQ(download.body, "content");
  EXPECT_EQ(download.field("Content-Type"), "application/octet-stream");
  EXPECT_EQ(download.field("Content-Disposition"), "attachment");
}

TEST_F(ApiUploadTest, NamesAConflictAsEachPathDoes) {
  const Mxc mxc = store("content");
  Request request = put_request(mxc, "other");
  EXPECT_EQ(send(request).errcode(), "M_CANNOT_OVERWRITE_MEDIA");
  request.target = "/_matrix/media/unstable/fi.mau.msc2246/upload/example.org/" + mxc.media_id();
  EXPECT_EQ(send(request).errcode(), "M_CANNOT_OVERWRITE_MEDIA");
  request.target = "/_matrix/media/r0/upload/" + mxc.media_id();
  const Reply reply = send(request);
  EXPECT_EQ(reply.status, 409);
  EXPECT_EQ(reply.errcode(), "M_CANNOT_OVERRIDE_MEDIA");
}

TEST_F(ApiUploadTest, RefusesAnUploadBeforeItsBody) {
  limits_.uploads.max_size = 10;
  const Mxc reserved = reserve();
  const Mxc stored = store("content");
  const Mxc expired = reserve();
  const std::vector<std::pair<Request, int>> refusals = {
      {put_request(reserved, "content", "nobody"), 401},
      {put_request(reserved, "content", "guest"), 403},
      {put_request(reserved, "content", "mallory"), 403},
      {put_request(stored, "content"), 409},
      {put_request(*Mxc::of("example.org", "unknown"), "content"), 404},
      {put_request(*Mxc::of("elsewhere.org", "id"), "content"), 404},
      {put_request(reserved, "12345678901"), 413},
  };
  const auto expect_refusals = [&] {
    for (const auto& [request, status] : refusals) {
      const Reply reply = send(request);
      EXPECT_EQ(reply.status, status) << request.target;
      EXPECT_FALSE(reply.was_body_asked) << request.target;
      EXPECT_EQ(reply.notes.outcome, "refused");
      EXPECT_NE(reply.notes.errcode, "");
    }
  };
  expect_refusals();
  clock_.advance_wall(limits_.uploads.unused_expiry);
  const Reply reply = send(put_request(expired, "content"));
  EXPECT_EQ(reply.status, 404);
  EXPECT_FALSE(reply.was_body_asked);
}

TEST_F(ApiUploadTest, DoesNotKnowTheIdsOfAnotherOfOurServers) {
  Request request = put_request(reserve(), "content", "nora");
  request.host = "example.net";
  const Reply reply = send(request);
  EXPECT_EQ(reply.status, 404);
  EXPECT_EQ(reply.errcode(), "M_NOT_FOUND");
  EXPECT_FALSE(reply.was_body_asked);
}

TEST_F(ApiUploadTest, RefusesAnUploadThatTurnsOutTooLarge) {
  limits_.uploads.max_size = 10;
  const Mxc mxc = reserve();
  Request request = put_request(mxc, "12345678901");
  request.fields.back() = {"Transfer-Encoding", "chunked"};
  const Reply reply = send(request);
  EXPECT_EQ(reply.status, 413);
  EXPECT_EQ(reply.errcode(), "M_TOO_LARGE");
  EXPECT_EQ(reply.notes.outcome, "broken");
  EXPECT_EQ(send(put_request(mxc, "1234567890")).status, 200) << "the id is free again";
}

TEST_F(ApiUploadTest, RefusesAnUploadToNoId) {
  for (const std::string target : {"/_matrix/media/r0/upload/", "/_matrix/media/v3/upload/example.org/"}) {
    const Reply reply = send({.method = "PUT", .target = target, .fields = {kBearer}, .body = "content"});
    EXPECT_EQ(reply.status, 404) << "it must not become an upload without an id";
    EXPECT_EQ(reply.errcode(), "M_NOT_FOUND");
  }
}

}  // namespace
}  // namespace sluice::api
