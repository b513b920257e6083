// SPDX-License-Identifier: Apache-2.0
#include "api/create_body.h"

#include <gtest/gtest.h>

#include <string>

namespace sluice::api {
namespace {

void expect_refused(std::string_view text, std::string_view errcode) {
  const auto body = parse_create_body(text);
  ASSERT_FALSE(body) << text;
  EXPECT_EQ(body.error().http_status, 400);
  EXPECT_EQ(body.error().errcode, errcode) << text;
}

TEST(CreateBody, MayBeEmpty) {
  for (const std::string_view text : {"", "{}", " {} \n"}) {
    const auto body = parse_create_body(text);
    ASSERT_TRUE(body) << text;
    EXPECT_EQ(body->content_type, "");
    EXPECT_EQ(body->filename, "");
  }
}

TEST(CreateBody, NamesTypeAndFile) {
  const auto body = parse_create_body(R"({"content_type": "image/png", "filename": "grüße \"1\".png"})");
  ASSERT_TRUE(body);
  EXPECT_EQ(body->content_type, "image/png");
  EXPECT_EQ(body->filename, "grüße \"1\".png");
}

TEST(CreateBody, IgnoresUnknownKeysAndNulls) {
  const auto body = parse_create_body(R"({"filename": null, "content_type": "a/b", "x": [1, {"filename": 5}]})");
  ASSERT_TRUE(body);
  EXPECT_EQ(body->content_type, "a/b");
  EXPECT_EQ(body->filename, "");
}

TEST(CreateBody, RefusesWhatIsNotJson) {
  for (const std::string_view text : {" ", "{", "{}x", "content_type=a", "{\"a\":1,}", "{'a':1}", "\xff",
                                      "{\"a\":\"\xff\"}", "[1,", "{\"filename\":\"a\nb\"}"}) {
    expect_refused(text, "M_NOT_JSON");
  }
  expect_refused(std::string(10'000, '['), "M_NOT_JSON");
}

TEST(CreateBody, RefusesWhatIsNotAnObjectOfStrings) {
  for (const std::string_view text :
       {"[]", "null", "\"\"", "5", "true", R"({"filename": 5})", R"({"content_type": []})",
        R"({"content_type": {"a": "b"}})", R"({"filename": false})"}) {
    expect_refused(text, "M_BAD_JSON");
  }
}

}  // namespace
}  // namespace sluice::api
