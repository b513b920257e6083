// SPDX-License-Identifier: Apache-2.0
#include "repository/media_id.h"

#include <gtest/gtest.h>

#include <set>

#include "base/mxc.h"

namespace sluice::repository {
namespace {

WallTime at(std::int64_t milliseconds) { return WallTime(Milliseconds(milliseconds)); }

TEST(MediaId, IsAMediaIdAndDiffersEachTime) {
  SystemRandom random;
  std::set<std::string> ids;
  for (int i = 0; i < 1000; ++i) {
    const std::string id = make_media_id(at(1'700'000'000'000), random);
    EXPECT_EQ(id.size(), kMediaIdLength);
    EXPECT_TRUE(Mxc::of("example.org", id));
    ids.insert(id);
  }
  EXPECT_EQ(ids.size(), 1000u);
}

TEST(MediaId, OfALaterTimeComesLater) {
  SystemRandom random;
  std::string last;
  for (const std::int64_t time : {std::int64_t{0}, std::int64_t{9}, std::int64_t{10}, std::int64_t{1'700'000'000'000},
                                  std::int64_t{1'700'000'000'001}, std::int64_t{1'800'000'000'000}}) {
    const std::string id = make_media_id(at(time), random);
    EXPECT_LT(last, id);
    last = id;
  }
}

TEST(MediaId, HasOneLengthWhateverTheClockSays) {
  SystemRandom random;
  EXPECT_EQ(make_media_id(at(-5), random).size(), kMediaIdLength);
  EXPECT_EQ(make_media_id(WallTime::max(), random).size(), kMediaIdLength);
}

}  // namespace
}  // namespace sluice::repository
