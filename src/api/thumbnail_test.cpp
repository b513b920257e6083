// SPDX-License-Identifier: Apache-2.0
// Thumbnails through the whole Api, made by a double of the worker.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>

#include "api/api_fixture_test.h"
#include "thumbnails/worker_double_test.h"

namespace sluice::api {
namespace {

using ::testing::EndsWith;

class ApiThumbnailTest : public ApiTest {
 protected:
  ApiThumbnailTest() { make_thumbnails(worker_); }

  static std::string path(const Mxc& mxc, const std::string& query = "width=320&height=240&method=scale") {
    return "/_matrix/client/v1/media/thumbnail/" + mxc.server_name() + "/" + mxc.media_id() + "?" + query;
  }
  static std::string public_path(const Mxc& mxc) {
    return "/_matrix/media/v3/thumbnail/" + mxc.server_name() + "/" + mxc.media_id() + "?width=9&height=9";
  }

  thumbnails::WorkerDouble worker_;
};

TEST_F(ApiThumbnailTest, ServesAThumbnailAsAFile) {
  const Mxc mxc = store("make cat");
  for (int i = 0; i < 2; ++i) {  // made, then at hand
    const Reply reply = get(path(mxc));
    EXPECT_EQ(reply.status, 200);
    EXPECT_THAT(reply.body, EndsWith("320x240 of cat"));
    EXPECT_EQ(reply.field("Content-Type"), "image/jpeg");
    EXPECT_EQ(reply.field("Content-Disposition"), "inline; filename=\"thumbnail.jpg\"");
    EXPECT_EQ(reply.field("Cache-Control"), "private, max-age=31536000, immutable");
    EXPECT_EQ(reply.notes.operation, "thumbnail");
    EXPECT_EQ(get(path(mxc), {kBearer, {"If-None-Match", reply.field("ETag")}}).status, 304);
    EXPECT_EQ(get(path(mxc), {kBearer, {"Range", "bytes=-3"}}).body, "cat");
  }
  EXPECT_EQ(worker_.jobs().size(), 1);
}

TEST_F(ApiThumbnailTest, TellsSizesApart) {
  const Mxc mxc = store("make cat");
  EXPECT_THAT(get(path(mxc, "width=20&height=20&method=crop")).body, EndsWith("32x32 crop of cat"));
  EXPECT_THAT(get(path(mxc, "width=20&height=20")).body, EndsWith("320x240 of cat")) << "scale, if nothing is said";
  EXPECT_THAT(get(path(mxc, "width=20&height=20&animated=true")).body, EndsWith("320x240 animated of cat"));
  EXPECT_THAT(get(path(mxc, "width=2000&height=2000")).body, EndsWith("2000x2000 of cat"));
  EXPECT_NE(get(path(mxc, "width=20&height=20")).field("ETag"), get(path(mxc, "width=600&height=20")).field("ETag"));
}

TEST_F(ApiThumbnailTest, ServesASmallOriginalAsItIs) {
  const Mxc mxc = store("serve");
  const Reply reply = get(path(mxc));
  EXPECT_EQ(reply.body, "serve");
  EXPECT_EQ(reply.field("Content-Type"), "image/png") << "as it was recognised, not as it was declared";
  EXPECT_EQ(reply.field("Content-Disposition"), "inline; filename=\"thumbnail.png\"");
}

TEST_F(ApiThumbnailTest, RefusesWhatMakesNoSense) {
  const Mxc mxc = store("make cat");
  for (const char* query :
       {"width=0&height=1", "width=-1&height=1", "width=1.5&height=1", "width=a&height=1", "width=1&height=8193",
        "width=99999999999999&height=1", "width=1&height=1&method=stretch", "width=1&height=1&animated=1"}) {
    const Reply reply = get(path(mxc, query));
    EXPECT_EQ(reply.status, 400) << query;
    EXPECT_EQ(reply.errcode(), "M_UNKNOWN") << query;
  }
  EXPECT_EQ(get(path(mxc, "width=1")).errcode(), "M_MISSING_PARAM");
  EXPECT_EQ(get(path(mxc, "width=1&height=1&timeout_ms=x")).status, 400);
  EXPECT_TRUE(worker_.jobs().empty());
}

TEST_F(ApiThumbnailTest, RefusesWhatHasNone) {
  EXPECT_EQ(get(path(store("text"))).errcode(), "M_UNKNOWN");
  EXPECT_EQ(get(path(store("text"))).status, 400);
  EXPECT_EQ(get(path(store("large"))).status, 413);
  EXPECT_EQ(get(path(store("large"))).errcode(), "M_TOO_LARGE");
}

TEST_F(ApiThumbnailTest, WaitsForTheUploadAndForTheThumbnail) {
  const Mxc mxc = reserve();
  EXPECT_EQ(get(path(mxc, "width=9&height=9&timeout_ms=0")).errcode(), "M_NOT_YET_UPLOADED");
  const auto waiting = start({.method = "GET", .target = path(mxc), .fields = {kBearer}});
  waiting->exchange_double.caller().await_asked(repository::CallerDouble::kAskedToSleep);
  auto upload = begin(mxc);
  ASSERT_TRUE(upload);
  ASSERT_TRUE(write(*upload, "make "));  // what a download would be given at once
  ASSERT_TRUE(write(*upload, "cat"));
  ASSERT_TRUE(seal(*upload));
  EXPECT_THAT(waiting->reply.get().body, EndsWith("320x240 of cat"));
}

TEST_F(ApiThumbnailTest, KnowsWhoMayRead) {
  limits_.downloads.unauthenticated = config::UnauthenticatedAccess::kFrozen;
  const Mxc mxc = store("make cat");
  EXPECT_EQ(get(path(mxc), {}).errcode(), "M_MISSING_TOKEN");
  EXPECT_EQ(get(public_path(mxc), {}).status, 404);
  EXPECT_TRUE(worker_.jobs().empty()) << "nothing is made for somebody who may not have it";
  EXPECT_EQ(get(public_path(mxc)).status, 200);
  EXPECT_EQ(get(public_path(mxc), {}).status, 404) << "nor is what was made for another";
}

TEST_F(ApiThumbnailTest, TellsTheBlurhashOfAnUpload) {
  const auto upload = [this](const std::string& body, const std::string& query) {
    return send({.method = "POST",
                 .target = "/_matrix/media/v3/upload" + query,
                 .fields = {kBearer, {"Content-Length", std::to_string(body.size())}},
                 .body = body});
  };
  const std::string query = "?xyz.amorgan.generate_blurhash=true";
  EXPECT_EQ(upload("make cat", query).text("xyz.amorgan.blurhash"), "LEHV6nWB2yk8pyo0adR*.7kCMdnj");
  EXPECT_EQ(upload("make cat", "").text("xyz.amorgan.blurhash"), "(none)");
  const Reply without = upload("text", query);
  EXPECT_EQ(without.status, 200);
  EXPECT_EQ(without.text("xyz.amorgan.blurhash"), "(none)");
  EXPECT_NE(without.text("content_uri"), "(none)");
}

TEST_F(ApiThumbnailTest, MakesThemAtTheUploadWhereItIsToldTo) {
  limits_.thumbnails_at_upload = true;
  store("make cat");
  while (worker_.jobs().size() < limits_.thumbnail_sizes.size()) std::this_thread::yield();
  close();
}

TEST_F(ApiTest, HasNoThumbnailsWithoutWorkers) {
  const Mxc mxc = store("make cat");
  const Reply reply = get("/_matrix/client/v1/media/thumbnail/example.org/" + mxc.media_id() + "?width=9&height=9");
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(reply.errcode(), "M_UNKNOWN");
}

}  // namespace
}  // namespace sluice::api
