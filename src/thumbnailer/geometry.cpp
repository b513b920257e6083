// SPDX-License-Identifier: Apache-2.0
#include "thumbnailer/geometry.h"

#include <algorithm>
#include <cmath>

namespace sluice::thumbnailer {

namespace {

std::uint32_t scaled(std::uint32_t length, double factor, std::uint32_t least, std::uint32_t most) {
  const double rounded = std::round(length * factor);
  return std::clamp(static_cast<std::uint32_t>(rounded), std::max(least, 1U), std::max(most, 1U));
}

}  // namespace

Plan plan_thumbnail(thumbnails::Method method, Size source, Size asked) {
  const double across = static_cast<double>(asked.width) / source.width;
  const double down = static_cast<double>(asked.height) / source.height;
  if (method == thumbnails::Method::kScale) {
    const double factor = std::min({across, down, 1.0});
    const Size fitting{scaled(source.width, factor, 1, std::min(source.width, asked.width)),
                       scaled(source.height, factor, 1, std::min(source.height, asked.height))};
    return {fitting, fitting};
  }
  // What is asked for, made smaller until the source fills it.
  const double shrink = std::min({1.0 / across, 1.0 / down, 1.0});
  const Size cut{scaled(asked.width, shrink, 1, std::min(source.width, asked.width)),
                 scaled(asked.height, shrink, 1, std::min(source.height, asked.height))};
  const double factor =
      std::max(static_cast<double>(cut.width) / source.width, static_cast<double>(cut.height) / source.height);
  return {
      {scaled(source.width, factor, cut.width, source.width), scaled(source.height, factor, cut.height, source.height)},
      cut};
}

}  // namespace sluice::thumbnailer
