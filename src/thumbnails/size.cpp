// SPDX-License-Identifier: Apache-2.0
#include "thumbnails/size.h"

#include <fmt/format.h>

namespace sluice::thumbnails {
namespace {

std::uint64_t area(const Size& size) { return std::uint64_t{size.width} * size.height; }

bool satisfies(const Size& size, const Size& asked) {
  if (size.method != asked.method || size.width < asked.width || size.height < asked.height) return false;
  const bool same_aspect = std::uint64_t{size.width} * asked.height == std::uint64_t{size.height} * asked.width;
  return asked.method == Method::kScale || same_aspect;
}

}  // namespace

std::string Variant::name() const {
  return fmt::format("{}x{}-{}{}", size.width, size.height, size.method == Method::kCrop ? "crop" : "scale",
                     animated ? "-animated" : "");
}

Size smallest_that_satisfies(std::span<const Size> sizes, const Size& asked) {
  const Size* best = nullptr;
  for (const Size& size : sizes) {
    if (satisfies(size, asked) && (best == nullptr || area(size) < area(*best))) best = &size;
  }
  return best != nullptr ? *best : asked;
}

}  // namespace sluice::thumbnails
