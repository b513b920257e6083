// SPDX-License-Identifier: Apache-2.0
#include "api/target.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::api {
namespace {

using ::testing::ElementsAre;
using namespace std::string_literals;

std::vector<std::string> segments(std::string_view target) {
  const auto parsed = Target::parse(target);
  if (!parsed) return {parsed.error().errcode};
  const Target::Segments segments = parsed->segments();
  return {segments.begin(), segments.end()};
}

std::optional<std::string> parameter(std::string_view target, std::string_view name) {
  const auto parsed = Target::parse(target);
  EXPECT_TRUE(parsed) << target;
  const auto value = parsed->parameter(name);
  return value ? std::optional<std::string>(*value) : std::nullopt;
}

// ---- the path ----

TEST(TargetPath, IsSplitAtSlashes) {
  EXPECT_THAT(segments("/_matrix/media/v3/config"), ElementsAre("_matrix", "media", "v3", "config"));
  EXPECT_THAT(segments("/"), ElementsAre(""));
  EXPECT_THAT(segments("*"), ElementsAre("*"));
}

TEST(TargetPath, KeepsEmptySegments) {
  EXPECT_THAT(segments("//a"), ElementsAre("", "a"));
  EXPECT_THAT(segments("/a//b/"), ElementsAre("a", "", "b", ""));
}

TEST(TargetPath, IsDecodedOnceAndAfterItIsSplit) {
  EXPECT_THAT(segments("/a%2Fb/c"), ElementsAre("a/b", "c"));
  EXPECT_THAT(segments("/a%2fb"), ElementsAre("a/b"));
  EXPECT_THAT(segments("/%252F"), ElementsAre("%2F"));
  EXPECT_THAT(segments("/%3F/%23/%26%3D"), ElementsAre("?", "#", "&="));
  EXPECT_THAT(segments("/gr%C3%BC%C3%9Fe"), ElementsAre("grüße"));
  EXPECT_THAT(segments("/%00"), ElementsAre("\0"s));
}

TEST(TargetPath, IsNotNormalised) {
  EXPECT_THAT(segments("/a/../b/./c"), ElementsAre("a", "..", "b", ".", "c"));
  EXPECT_THAT(segments("/a/%2e%2e/b"), ElementsAre("a", "..", "b"));
  EXPECT_THAT(segments("/..%2F..%2Fetc%2Fpasswd"), ElementsAre("../../etc/passwd"));
}

TEST(TargetPath, LeavesOutWhatNoKnownPathHas) {
  EXPECT_EQ(segments("/1/2/3/4/5/6/7/8/9/10/11/12/13/14").size(), Target::kMaxSegments);
  EXPECT_EQ(segments("/1/2/3/4/5/6/7/8/9/10/11/12/13/%zz"), std::vector<std::string>{"M_INVALID_PARAM"});
}

TEST(TargetPath, KeepsAPlus) { EXPECT_THAT(segments("/a+b"), ElementsAre("a+b")); }

TEST(TargetPath, RefusesABrokenPercentEncoding) {
  for (const std::string_view target :
       {"/%", "/%2", "/%zz", "/%2/", "/a%", "/%-1", "/%+f", "/% 1", "/a?b=%", "/a?%=b", "/a?b=%zz"}) {
    const auto parsed = Target::parse(target);
    ASSERT_FALSE(parsed) << target;
    EXPECT_EQ(parsed.error().http_status, 400);
    EXPECT_EQ(parsed.error().errcode, "M_INVALID_PARAM");
  }
}

// ---- the query ----

TEST(TargetQuery, HasParameters) {
  EXPECT_EQ(parameter("/a?filename=cat.png&timeout_ms=5", "filename"), "cat.png");
  EXPECT_EQ(parameter("/a?filename=cat.png&timeout_ms=5", "timeout_ms"), "5");
  EXPECT_EQ(parameter("/a?filename=cat.png", "name"), std::nullopt);
  EXPECT_EQ(parameter("/a", "filename"), std::nullopt);
  EXPECT_EQ(parameter("/a?", "filename"), std::nullopt);
}

TEST(TargetQuery, GivesTheFirstOfEqualNames) { EXPECT_EQ(parameter("/?a=1&a=2", "a"), "1"); }

TEST(TargetQuery, TellsAnEmptyValueFromNone) {
  EXPECT_EQ(parameter("/?a=", "a"), "");
  EXPECT_EQ(parameter("/?a", "a"), "");
  EXPECT_EQ(parameter("/?&&a=1&", "a"), "1");
  EXPECT_EQ(parameter("/?&&", ""), std::nullopt);
}

TEST(TargetQuery, IsDecodedAfterItIsSplit) {
  EXPECT_EQ(parameter("/?a=1%262", "a"), "1&2");
  EXPECT_EQ(parameter("/?a=b%3Dc=d", "a"), "b=c=d");
  EXPECT_EQ(parameter("/?%61=1", "a"), "1");
  EXPECT_EQ(parameter("/?a=x+y%2Bz", "a"), "x y+z");
  EXPECT_EQ(parameter("/?a=b?c", "a"), "b?c");
  EXPECT_EQ(parameter("/?a=%2541", "a"), "%41");
}

TEST(TargetQuery, DoesNotReachIntoThePath) {
  EXPECT_THAT(segments("/a?b/c"), ElementsAre("a"));
  EXPECT_EQ(parameter("/a%3Fb=c", "b"), std::nullopt);
}

}  // namespace
}  // namespace sluice::api
