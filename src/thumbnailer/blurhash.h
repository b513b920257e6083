// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "thumbnailer/geometry.h"

namespace sluice::thumbnailer {

/// The BlurHash (blurha.sh) of 4x3 components of a picture in sRGB, three bytes a pixel: 28 characters. Takes time in
/// proportion to the pixels; 64 x 64 are plenty. Requires a picture that is not empty.
std::string blurhash(std::span<const std::uint8_t> rgb, Size size);

}  // namespace sluice::thumbnailer
