// SPDX-License-Identifier: Apache-2.0
#include "thumbnailer/geometry.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace sluice::thumbnailer {
namespace {

using thumbnails::Method;

Plan scale(Size source, Size asked) { return plan_thumbnail(Method::kScale, source, asked); }
Plan crop(Size source, Size asked) { return plan_thumbnail(Method::kCrop, source, asked); }

TEST(Geometry, ScalingFitsInside) {
  EXPECT_EQ(scale({4000, 3000}, {320, 240}).scaled, (Size{320, 240}));
  EXPECT_EQ(scale({3000, 4000}, {320, 240}).scaled, (Size{180, 240}));
  EXPECT_EQ(scale({1920, 1080}, {320, 240}).scaled, (Size{320, 180}));
}

TEST(Geometry, NothingIsEnlarged) {
  EXPECT_EQ(scale({100, 50}, {320, 240}).scaled, (Size{100, 50}));
  EXPECT_EQ(crop({30, 20}, {96, 96}).cut, (Size{20, 20}));
  EXPECT_EQ(crop({1000, 50}, {96, 96}).cut, (Size{50, 50}));
}

TEST(Geometry, CroppingFillsWhatIsAsked) {
  EXPECT_EQ(crop({4000, 3000}, {96, 96}), (Plan{{128, 96}, {96, 96}}));
  EXPECT_EQ(crop({3000, 4000}, {96, 96}), (Plan{{96, 128}, {96, 96}}));
  EXPECT_EQ(crop({96, 96}, {96, 96}), (Plan{{96, 96}, {96, 96}}));
}

TEST(Geometry, ThereIsAlwaysAPixel) {
  EXPECT_EQ(scale({100'000, 1}, {32, 32}).scaled, (Size{32, 1}));
  EXPECT_EQ(crop({1, 100'000}, {32, 32}).cut, (Size{1, 1}));
  EXPECT_EQ(crop({5, 5}, {1000, 1}).cut, (Size{5, 1}));
}

TEST(Geometry, HoldsForAnySizes) {
  std::mt19937 random(20);
  // Small and large sizes alike.
  const auto length = [&] {
    return static_cast<std::uint32_t>(std::exp(std::uniform_real_distribution(0.0, 11.0)(random)));
  };
  for (int i = 0; i < 200'000; ++i) {
    const Size source{length(), length()};
    const Size asked{length(), length()};
    SCOPED_TRACE(testing::Message() << source.width << " x " << source.height << " as " << asked.width << " x "
                                    << asked.height);

    const auto scaled = scale(source, asked);
    ASSERT_EQ(scaled.scaled, scaled.cut);
    const Size made = scaled.scaled;
    ASSERT_TRUE(made.width >= 1 && made.height >= 1);
    ASSERT_TRUE(made.width <= std::min(source.width, asked.width) &&
                made.height <= std::min(source.height, asked.height));
    if (source.width > asked.width || source.height > asked.height) {
      ASSERT_TRUE(made.width == asked.width || made.height == asked.height);
      const double factor = std::min(1.0 * asked.width / source.width, 1.0 * asked.height / source.height);
      ASSERT_LT(std::abs(made.width - source.width * factor), 1);
      ASSERT_LT(std::abs(made.height - source.height * factor), 1);
    } else {
      ASSERT_EQ(made, source);
    }

    const auto cropped = crop(source, asked);
    ASSERT_TRUE(cropped.cut.width >= 1 && cropped.cut.height >= 1);
    ASSERT_TRUE(cropped.cut.width <= cropped.scaled.width && cropped.cut.height <= cropped.scaled.height);
    ASSERT_TRUE(cropped.scaled.width <= source.width && cropped.scaled.height <= source.height);
    ASSERT_TRUE(cropped.cut.width == cropped.scaled.width || cropped.cut.height == cropped.scaled.height);
    if (source.width >= asked.width && source.height >= asked.height) {
      ASSERT_EQ(cropped.cut, asked);
    } else {
      ASSERT_TRUE(cropped.cut.width == source.width || cropped.cut.height == source.height);
    }
  }
}

}  // namespace
}  // namespace sluice::thumbnailer
