// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "thumbnails/job.h"

namespace sluice::thumbnailer {

struct Size {
  std::uint32_t width = 0;
  std::uint32_t height = 0;

  bool operator==(const Size&) const = default;
  std::uint64_t pixels() const { return std::uint64_t{width} * height; }
  Size turned() const { return {height, width}; }
};

/// How a thumbnail comes from its source: scaled to one size, then the middle is cut out of it.
struct Plan {
  Size scaled;
  Size cut;

  bool operator==(const Plan&) const = default;
};

/// Nothing is enlarged. Scale: fits inside `asked`, one side as long as asked (unless the source is smaller), the
/// aspect kept within a pixel. Crop: `asked` exactly; of a source that is smaller, the largest part with that aspect.
/// No side is ever 0; neither size is larger than the source. Requires sizes without a 0.
Plan plan_thumbnail(thumbnails::Method method, Size source, Size asked);

}  // namespace sluice::thumbnailer
