// SPDX-License-Identifier: Apache-2.0
#include "http/range.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <utility>

namespace sluice::http {
namespace {

constexpr std::uint64_t kLargest = std::numeric_limits<std::uint64_t>::max();

std::optional<std::pair<std::uint64_t, std::uint64_t>> offset_and_length(std::string_view field, std::uint64_t size) {
  const auto range = parse_range(field);
  if (!range) return std::nullopt;
  const auto span = resolve(*range, size);
  if (!span) return std::nullopt;
  return std::pair(span->offset, span->length);
}

TEST(Range, IsReadInItsThreeForms) {
  const auto both = parse_range("bytes=2-9");
  ASSERT_TRUE(both);
  EXPECT_EQ(both->first, 2u);
  EXPECT_EQ(both->last, 9u);
  EXPECT_FALSE(both->is_suffix());

  const auto open = parse_range("bytes=2-");
  ASSERT_TRUE(open);
  EXPECT_EQ(open->first, 2u);
  EXPECT_EQ(open->last, std::nullopt);

  const auto suffix = parse_range("bytes=-9");
  ASSERT_TRUE(suffix);
  EXPECT_TRUE(suffix->is_suffix());
  EXPECT_EQ(suffix->last, 9u);

  EXPECT_TRUE(parse_range("Bytes=0-0")) << "range units ignore case";
  EXPECT_TRUE(parse_range("bytes= 0-0 "));
}

TEST(Range, IsIgnoredUnlessItIsOnePlainRange) {
  for (const char* field : {"",          "bytes",      "bytes=",      "bytes=-",       "bytes=1",    "bytes=a-b",
                            "bytes=1-b", "bytes=a-1",  "bytes=+1-2",  "bytes=1-+2",    "bytes=1 -2", "bytes=1- 2",
                            "bytes=--1", "bytes=1--2", "bytes=0x1-2", "bytes=0-0,2-3", "bytes=0-0,", "bytes=,0-0",
                            "bytes 0-1", "bytes =0-1", "items=0-1",   "0-1",           "bytes=5-4",  "bytes=1.0-2"}) {
    EXPECT_FALSE(parse_range(field)) << field;
  }
}

TEST(Range, SaturatesBeyond64Bits) {
  const auto range = parse_range("bytes=0-99999999999999999999999999");
  ASSERT_TRUE(range);
  EXPECT_EQ(range->last, kLargest);
  EXPECT_EQ(offset_and_length("bytes=99999999999999999999999999-", 10), std::nullopt);
  EXPECT_EQ(offset_and_length("bytes=-99999999999999999999999999", 10), std::pair(0ul, 10ul));
  EXPECT_EQ(offset_and_length("bytes=0-18446744073709551615", kLargest), std::pair(0ul, kLargest));
}

TEST(Range, IsLaidOnARepresentation) {
  EXPECT_EQ(offset_and_length("bytes=0-0", 10), std::pair(0ul, 1ul));
  EXPECT_EQ(offset_and_length("bytes=2-5", 10), std::pair(2ul, 4ul));
  EXPECT_EQ(offset_and_length("bytes=9-9", 10), std::pair(9ul, 1ul));
  EXPECT_EQ(offset_and_length("bytes=2-", 10), std::pair(2ul, 8ul));
  EXPECT_EQ(offset_and_length("bytes=2-99", 10), std::pair(2ul, 8ul));
  EXPECT_EQ(offset_and_length("bytes=-3", 10), std::pair(7ul, 3ul));
  EXPECT_EQ(offset_and_length("bytes=-99", 10), std::pair(0ul, 10ul)) << "a suffix longer than the whole is the whole";
}

TEST(Range, OutsideTheRepresentationIsUnsatisfiable) {
  EXPECT_EQ(offset_and_length("bytes=10-", 10), std::nullopt);
  EXPECT_EQ(offset_and_length("bytes=10-20", 10), std::nullopt);
  EXPECT_EQ(offset_and_length("bytes=-0", 10), std::nullopt);
  for (const char* field : {"bytes=0-", "bytes=0-0", "bytes=-1"}) EXPECT_EQ(offset_and_length(field, 0), std::nullopt);
}

TEST(ContentRange, NamesFirstAndLastByte) {
  EXPECT_EQ(content_range({0, 100}, 200), "bytes 0-99/200");
  EXPECT_EQ(content_range({5, 1}, std::nullopt), "bytes 5-5/*");
  EXPECT_EQ(unsatisfied_content_range(200), "bytes */200");
}

TEST(IfNoneMatch, ComparesWeakly) {
  constexpr std::string_view kEtag = R"("a.1")";
  for (const char* field : {R"("a.1")", R"(W/"a.1")", "*", " * ", R"("x", "a.1")", R"("x",W/"a.1" ,"y")"}) {
    EXPECT_TRUE(matches_any_etag(field, kEtag)) << field;
  }
  for (const char* field : {"", "a.1", R"("a.2")", R"("A.1")", R"(w/"a.1")", R"(W/W/"a.1")", "**", R"("x,"a.1"")"}) {
    EXPECT_FALSE(matches_any_etag(field, kEtag)) << field;
  }
}

TEST(IfRange, ComparesStrongly) {
  constexpr std::string_view kEtag = R"("a.1")";
  EXPECT_TRUE(matches_if_range(R"("a.1")", kEtag));
  EXPECT_TRUE(matches_if_range(R"( "a.1" )", kEtag));
  for (const char* field : {"", "*", R"(W/"a.1")", R"("a.2")", R"("a.1", "a.1")", "Sat, 29 Oct 1994 19:43:31 GMT"}) {
    EXPECT_FALSE(matches_if_range(field, kEtag)) << field;
  }
}

TEST(IfRange, NeverHoldsForAWeakEntityTag) { EXPECT_FALSE(matches_if_range(R"(W/"a.1")", R"(W/"a.1")")); }

}  // namespace
}  // namespace sluice::http
