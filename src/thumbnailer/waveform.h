// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "thumbnailer/geometry.h"

namespace sluice::thumbnailer {

/// How loud a sound is over its time, in little memory however long it is.
class Loudness {
 public:
  /// Samples from -1 to 1 that follow those before.
  void add(std::span<const float> samples);
  bool empty() const { return peaks_.empty(); }

  /// Bars from left to right, the loudest from top to bottom, transparent around them: four bytes a pixel.
  std::vector<std::uint8_t> draw(Size size) const;

 private:
  /// The greatest of each `samples_per_peak_` samples; the last may still grow.
  std::vector<float> peaks_;
  std::uint64_t samples_per_peak_ = 64;
  std::uint64_t samples_in_last_ = 0;
};

}  // namespace sluice::thumbnailer
