// SPDX-License-Identifier: Apache-2.0
#include "thumbnailer/waveform.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace sluice::thumbnailer {

namespace {

/// More than any thumbnail is wide; when there are more, two become one.
constexpr std::size_t kMaxPeaks = 4096;
/// Pixels of a bar and of the gap after it.
constexpr std::uint32_t kBarWidth = 3;
constexpr std::uint32_t kBarStep = 5;
/// Seen on white and on black.
constexpr std::array<std::uint8_t, 4> kColour{0x76, 0x8A, 0xA6, 0xFF};

}  // namespace

void Loudness::add(std::span<const float> samples) {
  for (const float sample : samples) {
    if (peaks_.empty() || samples_in_last_ == samples_per_peak_) {
      if (peaks_.size() == kMaxPeaks) {
        for (std::size_t i = 0; i < kMaxPeaks / 2; ++i) peaks_[i] = std::max(peaks_[2 * i], peaks_[2 * i + 1]);
        peaks_.resize(kMaxPeaks / 2);
        samples_per_peak_ *= 2;
      }
      peaks_.push_back(0);
      samples_in_last_ = 0;
    }
    ++samples_in_last_;
    const float height = std::abs(sample);
    if (height > peaks_.back()) peaks_.back() = std::min(height, 1.0F);  // not a number is no height
  }
}

std::vector<std::uint8_t> Loudness::draw(Size size) const {
  std::vector<std::uint8_t> pixels(size.pixels() * 4);
  const std::uint32_t bars = std::max(1U, size.width / kBarStep);
  const float loudest = std::max(*std::ranges::max_element(peaks_), 1e-6F);
  for (std::uint32_t bar = 0; bar < bars; ++bar) {
    const auto from = peaks_.size() * bar / bars;
    const auto to = std::max(from + 1, peaks_.size() * (bar + 1) / bars);
    float peak = 0;
    for (auto i = from; i < to; ++i) peak = std::max(peak, peaks_[i]);
    const auto height = std::clamp(
        static_cast<std::uint32_t>(std::lround(peak / loudest * static_cast<float>(size.height))), 1U, size.height);
    const auto top = (size.height - height) / 2;
    const auto left = bar * kBarStep;
    for (auto y = top; y < top + height; ++y) {
      for (auto x = left; x < std::min(left + kBarWidth, size.width); ++x) {
        std::ranges::copy(kColour, pixels.begin() + static_cast<std::ptrdiff_t>(4 * (std::size_t{y} * size.width + x)));
      }
    }
  }
  return pixels;
}

}  // namespace sluice::thumbnailer
