// SPDX-License-Identifier: Apache-2.0
#include "base/mxc.h"

#include <gtest/gtest.h>

namespace sluice {
namespace {

TEST(Mxc, ReadsWhatItWrites) {
  const auto mxc = Mxc::parse("mxc://example.org:8448/AQwafuaFswefuhsfAFAgsw");
  ASSERT_TRUE(mxc);
  EXPECT_EQ(mxc->server_name(), "example.org:8448");
  EXPECT_EQ(mxc->media_id(), "AQwafuaFswefuhsfAFAgsw");
  EXPECT_EQ(mxc->to_uri(), "mxc://example.org:8448/AQwafuaFswefuhsfAFAgsw");
}

TEST(Mxc, RefusesWhatCouldNameAPath) {
  for (const char* id : {"", "..", ".", "a/b", "a.b", "a%2fb", "a b", "\xc3\xa9", "a\\b", "a?b"}) {
    EXPECT_FALSE(Mxc::of("example.org", id)) << id;
  }
  EXPECT_FALSE(Mxc::of("example.org", std::string_view("a\0b", 3)));
  EXPECT_FALSE(Mxc::of("example.org", std::string(256, 'a')));
  EXPECT_TRUE(Mxc::of("example.org", std::string(255, 'a')));
}

TEST(Mxc, RefusesOtherSchemesAndTrailingParts) {
  EXPECT_FALSE(Mxc::parse("https://example.org/a"));
  EXPECT_FALSE(Mxc::parse("mxc://example.org"));
  EXPECT_FALSE(Mxc::parse("mxc://example.org/a/b"));
  EXPECT_FALSE(Mxc::parse("mxc:///a"));
}

TEST(ServerName, FollowsTheGrammar) {
  for (const char* name :
       {"example.org", "example.org:1", "127.0.0.1:8448", "[::1]", "[2001:db8::1]:443", "localhost"}) {
    EXPECT_TRUE(is_server_name(name)) << name;
  }
  for (const char* name :
       {"", ":80", "a:", "a:x", "a:123456", "a/b", "[::1", "[]", "[zz]", "a b", "a..b/..", "a_b", "a%2e"}) {
    EXPECT_FALSE(is_server_name(name)) << name;
  }
}

TEST(UserId, NeedsALocalpartAndAServer) {
  EXPECT_TRUE(is_user_id("@alice:example.org"));
  EXPECT_TRUE(is_user_id("@irc_#chan|x:example.org:8448"));
  EXPECT_FALSE(is_user_id("alice:example.org"));
  EXPECT_FALSE(is_user_id("@alice"));
  EXPECT_FALSE(is_user_id("@a\nb:example.org"));
}

}  // namespace
}  // namespace sluice
