// SPDX-License-Identifier: Apache-2.0
#include "base/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice {
namespace {

using testing::ElementsAre;

TEST(Text, LowersAsciiOnly) {
  EXPECT_EQ(to_lower("AbZ[@`{\xC3\x89"), "abz[@`{\xC3\x89");
  EXPECT_TRUE(equals_ignoring_case("Content-Type", "content-tYPE"));
  EXPECT_FALSE(equals_ignoring_case("a", "ab"));
  EXPECT_FALSE(equals_ignoring_case("@", "`")) << "these differ by the same bit as A and a";
}

TEST(Text, TrimsSpacesAndTabs) {
  EXPECT_EQ(trim(" \t a b\t "), "a b");
  EXPECT_EQ(trim(" \t"), "");
  EXPECT_EQ(trim(""), "");
  EXPECT_EQ(trim("\na\n"), "\na\n");
}

TEST(Text, SplitsAtEverySeparator) {
  EXPECT_THAT(split("a,b,,c", ','), ElementsAre("a", "b", "", "c"));
  EXPECT_THAT(split(",", ','), ElementsAre("", ""));
  EXPECT_THAT(split("", ','), ElementsAre(""));
}

TEST(Utf8, AcceptsTheLimitsOfEachLength) {
  for (const char* text : {"", "\x7f", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80",
                           "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF", "a\xC3\xA9z"}) {
    EXPECT_TRUE(is_utf8(text)) << text;
  }
  EXPECT_TRUE(is_utf8(std::string_view("\0", 1)));
}

TEST(Utf8, RefusesEverythingBeyond) {
  for (const char* text : {
           "\x80",
           "\xBF",  // a continuation alone
           "\xC0\x80",
           "\xC1\xBF",  // overlong
           "\xE0\x9F\xBF",
           "\xF0\x8F\xBF\xBF",  // overlong
           "\xED\xA0\x80",
           "\xED\xBF\xBF",  // surrogates
           "\xF4\x90\x80\x80",
           "\xF5\x80\x80\x80",  // above U+10FFFF
           "\xC3",
           "\xE2\x82",
           "\xF0\x9F\x98",  // cut short
           "\xC3z",
           "\xE2z\x82",
           "\xFE",
           "\xFF",
       }) {
    EXPECT_FALSE(is_utf8(text)) << text;
  }
}

TEST(Text, FindsControlCharacters) {
  EXPECT_TRUE(has_control_characters("a\nb"));
  EXPECT_TRUE(has_control_characters("\x7f"));
  EXPECT_TRUE(has_control_characters(std::string_view("a\0", 2)));
  EXPECT_FALSE(has_control_characters("a b\xC3\xA9"));
  EXPECT_FALSE(has_control_characters(""));
}

TEST(PercentEncoding, Decodes) {
  EXPECT_EQ(percent_decode("a%2Fb%2f%C3%a9"), "a/b/\xC3\xA9");
  EXPECT_EQ(percent_decode("a+b"), "a+b");
  EXPECT_EQ(percent_decode("a+b%2B", true), "a b+");
  EXPECT_EQ(percent_decode("%00"), std::string(1, '\0'));
  EXPECT_EQ(percent_decode(""), "");
  for (const char* text : {"%", "%2", "a%2g", "%%20", "%-1", "% 1"}) EXPECT_FALSE(percent_decode(text)) << text;
}

TEST(PercentEncoding, DecodesWhatItEncodes) {
  std::string every;
  for (int c = 0; c < 256; ++c) every.push_back(static_cast<char>(c));
  EXPECT_EQ(percent_decode(percent_encode(every)), every);
  EXPECT_EQ(percent_encode("AZaz09-._~"), "AZaz09-._~");
  EXPECT_EQ(percent_encode("a b/\xC3\xA9"), "a%20b%2F%C3%A9");
}

TEST(MediaTypeEssence, IsWhatABrowserTakesItFor) {
  EXPECT_EQ(media_type_essence("image/png"), "image/png");
  EXPECT_EQ(media_type_essence(" Image/SVG+XML\t; charset=\"utf-8\""), "image/svg+xml");
  for (const char* text : {"", "image", "image/", "/png", "image/p ng", "a/b/c", "text/html,", "image/png, text/html",
                           "image/png; a=b, text/html", "im\xC3\xA9/png"}) {
    EXPECT_EQ(media_type_essence(text), "") << text;
  }
}

TEST(Nearest, FindsMisspellings) {
  const std::vector<std::string_view> keys = {"listen", "data_dir", "max_size", "max_pending_per_user"};
  EXPECT_EQ(nearest("max_sise", keys), "max_size");
  EXPECT_EQ(nearest("lsiten", keys), "listen");
  EXPECT_EQ(nearest("datadir", keys), "data_dir");
  EXPECT_EQ(nearest("listen", keys), "listen");
  EXPECT_EQ(nearest("max_pending_uploads", keys), std::nullopt);
  EXPECT_EQ(nearest("zzzzzzzz", keys), std::nullopt);
  EXPECT_EQ(nearest(std::string(1 << 20, 'x'), keys), std::nullopt);
  EXPECT_EQ(nearest("listen", {}), std::nullopt);
}

}  // namespace
}  // namespace sluice
