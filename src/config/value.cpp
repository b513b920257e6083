// SPDX-License-Identifier: Apache-2.0
#include "config/value.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "base/text.h"
#include "base/units.h"

namespace sluice::config {
namespace {

using std::chrono::days;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using std::chrono::sys_days;

template <class Number>
std::optional<Number> read_number(std::string_view text) {
  Number number{};
  const char* const text_end = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), text_end, number);
  if (error != std::errc{} || end != text_end) return std::nullopt;
  return number;
}

/// Takes parts off the front of a text; remembers whether one was missing.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : rest_(text) {}

  bool accept(std::string_view one_of) {
    if (rest_.empty() || !one_of.contains(rest_.front())) return false;
    rest_.remove_prefix(1);
    return true;
  }
  void expect(std::string_view one_of) { good_ = accept(one_of) && good_; }
  /// A number of exactly `count` digits, at least `low` and at most `high`.
  int number(std::size_t count, int low, int high) {
    int value = 0;
    for (std::size_t i = 0; i < count; ++i) value = value * 10 + digit();
    good_ = good_ && value >= low && value <= high;
    return value;
  }
  /// The milliseconds in a decimal fraction of a second, whose point was taken already.
  milliseconds fraction() {
    int value = 0;
    int scale = 100;
    do {
      value += digit() * scale;
      scale /= 10;
    } while (good_ && at_digit());
    return milliseconds(value);
  }
  bool at_end() const { return rest_.empty(); }
  bool good() const { return good_; }

 private:
  bool at_digit() const { return !rest_.empty() && rest_.front() >= '0' && rest_.front() <= '9'; }
  int digit() {
    good_ = good_ && at_digit();
    if (!good_) return 0;
    const int value = rest_.front() - '0';
    rest_.remove_prefix(1);
    return value;
  }

  std::string_view rest_;
  bool good_ = true;
};

bool is_address(int family, std::string_view text) {
  in6_addr ignored;
  return !text.contains('\0') && ::inet_pton(family, std::string(text).c_str(), &ignored) == 1;
}

}  // namespace

std::optional<std::string> Form<std::string>::read(std::string_view text) {
  if (!is_utf8(text) || has_control_characters(text)) return std::nullopt;
  return std::string(text);
}

std::optional<bool> Form<bool>::read(std::string_view text) {
  if (equals_ignoring_case(text, "true")) return true;
  if (equals_ignoring_case(text, "false")) return false;
  return std::nullopt;
}

std::optional<std::uint32_t> Form<std::uint32_t>::read(std::string_view text) {
  return read_number<std::uint32_t>(text);
}

std::optional<std::uint64_t> Form<std::uint64_t>::read(std::string_view text) { return parse_byte_size(text); }
std::string Form<std::uint64_t>::write(std::uint64_t value) { return format_byte_size(value); }

std::optional<double> Form<double>::read(std::string_view text) {
  const std::optional<double> number = read_number<double>(text);
  return number && std::isfinite(*number) ? number : std::nullopt;
}
std::string Form<double>::write(double value) { return fmt::format("{}", value); }

std::optional<milliseconds> Form<milliseconds>::read(std::string_view text) { return parse_duration(text); }
std::string Form<milliseconds>::write(milliseconds value) { return format_duration(value); }

std::optional<WallTime> Form<WallTime>::read(std::string_view text) {
  Scanner scanner(text);
  const std::chrono::year year(scanner.number(4, 1970, 9999));
  scanner.expect("-");
  const std::chrono::month month(static_cast<unsigned>(scanner.number(2, 1, 12)));
  scanner.expect("-");
  const std::chrono::day day(static_cast<unsigned>(scanner.number(2, 1, 31)));
  const std::chrono::year_month_day date(year, month, day);
  if (!scanner.good() || !date.ok()) return std::nullopt;
  WallTime time = sys_days(date);
  if (!scanner.at_end()) {
    scanner.expect("Tt ");
    time += hours(scanner.number(2, 0, 23));
    scanner.expect(":");
    time += minutes(scanner.number(2, 0, 59));
    scanner.expect(":");
    time += seconds(scanner.number(2, 0, 60));  // 60 is a leap second, which POSIX time does not tell from the next
    if (scanner.accept(".")) time += scanner.fraction();
    if (!scanner.accept("Zz")) {
      const bool ahead = scanner.accept("+");
      if (!ahead) scanner.expect("-");
      const hours offset_hours(scanner.number(2, 0, 23));
      scanner.expect(":");
      const minutes offset = offset_hours + minutes(scanner.number(2, 0, 59));
      time += ahead ? -offset : offset;
    }
  }
  constexpr WallTime kEnd = sys_days(std::chrono::year(10'000) / 1 / 1);  // an offset can lead out of four digits
  if (!scanner.good() || !scanner.at_end() || time < WallTime{} || time >= kEnd) return std::nullopt;
  return time;
}

std::string Form<WallTime>::write(WallTime value) {
  const sys_days day = std::chrono::floor<days>(value);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss time(value - day);
  std::string text = fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", static_cast<int>(date.year()),
                                 static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                                 time.hours().count(), time.minutes().count(), time.seconds().count());
  if (time.subseconds().count() != 0) text += fmt::format(".{:03}", time.subseconds().count());
  return text + "Z";
}

std::optional<Endpoint> Form<Endpoint>::read(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  std::string_view host = text.substr(0, colon);
  const std::optional<std::uint16_t> port = read_number<std::uint16_t>(text.substr(colon + 1));
  if (!port) return std::nullopt;
  if (equals_ignoring_case(host, "localhost")) return Endpoint{"localhost", *port};
  if (is_address(AF_INET, host)) return Endpoint{std::string(host), *port};
  if (!host.starts_with('[') || !host.ends_with(']')) return std::nullopt;
  host = host.substr(1, host.size() - 2);
  if (!is_address(AF_INET6, host)) return std::nullopt;
  return Endpoint{std::string(host), *port};
}

}  // namespace sluice::config
