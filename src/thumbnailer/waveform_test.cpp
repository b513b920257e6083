// SPDX-License-Identifier: Apache-2.0
#include "thumbnailer/waveform.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace sluice::thumbnailer {
namespace {

/// Opaque pixels in a column.
int height_at(const std::vector<std::uint8_t>& pixels, Size size, std::uint32_t x) {
  int height = 0;
  for (std::uint32_t y = 0; y < size.height; ++y)
    height += pixels[4 * (std::size_t{y} * size.width + x) + 3] != 0 ? 1 : 0;
  return height;
}

TEST(Waveform, IsAsHighAsTheSoundIsLoud) {
  Loudness loudness;
  for (int i = 0; i < 1000; ++i) loudness.add(std::vector<float>(100, i < 500 ? 0.25F : -0.5F));
  constexpr Size kSize{100, 80};
  const auto pixels = loudness.draw(kSize);
  EXPECT_EQ(height_at(pixels, kSize, 10), 40);
  EXPECT_EQ(height_at(pixels, kSize, 90), 80);
  EXPECT_EQ(height_at(pixels, kSize, 94), 0) << "between the bars";
}

TEST(Waveform, OfHoursKeepsItsShape) {
  Loudness loudness;
  const std::vector<float> second(48'000, 0.1F);
  const std::vector<float> loud(48'000, 0.8F);
  for (int i = 0; i < 7200; ++i) loudness.add(i < 3600 ? second : loud);
  constexpr Size kSize{200, 80};
  const auto pixels = loudness.draw(kSize);
  EXPECT_EQ(height_at(pixels, kSize, 90), 10);
  EXPECT_EQ(height_at(pixels, kSize, 110), 80);
}

TEST(Waveform, OfSilenceIsALine) {
  Loudness loudness;
  loudness.add(std::vector<float>(10, 0.0F));
  EXPECT_EQ(height_at(loudness.draw({32, 32}), {32, 32}, 0), 1);
}

TEST(Waveform, BearsWhatIsNoNumber) {
  Loudness loudness;
  loudness.add(std::vector{std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 0.5F});
  EXPECT_EQ(height_at(loudness.draw({1, 1}), {1, 1}, 0), 1);
}

}  // namespace
}  // namespace sluice::thumbnailer
