// SPDX-License-Identifier: Apache-2.0
#include "api/router.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::api {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Segments = std::vector<std::string_view>;

class RouterTest : public ::testing::Test {
 protected:
  RouterTest() {
    router_.add("POST", "/media/v1/create", 1);
    router_.add("POST", "/media/{v}/upload", 2);
    router_.add("PUT", "/media/v3/upload/{serverName}/{mediaId}", 3);
    router_.add("GET HEAD", "/media/{v}/download/{serverName}/{mediaId}", 4);
    router_.add("DELETE", "/media/{v}/download/{serverName}/{mediaId}", 5);
    router_.add("GET", "/health", 6);
  }
  int find(std::string_view method, const Segments& segments) {
    const auto match = router_.find(method, segments);
    return match.handler ? *match.handler : 0;
  }

  Router<int> router_;
};

TEST_F(RouterTest, FindsTheHandlerOfAPathAndMethod) {
  EXPECT_EQ(find("POST", {"media", "v1", "create"}), 1);
  EXPECT_EQ(find("GET", {"health"}), 6);
  EXPECT_EQ(find("GET", {"media", "v3", "download", "example.org", "id"}), 4);
  EXPECT_EQ(find("HEAD", {"media", "v3", "download", "example.org", "id"}), 4);
  EXPECT_EQ(find("DELETE", {"media", "v3", "download", "example.org", "id"}), 5);
}

TEST_F(RouterTest, CapturesTheNamedSegmentsInOrder) {
  const auto match = router_.find("PUT", Segments{"media", "v3", "upload", "example.org", "id"});
  EXPECT_THAT(match.captured, ElementsAre("example.org", "id"));
  EXPECT_THAT(router_.find("POST", Segments{"media", "v1", "upload"}).captured, IsEmpty())
      << "the version is not captured";
}

TEST_F(RouterTest, KnowsThreeVersions) {
  for (const std::string_view version : {"r0", "v1", "v3"}) EXPECT_EQ(find("POST", {"media", version, "upload"}), 2);
  for (const std::string_view version : {"v2", "v4", "r1", "", "V3", "v3 "}) {
    EXPECT_EQ(find("POST", {"media", version, "upload"}), 0);
  }
}

TEST_F(RouterTest, TellsTheMethodsOfAPathWhoseMethodIsWrong) {
  const auto match = router_.find("PATCH", Segments{"media", "v3", "download", "example.org", "id"});
  EXPECT_EQ(match.handler, nullptr);
  EXPECT_THAT(match.allowed_methods, ElementsAre("GET", "HEAD", "DELETE"));
  EXPECT_EQ(find("get", {"health"}), 0) << "methods are case-sensitive (RFC 9110, section 9.1)";
}

TEST_F(RouterTest, TellsNoMethodsOfAnUnknownPath) {
  for (const Segments& segments :
       {Segments{"media", "v1"}, Segments{"media", "v1", "create", ""}, Segments{"media", "v1", "create", "x"},
        Segments{""}, Segments{"", "health"}, Segments{"Health"}, Segments{"media", "v3", "upload", "example.org"}}) {
    const auto match = router_.find("GET", segments);
    EXPECT_EQ(match.handler, nullptr);
    EXPECT_THAT(match.allowed_methods, IsEmpty());
  }
}

TEST_F(RouterTest, TakesAnythingForANamedSegment) {
  const auto match = router_.find("GET", Segments{"media", "v3", "download", "", "a/b"});
  ASSERT_NE(match.handler, nullptr);
  EXPECT_THAT(match.captured, ElementsAre("", "a/b"));
}

}  // namespace
}  // namespace sluice::api
