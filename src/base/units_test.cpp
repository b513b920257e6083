// SPDX-License-Identifier: Apache-2.0
#include "base/units.h"

#include <gtest/gtest.h>

#include <limits>

namespace sluice {
namespace {

using namespace std::chrono_literals;

TEST(ByteSize, ReadsDecimalAndBinaryUnitsInAnyCase) {
  EXPECT_EQ(parse_byte_size("0"), 0u);
  EXPECT_EQ(parse_byte_size("1500"), 1500u);
  EXPECT_EQ(parse_byte_size("7B"), 7u);
  EXPECT_EQ(parse_byte_size("50MiB"), 50u << 20);
  EXPECT_EQ(parse_byte_size("50 MiB"), 50u << 20);
  EXPECT_EQ(parse_byte_size("50mib"), 50u << 20);
  EXPECT_EQ(parse_byte_size("1GB"), 1'000'000'000u);
  EXPECT_EQ(parse_byte_size("3kB"), 3000u);
  EXPECT_EQ(parse_byte_size("2TiB"), 2ull << 40);
}

TEST(ByteSize, RefusesWhatIsNoSize) {
  for (const char* text : {"", " ", "MiB", "-1", "+1", "1.5MiB", "1XB", "1 2", "1  MiB", " 1", "1MiBs", "1M", "0x10"}) {
    EXPECT_FALSE(parse_byte_size(text)) << text;
  }
}

TEST(ByteSize, RefusesOverflowAndReadsUpToIt) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
  EXPECT_EQ(parse_byte_size("18446744073709551615"), kMost);
  EXPECT_EQ(parse_byte_size("18446744073709551615B"), kMost);
  EXPECT_EQ(parse_byte_size("16777215TiB"), 16777215ull << 40);
  for (const char* text : {"18446744073709551616", "16777216TiB", "18446744073709551615KiB"}) {
    EXPECT_FALSE(parse_byte_size(text)) << text;
  }
}

TEST(ByteSize, WritesTheShortestExactForm) {
  EXPECT_EQ(format_byte_size(0), "0B");
  EXPECT_EQ(format_byte_size(1), "1B");
  EXPECT_EQ(format_byte_size(1500), "1500B");
  EXPECT_EQ(format_byte_size(104'857'600), "100MiB");
  EXPECT_EQ(format_byte_size(1'000'000'000), "1GB");
  // Also a whole number of KiB, but that is longer to write.
  EXPECT_EQ(format_byte_size(1'000'000'000'000), "1TB");
  EXPECT_EQ(format_byte_size(1'024'000'000), "1024MB");
}

TEST(ByteSize, ReadsWhatItWrites) {
  std::uint64_t size = 1;
  for (int i = 0; i < 2000; ++i) {
    EXPECT_EQ(parse_byte_size(format_byte_size(size)), size);
    size = size * 6364136223846793005ull + 1442695040888963407ull;
    if (i % 3 == 0) size &= ~0xFFFFFull;
  }
  EXPECT_EQ(parse_byte_size(format_byte_size(~0ull)), ~0ull);
}

TEST(ByteSize, IsDescribedForPeople) {
  EXPECT_EQ(describe_byte_size(0), "0 B");
  EXPECT_EQ(describe_byte_size(1023), "1023 B");
  EXPECT_EQ(describe_byte_size(1024), "1.0 KiB");
  EXPECT_EQ(describe_byte_size(12'897'485), "12.3 MiB");
  EXPECT_EQ(describe_byte_size(5ull << 40), "5.0 TiB");
}

TEST(Duration, ReadsEveryUnit) {
  EXPECT_EQ(parse_duration("500ms"), 500ms);
  EXPECT_EQ(parse_duration("20s"), 20s);
  EXPECT_EQ(parse_duration("5 m"), 5min);
  EXPECT_EQ(parse_duration("24h"), 24h);
  EXPECT_EQ(parse_duration("7d"), 168h);
  EXPECT_EQ(parse_duration("0"), 0ms);
  EXPECT_EQ(parse_duration("0s"), 0ms);
}

TEST(Duration, NeedsAUnitAndStaysWithinACentury) {
  EXPECT_EQ(parse_duration("36525d"), 36525 * 24h);
  for (const char* text : {"", "10", "s", "-1s", "1.5s", "1w", "1s1s", "36526d", "99999999999999999999s",
                           "18446744073709551615d", "18446744073709551615ms"}) {
    EXPECT_FALSE(parse_duration(text)) << text;
  }
}

TEST(Duration, WritesTheShortestExactForm) {
  EXPECT_EQ(format_duration(0ms), "0ms");
  EXPECT_EQ(format_duration(1501ms), "1501ms");
  EXPECT_EQ(format_duration(20s), "20s");
  EXPECT_EQ(format_duration(90s), "90s");
  EXPECT_EQ(format_duration(60s), "1m");
  EXPECT_EQ(format_duration(36h), "36h");
  EXPECT_EQ(format_duration(24h), "1d");
}

}  // namespace
}  // namespace sluice
