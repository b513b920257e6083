// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <compare>
#include <cstdint>
#include <span>
#include <string>

#include "thumbnails/job.h"

namespace sluice::thumbnails {

/// No screen is larger; who asks for more is refused.
inline constexpr std::uint32_t kMaxSide = 8192;

/// In pixels, each from 1 to kMaxSide.
struct Size {
  std::uint32_t width = 0;
  std::uint32_t height = 0;
  Method method = Method::kScale;
  auto operator<=>(const Size&) const = default;
};

/// One thumbnail that a source can have.
struct Variant {
  Size size;
  bool animated = false;  // if the source is
  /// "320x240-scale", "96x96-crop-animated": what its file is called.
  std::string name() const;
  auto operator<=>(const Variant&) const = default;
};

/// The smallest of `sizes` that is no smaller than what is asked for, so that few have to be made: for kScale one at
/// least as wide and as high, for kCrop also of the same aspect. Where there is none, what is asked for itself
/// (client-server API, "Thumbnails": never smaller than requested).
Size smallest_that_satisfies(std::span<const Size> sizes, const Size& asked);

}  // namespace sluice::thumbnails
