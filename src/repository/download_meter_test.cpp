// SPDX-License-Identifier: Apache-2.0
#include "repository/download_meter.h"

#include <gtest/gtest.h>

namespace sluice::repository {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

const SteadyTime kStart{hours(1)};
constexpr config::ByteRate kRate{.bytes_per_second = 1000, .burst = 5000};

TEST(DownloadMeter, LetsAFileLargerThanTheBurstPassAndCollectsTheDebt) {
  DownloadMeter meter;
  EXPECT_EQ(meter.wait("@alice:example.org", kRate, kStart), std::nullopt);
  meter.charge("@alice:example.org", 65'000, kRate, kStart);
  EXPECT_EQ(meter.wait("@alice:example.org", kRate, kStart), milliseconds(60'001)) << "until there is a byte";
  EXPECT_EQ(meter.wait("@alice:example.org", kRate, kStart + seconds(61)), std::nullopt);
  EXPECT_EQ(meter.wait("192.0.2.1", kRate, kStart), std::nullopt);
}

TEST(DownloadMeter, GivesBackWhatWasNotSent) {
  DownloadMeter meter;
  meter.charge("192.0.2.1", 1'000'000'000, kRate, kStart);
  meter.charge("192.0.2.1", -999'998'000, kRate, kStart + seconds(1));
  EXPECT_EQ(meter.wait("192.0.2.1", kRate, kStart + seconds(1)), std::nullopt);
}

}  // namespace
}  // namespace sluice::repository
