// SPDX-License-Identifier: Apache-2.0
#include "thumbnailer/blurhash.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <string_view>

namespace sluice::thumbnailer {

namespace {

constexpr int kAcross = 4;
constexpr int kDown = 3;
constexpr std::string_view kDigits =
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~";

using Colour = std::array<double, 3>;

double to_linear(std::uint8_t value) {
  const double v = value / 255.0;
  return v <= 0.04045 ? v / 12.92 : std::pow((v + 0.055) / 1.055, 2.4);
}

int to_srgb(double value) {
  const double v = std::clamp(value, 0.0, 1.0);
  return static_cast<int>((v <= 0.0031308 ? v * 12.92 : 1.055 * std::pow(v, 1 / 2.4) - 0.055) * 255 + 0.5);
}

void put(std::string& out, int value, int digits) {
  const std::size_t start = out.size();
  for (; digits > 0; --digits, value /= 83) {
    out.insert(out.begin() + static_cast<std::ptrdiff_t>(start), kDigits[static_cast<std::size_t>(value % 83)]);
  }
}

int quantised(double value, double greatest) {
  const double ratio = value / greatest;
  const double root = std::copysign(std::sqrt(std::abs(ratio)), ratio);
  return static_cast<int>(std::clamp(std::floor(root * 9 + 9.5), 0.0, 18.0));
}

}  // namespace

std::string blurhash(std::span<const std::uint8_t> rgb, Size size) {
  std::array<double, 256> linear{};
  for (std::size_t i = 0; i < linear.size(); ++i) linear[i] = to_linear(static_cast<std::uint8_t>(i));

  std::array<Colour, std::size_t{kAcross} * kDown> factors{};
  for (std::uint32_t y = 0; y < size.height; ++y) {
    for (std::uint32_t x = 0; x < size.width; ++x) {
      const auto* pixel = rgb.data() + 3 * (std::size_t{y} * size.width + x);
      for (int j = 0; j < kDown; ++j) {
        for (int i = 0; i < kAcross; ++i) {
          const double basis =
              std::cos(std::numbers::pi * i * x / size.width) * std::cos(std::numbers::pi * j * y / size.height);
          auto& factor = factors[static_cast<std::size_t>(j * kAcross + i)];
          for (std::size_t c = 0; c < 3; ++c) factor[c] += basis * linear[pixel[c]];
        }
      }
    }
  }
  double greatest = 0;
  for (std::size_t n = 0; n < factors.size(); ++n) {
    for (double& value : factors[n]) {
      value *= (n == 0 ? 1.0 : 2.0) / static_cast<double>(size.pixels());
      if (n > 0) greatest = std::max(greatest, std::abs(value));
    }
  }

  std::string hash;
  put(hash, kAcross - 1 + (kDown - 1) * 9, 1);
  const int scale = static_cast<int>(std::clamp(std::floor(greatest * 166 - 0.5), 0.0, 82.0));
  put(hash, scale, 1);
  const auto& average = factors[0];
  put(hash, to_srgb(average[0]) << 16 | to_srgb(average[1]) << 8 | to_srgb(average[2]), 4);
  for (std::size_t n = 1; n < factors.size(); ++n) {
    int value = 0;
    for (const double component : factors[n]) value = value * 19 + quantised(component, (scale + 1) / 166.0);
    put(hash, value, 2);
  }
  return hash;
}

}  // namespace sluice::thumbnailer
