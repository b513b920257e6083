// SPDX-License-Identifier: Apache-2.0
// Downloads, stored and live, through the whole Api.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "api/api_fixture_test.h"
#include "api/media_headers.h"

namespace sluice::api {
namespace {

using ApiDownloadTest = ApiTest;

TEST_F(ApiDownloadTest, DownloadsWhatIsStored) {
  const Mxc mxc = store("content");
  const Reply reply = get(path_of(mxc));
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.body, "content");
  EXPECT_EQ(reply.field("ETag"), entity_tag(mxc.media_id(), look(mxc).attempt));
  EXPECT_EQ(reply.field("Cache-Control"), "private, max-age=31536000, immutable");
  EXPECT_EQ(reply.notes.operation, "download");
  EXPECT_EQ(reply.notes.outcome, "stored");
  EXPECT_EQ(reply.notes.media, mxc.to_uri());
}

TEST_F(ApiDownloadTest, DownloadsUnderTheNameThatIsAskedFor) {
  const Mxc mxc = store("content", {.filename = "cat.txt"});
  EXPECT_EQ(get(path_of(mxc) + "/dog.txt").field("Content-Disposition"), "inline; filename=\"dog.txt\"");
  EXPECT_EQ(get(path_of(mxc) + "/").field("Content-Disposition"), "inline; filename=\"cat.txt\"");
  EXPECT_EQ(get(path_of(mxc) + "/%0d%0aSet-Cookie:a").status, 400);
  EXPECT_EQ(get(path_of(mxc) + "/%ff").status, 400);
}

TEST_F(ApiDownloadTest, NeedsATokenOnTheAuthenticatedPath) {
  const Mxc mxc = store("content");
  EXPECT_EQ(get(path_of(mxc), {}).errcode(), "M_MISSING_TOKEN");
  EXPECT_EQ(get(path_of(mxc), {{"Authorization", "Bearer nobody"}}).errcode(), "M_UNKNOWN_TOKEN");
  EXPECT_EQ(get(path_of(mxc), {{"Authorization", "Bearer guest"}}).body, "content") << "guests may read";
}

TEST_F(ApiDownloadTest, ServesATokenOnFrozenPathsToo) {
  limits_.downloads.unauthenticated = config::UnauthenticatedAccess::kFrozen;
  const Mxc mxc = store("content");
  const std::string path = "/_matrix/media/v3/download/example.org/" + mxc.media_id();
  EXPECT_EQ(get(path, {}).status, 404);
  EXPECT_EQ(get(path).body, "content");
  EXPECT_EQ(get(path).field("Cache-Control"), "private, max-age=31536000, immutable");
  EXPECT_EQ(get(path, {{"Authorization", "Bearer nobody"}}).status, 401) << "a bad token is told";
}

TEST_F(ApiDownloadTest, AsksNobodyWhereEverybodyMayRead) {
  limits_.downloads.unauthenticated = config::UnauthenticatedAccess::kAllow;
  const Mxc mxc = store("content");
  const Reply reply = get("/_matrix/media/v3/download/example.org/" + mxc.media_id());
  EXPECT_EQ(reply.body, "content");
  EXPECT_EQ(reply.field("Cache-Control"), "public, max-age=31536000, immutable");
  EXPECT_TRUE(here_->asked().empty());
}

TEST_F(ApiDownloadTest, DoesNotTakeAnythingForAnId) {
  for (const std::string& id :
       std::vector<std::string>{"..", "%2e%2e", "a%2Fb", "a.b", "", "%00", std::string(256, 'a')}) {
    const Reply reply = get("/_matrix/client/v1/media/download/example.org/" + id);
    EXPECT_EQ(reply.status, 404) << id;
    EXPECT_EQ(reply.errcode(), "M_NOT_FOUND");
  }
  EXPECT_EQ(get("/_matrix/client/v1/media/download/exa%20mple.org/id").status, 404);
}

TEST_F(ApiDownloadTest, AnswersConditionsAndRanges) {
  const Mxc mxc = store("0123456789");
  const std::string etag = get(path_of(mxc)).field("ETag");
  const auto ask = [&](std::vector<std::pair<std::string, std::string>> fields) {
    fields.push_back(kBearer);
    return get(path_of(mxc), fields);
  };
  EXPECT_EQ(ask({{"If-None-Match", etag}}).status, 304);
  EXPECT_EQ(ask({{"If-None-Match", etag}}).body, "");
  EXPECT_EQ(ask({{"If-None-Match", etag}}).field("ETag"), etag);
  EXPECT_EQ(ask({{"If-None-Match", "\"other\""}}).body, "0123456789");

  const Reply part = ask({{"Range", "bytes=2-4"}});
  EXPECT_EQ(part.status, 206);
  EXPECT_EQ(part.body, "234");
  EXPECT_EQ(part.field("Content-Range"), "bytes 2-4/10");
  EXPECT_EQ(ask({{"Range", "bytes=-3"}}).body, "789");
  EXPECT_EQ(ask({{"Range", "bytes=2-4"}, {"If-Range", etag}}).body, "234");
  EXPECT_EQ(ask({{"Range", "bytes=2-4"}, {"If-Range", "\"other\""}}).body, "0123456789");
  EXPECT_EQ(ask({{"Range", "bytes=2-4,6-7"}}).status, 200) << "several ranges are ignored";

  const Reply outside = ask({{"Range", "bytes=10-"}});
  EXPECT_EQ(outside.status, 416);
  EXPECT_EQ(outside.field("Content-Range"), "bytes */10");
}

TEST_F(ApiDownloadTest, AnswersHeadLikeGetButForRanges) {
  const Mxc mxc = store("0123456789");
  const Reply get_reply = get(path_of(mxc));
  const Reply reply = send({.method = "HEAD", .target = path_of(mxc), .fields = {kBearer, {"Range", "bytes=2-4"}}});
  EXPECT_EQ(reply.status, 200) << "ranges are defined for GET only (RFC 9110, section 14.2)";
  EXPECT_EQ(reply.fields, get_reply.fields);
}

TEST_F(ApiDownloadTest, IsNeverRunAsAScript) {
  const Mxc stored = store("run()", {.content_type = "text/javascript"});
  std::vector<std::pair<std::string, std::string>> marks = {{"Service-Worker", "script"}};
  for (const char* destination : {"script", "worker", "sharedworker", "serviceworker", "audioworklet", "paintworklet",
                                  "xslt", "style", "embed", "object"}) {
    marks.emplace_back("Sec-Fetch-Dest", destination);
  }
  for (const Mxc& mxc : {stored, reserve()}) {
    for (const std::string& path : {path_of(mxc), path_of(mxc) + "/a.js",
                                    "/_matrix/media/v3/download/" + mxc.server_name() + "/" + mxc.media_id()}) {
      for (const auto& mark : marks) {
        const Reply reply = get(path + "?timeout_ms=0", {kBearer, mark});
        EXPECT_EQ(reply.status, 403) << path << " " << mark.second;
        EXPECT_EQ(reply.errcode(), "M_FORBIDDEN");
        EXPECT_EQ(reply.field("Cache-Control"), "no-store");
        EXPECT_EQ(reply.notes.operation, "download");
      }
    }
  }
  EXPECT_TRUE(here_->asked().empty()) << "it is refused before anybody is asked whose token it is";
}

TEST_F(ApiDownloadTest, IsShownAndSavedByBrowsers) {
  const Mxc mxc = store("content");
  for (const char* destination : {"audio", "document", "empty", "fencedframe", "font", "frame", "iframe", "image",
                                  "track", "video", "not known yet"}) {
    const Reply reply = get(path_of(mxc), {kBearer, {"Sec-Fetch-Dest", destination}});
    EXPECT_EQ(reply.body, "content") << destination;
    EXPECT_EQ(reply.field("Vary"), "Sec-Fetch-Dest") << "or a cache would give it to a script too";
    const auto etag = std::pair<std::string, std::string>{"If-None-Match", reply.field("ETag")};
    EXPECT_EQ(get(path_of(mxc), {kBearer, etag}).field("Vary"), "Sec-Fetch-Dest");
  }
}

TEST_F(ApiDownloadTest, RefusesANonsensicalWait) {
  const Reply reply = get(path_of(store("content")) + "?timeout_ms=-1");
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(reply.errcode(), "M_INVALID_PARAM");
}

TEST_F(ApiDownloadTest, TellsThatThereIsNothingYet) {
  const Reply reply = get(path_of(reserve()) + "?timeout_ms=0");
  EXPECT_EQ(reply.status, 504);
  EXPECT_EQ(reply.errcode(), "M_NOT_YET_UPLOADED");
  EXPECT_FALSE(reply.notes.was_stalled);
}

// ---- live ----

TEST_F(ApiDownloadTest, FollowsAnUploadThatComesWhileItWaits) {
  limits_.downloads.default_wait = limits_.downloads.max_wait = repository::kForever;
  const Mxc mxc = reserve();
  const auto pending = start({.target = path_of(mxc), .fields = {kBearer}});
  pending->exchange_double.caller().await_asked(repository::CallerDouble::kAskedToSleep);
  auto upload = *begin(mxc, repository::kAlice, {.content_length = 7});
  ASSERT_TRUE(write(upload, "con"));
  ASSERT_TRUE(write(upload, "tent"));
  ASSERT_TRUE(seal(upload));
  const Reply reply = pending->reply.get();
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.body, "content");
  EXPECT_TRUE(reply.notes.was_stalled);
  EXPECT_EQ(reply.field("ETag"), get(path_of(mxc)).field("ETag")) << "a reader must be able to resume";
}

class ApiLiveTest : public ApiTest {
 protected:
  // What a download gets of an upload that has begun and then goes on, or breaks off.
  Reply download_live(std::optional<std::uint64_t> size, std::vector<std::pair<std::string, std::string>> fields,
                      bool breaks = false) {
    fields.push_back(kBearer);
    const Mxc mxc = reserve();
    auto upload = *begin(mxc, repository::kAlice, {.content_length = size});
    EXPECT_TRUE(write(upload, "01234"));
    const auto pending = start({.target = path_of(mxc), .fields = fields});
    pending->exchange_double.caller().await_asked(1);  // the follower's signal: it has been opened
    EXPECT_TRUE(write(upload, "56789"));
    if (!breaks) EXPECT_TRUE(seal(upload));
    upload.reset();
    return pending->reply.get();
  }
};

TEST_F(ApiLiveTest, TellsTheLengthThatTheUploadDeclared) {
  const Reply reply = download_live(10, {});
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.field("(length)"), "10");
  EXPECT_EQ(reply.body, "0123456789");
  EXPECT_EQ(reply.field("Cache-Control"), "private, no-cache");
  EXPECT_EQ(reply.field("Vary"), "Sec-Fetch-Dest");
  EXPECT_EQ(reply.notes.outcome, "live");
}

TEST_F(ApiLiveTest, SendsToTheEndWhenTheLengthIsUnknown) {
  const Reply reply = download_live({}, {});
  EXPECT_EQ(reply.field("(length)"), "unknown");
  EXPECT_EQ(reply.body, "0123456789");
}

TEST_F(ApiLiveTest, NeverEndsABrokenUploadCleanly) {
  EXPECT_EQ(download_live(10, {}, true).body, "012345678(broken)") << "the last byte is held back";
  EXPECT_EQ(download_live({}, {}, true).body, "0123456789(broken)");
}

TEST_F(ApiLiveTest, SendsARangeOfADeclaredLength) {
  const Reply reply = download_live(10, {{"Range", "bytes=3-6"}});
  EXPECT_EQ(reply.status, 206);
  EXPECT_EQ(reply.field("Content-Range"), "bytes 3-6/10");
  EXPECT_EQ(reply.body, "3456");
  const Reply tail = download_live(10, {{"Range", "bytes=-2"}});
  EXPECT_EQ(tail.status, 206);
  EXPECT_EQ(tail.body, "89");
  const Reply outside = download_live(10, {{"Range", "bytes=10-"}});
  EXPECT_EQ(outside.status, 416);
}

TEST_F(ApiLiveTest, SendsARangeOfAnUnknownLengthOnceItIsThere) {
  const Reply reply = download_live({}, {{"Range", "bytes=3-6"}});
  EXPECT_EQ(reply.status, 206);
  EXPECT_EQ(reply.body, "3456");
  EXPECT_THAT(reply.field("Content-Range"), ::testing::AnyOf("bytes 3-6/*", "bytes 3-6/10"));
}

TEST_F(ApiLiveTest, NeverSendsARangeOfABrokenUploadOfUnknownLength) {
  const Reply reply = download_live({}, {{"Range", "bytes=3-20"}}, true);
  EXPECT_EQ(reply.status, 504);
  EXPECT_EQ(reply.errcode(), "M_NOT_YET_UPLOADED");
}

TEST_F(ApiLiveTest, CutsARangeOfAnUnknownLengthToTheWhole) {
  const Reply reply = download_live({}, {{"Range", "bytes=3-20"}});
  EXPECT_EQ(reply.status, 206);
  EXPECT_EQ(reply.field("Content-Range"), "bytes 3-9/10");
  EXPECT_EQ(reply.body, "3456789");
}

TEST_F(ApiLiveTest, SendsAllWhenARangeNamesTheEndOfAnUnknownLength) {
  const Reply reply = download_live({}, {{"Range", "bytes=3-"}});
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.body, "0123456789");
}

}  // namespace
}  // namespace sluice::api
