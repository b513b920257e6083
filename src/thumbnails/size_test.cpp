// SPDX-License-Identifier: Apache-2.0
#include "thumbnails/size.h"

#include <gtest/gtest.h>

#include <vector>

namespace sluice::thumbnails {
namespace {

// The specification's.
const std::vector<Size> kSizes = {{32, 32, Method::kCrop}, {96, 96, Method::kCrop}, {320, 240}, {640, 480}, {800, 600}};

Size choose(const Size& asked) { return smallest_that_satisfies(kSizes, asked); }

TEST(ThumbnailSizeTest, GivesTheSmallestThatIsNoSmaller) {
  EXPECT_EQ(choose({1, 1}), (Size{320, 240}));
  EXPECT_EQ(choose({320, 240}), (Size{320, 240}));
  EXPECT_EQ(choose({321, 240}), (Size{640, 480}));
  EXPECT_EQ(choose({320, 241}), (Size{640, 480}));
  EXPECT_EQ(choose({700, 100}), (Size{800, 600}));
  EXPECT_EQ(choose({32, 32, Method::kCrop}), (Size{32, 32, Method::kCrop}));
  EXPECT_EQ(choose({33, 33, Method::kCrop}), (Size{96, 96, Method::kCrop}));
}

TEST(ThumbnailSizeTest, CropsToTheAspectThatIsAskedFor) {
  EXPECT_EQ(choose({30, 20, Method::kCrop}), (Size{30, 20, Method::kCrop}));
  EXPECT_EQ(choose({97, 97, Method::kCrop}), (Size{97, 97, Method::kCrop}));
}

TEST(ThumbnailSizeTest, NeverGivesLessThanWasAskedFor) { EXPECT_EQ(choose({1920, 1080}), (Size{1920, 1080})); }

TEST(ThumbnailSizeTest, DoesNotDependOnTheOrder) {
  const std::vector<Size> sizes = {{800, 600}, {320, 240}, {640, 480}};
  EXPECT_EQ(smallest_that_satisfies(sizes, {400, 300}), (Size{640, 480}));
}

TEST(ThumbnailSizeTest, NamesTellVariantsApart) {
  EXPECT_EQ((Variant{{320, 240}, false}.name()), "320x240-scale");
  EXPECT_EQ((Variant{{96, 96, Method::kCrop}, true}.name()), "96x96-crop-animated");
}

}  // namespace
}  // namespace sluice::thumbnails
