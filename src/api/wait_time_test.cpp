// SPDX-License-Identifier: Apache-2.0
#include "api/wait_time.h"

#include <gtest/gtest.h>

namespace sluice::api {
namespace {

constexpr Milliseconds kDefault(20'000);
constexpr Milliseconds kMax(60'000);

Result<Milliseconds> wait_of(const std::string& query) {
  return wait_time(*Target::parse("/?" + query), kDefault, kMax);
}

TEST(WaitTime, IsTheDefaultWhenNothingIsSaid) { EXPECT_EQ(wait_of("a=b"), kDefault); }

TEST(WaitTime, IsWhatTheClientSays) {
  EXPECT_EQ(wait_of("timeout_ms=1500"), Milliseconds(1500));
  EXPECT_EQ(wait_of("timeout_ms=0"), Milliseconds(0));
  EXPECT_EQ(wait_of("timeout_ms=0001"), Milliseconds(1));
}

TEST(WaitTime, HasAnUnstableName) {
  EXPECT_EQ(wait_of("fi.mau.msc2246.timeout_ms=1500"), Milliseconds(1500));
  EXPECT_EQ(wait_of("fi.mau.msc2246.timeout_ms=1500&timeout_ms=7"), Milliseconds(7)) << "the stable one goes first";
}

TEST(WaitTime, IsCapped) {
  EXPECT_EQ(wait_of("timeout_ms=60000"), kMax);
  EXPECT_EQ(wait_of("timeout_ms=60001"), kMax);
  EXPECT_EQ(wait_of("timeout_ms=9223372036854775807"), kMax);
  EXPECT_EQ(wait_of("timeout_ms=99999999999999999999999999"), kMax);
}

TEST(WaitTime, RefusesWhatIsNoNumber) {
  for (const std::string text : {"", "-1", "%2B1", "1.5", "1s", "0x10", "1e3", "abc", "1 ", "%201", "1,000"}) {
    const auto wait = wait_of("timeout_ms=" + text);
    ASSERT_FALSE(wait) << text;
    EXPECT_EQ(wait.error().http_status, 400);
    EXPECT_EQ(wait.error().errcode, "M_INVALID_PARAM");
  }
}

}  // namespace
}  // namespace sluice::api
