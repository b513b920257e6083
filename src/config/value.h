// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "base/clock.h"
#include "config/config.h"

namespace sluice::config {

/// How a T is spelled, alike in the file and in the environment. `read` gives nothing for a text that is no T;
/// `description` completes the sentence "must be ..."; what `write` writes, `read` reads back to the same.
template <class T>
struct Form;

template <>
struct Form<std::string> {
  static std::string description() { return "UTF-8 text without control characters"; }
  static std::optional<std::string> read(std::string_view text);
  static std::string write(const std::string& value) { return value; }
};

template <>
struct Form<bool> {
  static std::string description() { return "true or false"; }
  static std::optional<bool> read(std::string_view text);
  static std::string write(bool value) { return value ? "true" : "false"; }
};

template <>
struct Form<std::uint32_t> {
  static std::string description() { return "a whole number from 0 to 4294967295"; }
  static std::optional<std::uint32_t> read(std::string_view text);
  static std::string write(std::uint32_t value) { return std::to_string(value); }
};

/// In a Config every std::uint64_t is a number of bytes.
template <>
struct Form<std::uint64_t> {
  static std::string description() { return "a size such as 50MiB or 1GB"; }
  static std::optional<std::uint64_t> read(std::string_view text);
  static std::string write(std::uint64_t value);
};

template <>
struct Form<double> {
  static std::string description() { return "a number such as 10 or 0.5"; }
  static std::optional<double> read(std::string_view text);
  static std::string write(double value);
};

template <>
struct Form<std::chrono::milliseconds> {
  static std::string description() { return "a time with its unit, such as 500ms, 20s or 24h"; }
  static std::optional<std::chrono::milliseconds> read(std::string_view text);
  static std::string write(std::chrono::milliseconds value);
};

/// An RFC 3339 timestamp, or a bare date for its first moment in UTC; in 1970 or later, cut to milliseconds.
template <>
struct Form<WallTime> {
  static std::string description() { return "a time such as 2024-09-01T00:00:00Z, or a date such as 2024-09-01"; }
  static std::optional<WallTime> read(std::string_view text);
  static std::string write(WallTime value);
};

template <>
struct Form<Endpoint> {
  static std::string description() {
    return "an address and port such as 127.0.0.1:8090, [::1]:8090 or localhost:8090";
  }
  static std::optional<Endpoint> read(std::string_view text);
  static std::string write(const Endpoint& value) { return value.to_string(); }
};

// The words for each enumerator, in their order.
constexpr auto words_for(UnauthenticatedAccess) { return std::to_array<std::string_view>({"allow", "frozen", "deny"}); }
constexpr auto words_for(ThumbnailMethod) { return std::to_array<std::string_view>({"scale", "crop"}); }
constexpr auto words_for(SandboxDemand) { return std::to_array<std::string_view>({"preferred", "required"}); }
constexpr auto words_for(LogFormat) { return std::to_array<std::string_view>({"text", "json"}); }
constexpr auto words_for(LogLevel) { return std::to_array<std::string_view>({"debug", "info", "warn", "error"}); }

template <class T>
  requires std::is_enum_v<T>
struct Form<T> {
  static constexpr auto kWords = words_for(T{});

  static std::string description() {
    std::string list;
    for (std::size_t i = 0; i < kWords.size(); ++i) {
      if (i > 0) list += i + 1 < kWords.size() ? ", " : " or ";
      list += kWords[i];
    }
    return list;
  }
  static std::optional<T> read(std::string_view text) {
    const auto found = std::ranges::find(kWords, text);
    if (found == kWords.end()) return std::nullopt;
    return static_cast<T>(found - kWords.begin());
  }
  static std::string write(T value) { return std::string(kWords[static_cast<std::size_t>(value)]); }
};

/// A type that one piece of text spells.
template <class T>
concept Scalar = requires(std::string_view text) { Form<T>::read(text); };

/// Reads `text` into `member`. Gives what is wrong with it, if anything, without repeating a text that may be a secret.
template <Scalar T, class Rule>
std::optional<std::string> assign(std::string_view text, T& member, const Rule& rule) {
  std::optional<T> value = Form<T>::read(text);
  if (!value) return "must be " + Form<T>::description();
  // Kept although it breaks the rule: what it breaks is told, and that it is missing would be untrue.
  member = *std::move(value);
  if (!rule.holds(member)) return std::string(rule.demand);
  return std::nullopt;
}

}  // namespace sluice::config
