// SPDX-License-Identifier: Apache-2.0
#include "thumbnailer/blurhash.h"

#include <gtest/gtest.h>

#include <vector>

namespace sluice::thumbnailer {
namespace {

std::vector<std::uint8_t> filled(Size size, std::uint8_t red, std::uint8_t green, std::uint8_t blue) {
  std::vector<std::uint8_t> pixels;
  for (std::uint64_t i = 0; i < size.pixels(); ++i) pixels.insert(pixels.end(), {red, green, blue});
  return pixels;
}

// L is 4 x 3 components, the next the scale of the waves, four digits the average colour, then two for each wave; fQ is
// none.
TEST(Blurhash, OfOneColourIsThatColour) {
  EXPECT_EQ(blurhash(filled({1, 1}, 0, 0, 0), {1, 1}).substr(0, 6), "L00000");
  EXPECT_EQ(blurhash(filled({32, 32}, 0, 0, 0), {32, 32}), "L00000fQfQfQfQfQfQfQfQfQfQfQ");
  const auto white = blurhash(filled({32, 32}, 255, 255, 255), {32, 32});
  EXPECT_EQ(white.size(), 28);
  EXPECT_EQ(white.substr(2, 4), "TSUA");  // 0xFFFFFF in base 83
}

TEST(Blurhash, SeesLeftFromRight) {
  auto pixels = filled({32, 32}, 0, 0, 0);
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = i / 3 % 32 < 16 ? 255 : 0;
  const auto hash = blurhash(pixels, {32, 32});
  auto mirrored = pixels;
  for (auto& value : mirrored) value = static_cast<std::uint8_t>(255 - value);
  EXPECT_EQ(hash.size(), 28);
  EXPECT_NE(hash.substr(6, 2), "fQ");
  EXPECT_NE(hash, blurhash(mirrored, {32, 32}));
  EXPECT_EQ(hash.substr(2, 4), blurhash(mirrored, {32, 32}).substr(2, 4)) << "they are equally bright";
}

}  // namespace
}  // namespace sluice::thumbnailer
