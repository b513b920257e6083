// SPDX-License-Identifier: Apache-2.0
#include "repository/media_id.h"

#include <cstdint>
#include <string_view>

namespace sluice::repository {
namespace {

constexpr std::size_t kTimeCharacters = 8;
constexpr std::size_t kRandomBytes = (kMediaIdLength - kTimeCharacters) * 3 / 4;

}  // namespace

std::string make_media_id(WallTime now, RandomSource& random) {
  // The letters of base64url, in the order in which they sort.
  constexpr std::string_view kLetters = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";
  static_assert(kLetters.size() == 64);
  std::string id(kTimeCharacters, '-');
  auto rest = static_cast<std::uint64_t>(now.time_since_epoch().count());  // 48 bits of it last until the year 10889
  for (std::size_t i = kTimeCharacters; i-- > 0; rest /= 64) id[i] = kLetters[rest % 64];
  return id + random_id(random, kRandomBytes);
}

}  // namespace sluice::repository
