// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice {

/// A number of bytes with an optional unit: B, kB MB GB TB (powers of 1000), KiB MiB GiB TiB (powers of 1024).
/// Units are read in any case. Nothing on a missing number, an unknown unit, a sign or an overflow.
std::optional<std::uint64_t> parse_byte_size(std::string_view text);

/// A time with its unit: ms, s, m, h, d. A bare 0 is allowed, any other bare number is not.
std::optional<std::chrono::milliseconds> parse_duration(std::string_view text);

/// The shortest exact form that the parser above reads back: 104857600 is "100MiB", 1500 is "1500B".
std::string format_byte_size(std::uint64_t bytes);
std::string format_duration(std::chrono::milliseconds time);

/// For people, rounded: "12.3 MiB".
std::string describe_byte_size(std::uint64_t bytes);

}  // namespace sluice
