// SPDX-License-Identifier: Apache-2.0
#include "base/units.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <limits>
#include <utility>

#include "base/text.h"

namespace sluice {
namespace {

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};

constexpr std::uint64_t kKibi = 1024;
// From the largest to the smallest and binary before decimal: among equally short forms the first is written.
constexpr std::array kByteUnits = {
    Unit{"TiB", kKibi* kKibi* kKibi* kKibi},
    Unit{"GiB", kKibi* kKibi* kKibi},
    Unit{"MiB", kKibi* kKibi},
    Unit{"KiB", kKibi},
    Unit{"TB", 1'000'000'000'000},
    Unit{"GB", 1'000'000'000},
    Unit{"MB", 1'000'000},
    Unit{"kB", 1'000},
    Unit{"B", 1},
};
constexpr std::array kTimeUnits = {
    Unit{"d", 86'400'000}, Unit{"h", 3'600'000}, Unit{"m", 60'000}, Unit{"s", 1'000}, Unit{"ms", 1},
};

template <std::size_t N>
std::optional<std::uint64_t> parse_with_units(std::string_view text, const std::array<Unit, N>& units,
                                              bool bare_numbers) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{}) return std::nullopt;
  std::string_view name = text.substr(static_cast<std::size_t>(end - text.data()));
  if (name.starts_with(' ')) name.remove_prefix(1);
  if (name.empty()) {
    if (!bare_numbers && number != 0) return std::nullopt;
    return number;
  }
  for (const Unit& unit : units) {
    if (!equals_ignoring_case(unit.name, name)) continue;
    if (number > std::numeric_limits<std::uint64_t>::max() / unit.factor) return std::nullopt;
    return number * unit.factor;
  }
  return std::nullopt;
}

template <std::size_t N>
std::string format_with_units(std::uint64_t value, const std::array<Unit, N>& units) {
  std::string shortest = fmt::format("{}{}", value, units.back().name);
  for (const Unit& unit : units) {
    if (value == 0 || value % unit.factor != 0) continue;
    std::string exact = fmt::format("{}{}", value / unit.factor, unit.name);
    if (exact.size() < shortest.size()) shortest = std::move(exact);
  }
  return shortest;
}

}  // namespace

std::optional<std::uint64_t> parse_byte_size(std::string_view text) { return parse_with_units(text, kByteUnits, true); }

std::optional<std::chrono::milliseconds> parse_duration(std::string_view text) {
  const std::optional<std::uint64_t> value = parse_with_units(text, kTimeUnits, false);
  // A century is longer than any wait here means, and keeps every later sum of times from overflowing.
  constexpr std::uint64_t kCentury_ms = 36'525ull * 86'400'000;
  if (!value || *value > kCentury_ms) return std::nullopt;
  return std::chrono::milliseconds(static_cast<std::int64_t>(*value));
}

std::string format_byte_size(std::uint64_t bytes) { return format_with_units(bytes, kByteUnits); }

std::string format_duration(std::chrono::milliseconds time) {
  return format_with_units(static_cast<std::uint64_t>(time.count()), kTimeUnits);
}

std::string describe_byte_size(std::uint64_t bytes) {
  for (const Unit& unit : {kByteUnits[0], kByteUnits[1], kByteUnits[2], kByteUnits[3]}) {
    if (bytes >= unit.factor) {
      return fmt::format("{:.1f} {}", static_cast<double>(bytes) / static_cast<double>(unit.factor), unit.name);
    }
  }
  return fmt::format("{} B", bytes);
}

}  // namespace sluice
