// SPDX-License-Identifier: Apache-2.0
#include "api/media_headers.h"

#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <string>

#include "http/range.h"

namespace sluice::api {
namespace {

// The client-server API, "Serving inline content", in full.
constexpr std::string_view kInline[] = {
    "text/css",       "text/plain",      "text/csv",   "application/json", "application/ld+json", "image/jpeg",
    "image/gif",      "image/png",       "image/apng", "image/webp",       "image/avif",          "video/mp4",
    "video/webm",     "video/ogg",       "audio/mp4",  "audio/webm",       "audio/aac",           "audio/mpeg",
    "audio/ogg",      "video/quicktime", "audio/wave", "audio/wav",        "audio/x-wav",         "audio/flac",
    "audio/x-pn-wav", "audio/x-flac",
};

TEST(InlineType, IsWhatTheSpecificationLists) {
  EXPECT_EQ(std::size(kInline), 26u);
  for (const std::string_view type : kInline) EXPECT_TRUE(is_inline_type(type)) << type;
}

TEST(InlineType, IsNothingElse) {
  for (const std::string_view type : {"text/html",
                                      "image/svg+xml",
                                      "application/xhtml+xml",
                                      "application/xml",
                                      "text/xml",
                                      "text/javascript",
                                      "application/javascript",
                                      "application/pdf",
                                      "application/octet-stream",
                                      "video/x-matroska",
                                      "image/heic",
                                      "image/bmp",
                                      "audio/x-aiff",
                                      "",
                                      " ",
                                      "text",
                                      "text/",
                                      "text/*",
                                      "*/*",
                                      "text/plainx",
                                      "xtext/plain",
                                      "text/plain, text/html",
                                      "text/html;text/plain",
                                      "text/html; a=text/plain",
                                      ";text/plain",
                                      "text/plain\t\x01",
                                      "text /plain",
                                      "text/plain\xc2\xa0"}) {
    EXPECT_FALSE(is_inline_type(type)) << type;
  }
}

TEST(InlineType, DoesNotMindParametersAndCase) {
  EXPECT_TRUE(is_inline_type("text/plain; charset=utf-8"));
  EXPECT_FALSE(is_inline_type("text/plain;, text/html")) << "a browser takes the last of several types";
  EXPECT_TRUE(is_inline_type("text/plain;charset=utf-8;"));
  EXPECT_TRUE(is_inline_type("Image/PNG"));
  EXPECT_TRUE(is_inline_type(" image/png ; a=b"));
}

TEST(EntityTag, IsAStrongTagOfIdAndAttempt) {
  EXPECT_EQ(entity_tag("abc", 255), "\"abc.ff\"");
  EXPECT_EQ(entity_tag("abc", std::numeric_limits<std::uint64_t>::max()), "\"abc.ffffffffffffffff\"");
  EXPECT_NE(entity_tag("abc", 1), entity_tag("abc", 2));
  EXPECT_NE(entity_tag("abc", 1), entity_tag("abd", 1));
}

TEST(EntityTag, IsWhatConditionsMatch) {
  const std::string etag = entity_tag("abc_-", 0x1234);
  EXPECT_TRUE(http::matches_any_etag(etag, etag));
  EXPECT_TRUE(http::matches_any_etag("\"other\", W/" + etag, etag));
  EXPECT_TRUE(http::matches_if_range(etag, etag));
  EXPECT_FALSE(http::matches_if_range(entity_tag("abc_-", 0x1235), etag));
}

// ---- all the fields ----

std::map<std::string, std::string> fields(std::string_view content_type, std::string_view filename,
                                          Lifetime lifetime = Lifetime::kImmutable, bool is_private = true) {
  http::Response response;
  add_media_fields(response, content_type, filename, "\"etag\"", lifetime, is_private);
  std::map<std::string, std::string> fields;
  for (const auto& [name, value] : response.fields) {
    EXPECT_TRUE(fields.emplace(name, value).second) << name << " is there twice";
  }
  return fields;
}

TEST(MediaFields, NameTypeAndDisposition) {
  auto cat = fields("image/png", "cat.png");
  EXPECT_EQ(cat["Content-Type"], "image/png");
  EXPECT_EQ(cat["Content-Disposition"], "inline; filename=\"cat.png\"");
  EXPECT_EQ(cat["ETag"], "\"etag\"");
  EXPECT_EQ(cat["Accept-Ranges"], "bytes");
  auto page = fields("text/html", "");
  EXPECT_EQ(page["Content-Type"], "text/html");
  EXPECT_EQ(page["Content-Disposition"], "attachment");
}

TEST(MediaFields, KeepContentFromDoingHarm) {
  auto page = fields("text/html", "");
  const std::string& policy = page["Content-Security-Policy"];
  for (const std::string_view directive :
       {"sandbox;", "default-src 'none';", "script-src 'none';", "plugin-types application/pdf;",
        "style-src 'unsafe-inline';", "object-src 'self';"}) {
    EXPECT_NE(policy.find(directive), std::string::npos) << directive;
  }
  EXPECT_EQ(page["Cross-Origin-Resource-Policy"], "cross-origin");
}

TEST(MediaFields, SayForWhomAndHowLongItMayBeKept) {
  EXPECT_EQ(fields("a/b", "", Lifetime::kImmutable, true)["Cache-Control"], "private, max-age=31536000, immutable");
  EXPECT_EQ(fields("a/b", "", Lifetime::kImmutable, false)["Cache-Control"], "public, max-age=31536000, immutable");
  EXPECT_EQ(fields("a/b", "", Lifetime::kGrowing, true)["Cache-Control"], "private, no-cache");
  EXPECT_EQ(fields("a/b", "", Lifetime::kGrowing, false)["Cache-Control"], "public, no-cache");
}

TEST(MediaFields, HoldNoLineBreakWhateverTheFilename) {
  auto cat = fields("image/png", "a\r\nSet-Cookie: b=c\".png");
  EXPECT_EQ(cat["Content-Disposition"].find_first_of("\r\n"), std::string::npos);
  EXPECT_TRUE(cat["Content-Disposition"].starts_with("inline; filename=\""));
}

}  // namespace
}  // namespace sluice::api
