// SPDX-License-Identifier: Apache-2.0
#include "cli/progress_bar.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/text.h"
#include "base/units.h"

namespace sluice::cli {
namespace {

using Seconds = std::chrono::duration<double>;

constexpr Milliseconds kRedrawInterval{100};
constexpr Milliseconds kRateWindow{5000};
constexpr std::size_t kDefaultColumns = 80;
constexpr std::size_t kMinLabelColumns = 8;
constexpr std::size_t kMinBarColumns = 12;
constexpr std::size_t kMaxBarColumns = 42;
constexpr std::string_view kWaitingWords = "waiting for the upload to begin";
constexpr std::string_view kEllipsis = "…";

struct CodePoint {
  char32_t value = 0;
  std::size_t length = 0;  // bytes
};

// Requires well-formed UTF-8 that is not empty.
CodePoint first_code_point(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(text[i])); };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  char32_t value = lead & (0x7Fu >> length);
  for (std::size_t i = 1; i < length; ++i) value = value << 6 | (byte(i) & 0x3F);
  return {value, length};
}

struct CodeRange {
  char32_t first;
  char32_t last;
};

template <std::size_t N>
bool is_in(char32_t value, const std::array<CodeRange, N>& ranges) {
  return std::ranges::any_of(ranges, [value](CodeRange range) { return value >= range.first && value <= range.last; });
}

// Near enough to what terminals do (Unicode's East Asian Width and combining marks), whatever the locale.
std::size_t columns_of(char32_t value) {
  static constexpr std::array kNone = {CodeRange{0x300, 0x36F},   CodeRange{0x483, 0x489},   CodeRange{0x591, 0x5BD},
                                       CodeRange{0x64B, 0x65F},   CodeRange{0x200B, 0x200D}, CodeRange{0x20D0, 0x20FF},
                                       CodeRange{0xFE00, 0xFE0F}, CodeRange{0xFE20, 0xFE2F}};
  static constexpr std::array kTwo = {
      CodeRange{0x1100, 0x115F}, CodeRange{0x2E80, 0xA4CF}, CodeRange{0xAC00, 0xD7A3},   CodeRange{0xF900, 0xFAFF},
      CodeRange{0xFE30, 0xFE6F}, CodeRange{0xFF00, 0xFF60}, CodeRange{0x1F300, 0x1FAFF}, CodeRange{0x20000, 0x3FFFD}};
  if (is_in(value, kNone)) return 0;
  return is_in(value, kTwo) ? 2 : 1;
}

bool is_unprintable(char32_t value) {
  static constexpr std::array kUnprintable = {CodeRange{0x00, 0x1F},     CodeRange{0x7F, 0x9F},
                                              CodeRange{0x200E, 0x200F}, CodeRange{0x2028, 0x202E},
                                              CodeRange{0x2066, 0x2069}, CodeRange{0xFEFF, 0xFEFF}};
  return is_in(value, kUnprintable);
}

std::size_t columns_of(std::string_view text) {
  std::size_t columns = 0;
  while (!text.empty()) {
    const CodePoint point = first_code_point(text);
    columns += columns_of(point.value);
    text.remove_prefix(point.length);
  }
  return columns;
}

std::string shortened(std::string_view text, std::size_t columns) {
  if (columns_of(text) <= columns) return std::string(text);
  if (columns == 0) return {};
  std::size_t end = 0;
  for (std::size_t used = 1; end < text.size();) {  // the ellipsis takes one column
    const CodePoint point = first_code_point(text.substr(end));
    used += columns_of(point.value);
    if (used > columns) break;
    end += point.length;
  }
  return fmt::format("{}{}", text.substr(0, end), kEllipsis);
}

std::string describe_time_left(double seconds) {
  constexpr double kLongest_s = 100.0 * 3600;
  if (seconds >= kLongest_s) return "over 99h left";
  const auto whole = static_cast<std::uint64_t>(seconds + 0.5);
  if (whole >= 3600) return fmt::format("{}:{:02}:{:02} left", whole / 3600, whole / 60 % 60, whole % 60);
  return fmt::format("{}:{:02} left", whole / 60, whole % 60);
}

std::string describe_rate(double bytes_per_second) {
  return fmt::format("{}/s", describe_byte_size(static_cast<std::uint64_t>(bytes_per_second)));
}

std::string describe_elapsed(Seconds time) {
  if (time < Seconds(10)) return fmt::format("{:.1f}s", time.count());
  const auto whole = static_cast<std::uint64_t>(time.count());
  if (whole < 60) return fmt::format("{}s", whole);
  if (whole < 3600) return fmt::format("{}m {}s", whole / 60, whole % 60);
  return fmt::format("{}h {}m", whole / 3600, whole / 60 % 60);
}

double done_fraction(const Progress& progress) {
  if (*progress.total == 0) return 1;
  return std::min(1.0, static_cast<double>(progress.bytes) / static_cast<double>(*progress.total));
}

// What is known in numbers and words, all of it ASCII.
std::string describe_numbers(const Progress& progress) {
  if (progress.state == ProgressState::kWaiting) return std::string(kWaitingWords);
  std::string text = describe_byte_size(progress.bytes);
  if (progress.total && progress.state != ProgressState::kDone) {
    text += fmt::format(" of {}", describe_byte_size(*progress.total));
  }
  if (progress.bytes_per_second >= 1) text += fmt::format("  {}", describe_rate(progress.bytes_per_second));
  if (progress.state == ProgressState::kDone) return text + "  done";
  if (progress.total && progress.bytes_per_second >= 1 && *progress.total > progress.bytes) {
    const auto left = static_cast<double>(*progress.total - progress.bytes);
    text += fmt::format("  {}", describe_time_left(left / progress.bytes_per_second));
  }
  if (progress.state == ProgressState::kLive) text += "  live";
  return text;
}

std::string draw_bar(double fraction, std::size_t columns) {
  const std::size_t inside = columns - 2;
  const auto full = static_cast<std::size_t>(fraction * static_cast<double>(inside));
  std::string bar(full, '=');
  if (full < inside) bar += '>';
  bar.resize(inside, ' ');
  return fmt::format("[{}]", bar);
}

std::size_t terminal_columns(int descriptor) {
  winsize size{};
  if (::ioctl(descriptor, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kDefaultColumns;
  return size.ws_col;
}

void write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;  // nobody is left to be told
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace

std::string printable(std::string_view text) {
  std::string shown;
  shown.reserve(text.size());
  while (!text.empty()) {
    // A code point is at most four bytes: the shortest well-formed beginning is one code point.
    std::size_t length = 1;
    while (length <= std::min<std::size_t>(4, text.size()) && !is_utf8(text.substr(0, length))) ++length;
    if (length > std::min<std::size_t>(4, text.size())) {
      shown += '?';
      text.remove_prefix(1);
      continue;
    }
    if (is_unprintable(first_code_point(text).value)) {
      shown += '?';
    } else {
      shown += text.substr(0, length);
    }
    text.remove_prefix(length);
  }
  return shown;
}

std::string format_progress(const Progress& progress, std::size_t columns) {
  const std::string numbers = describe_numbers(progress);
  if (numbers.size() >= columns) return numbers.substr(0, columns);

  const std::size_t room = columns - numbers.size();
  std::string label = printable(progress.label);
  if (room < kMinLabelColumns + 2 || label.empty()) return numbers;
  label = shortened(label, std::max(kMinLabelColumns, std::min(columns / 3, room - 2)));

  std::string line = label + "  ";
  const bool is_moving = progress.state == ProgressState::kRunning || progress.state == ProgressState::kLive;
  if (is_moving && progress.total) {
    const double fraction = done_fraction(progress);
    const std::size_t used = columns_of(line) + numbers.size();
    constexpr std::size_t kPercentColumns = 6;  // "100%  "
    if (used + kPercentColumns + kMinBarColumns + 2 <= columns) {
      const std::size_t bar_columns = std::min(kMaxBarColumns, columns - used - kPercentColumns - 2);
      line += fmt::format("{:3}%  {}  ", static_cast<int>(fraction * 100), draw_bar(fraction, bar_columns));
    } else if (used + kPercentColumns <= columns) {
      line += fmt::format("{:3}%  ", static_cast<int>(fraction * 100));
    }
  }
  return line + numbers;
}

void RateMeter::add(SteadyTime time, std::uint64_t bytes) {
  if (!samples_.empty() && bytes < samples_.back().second) samples_.clear();
  samples_.emplace_back(time, bytes);
  while (samples_.size() > 2 && time - samples_[1].first >= kRateWindow) samples_.pop_front();
}

double RateMeter::bytes_per_second() const {
  if (samples_.size() < 2) return 0;
  const Seconds time = samples_.back().first - samples_.front().first;
  if (time <= Seconds(0)) return 0;
  return static_cast<double>(samples_.back().second - samples_.front().second) / time.count();
}

ProgressBar::ProgressBar(Target target, const Clock& clock)
    : target_(target), clock_(clock), started_(clock.steady()) {}

ProgressBar::~ProgressBar() { clear(); }

void ProgressBar::set_state(ProgressState state) {
  if (progress_.state == state) return;
  progress_.state = state;
  if (target_.is_terminal) {
    draw();
  } else if (state == ProgressState::kWaiting && !wait_was_said_) {
    wait_was_said_ = true;
    note(kWaitingWords);
  }
}

void ProgressBar::update(std::uint64_t bytes) {
  progress_.bytes = bytes;
  if (!target_.is_terminal || target_.quiet) return;
  const SteadyTime now = clock_.steady();
  if (drawn_ && now - *drawn_ < kRedrawInterval) return;
  rate_.add(now, bytes);
  progress_.bytes_per_second = rate_.bytes_per_second();
  draw();
}

void ProgressBar::note(std::string_view line) {
  if (!target_.quiet) write_line(line);
}

void ProgressBar::finish(std::string_view what) {
  progress_.state = ProgressState::kDone;
  if (target_.quiet) return;
  const Seconds time = clock_.steady() - started_;
  const double rate = time > Seconds(0) ? static_cast<double>(progress_.bytes) / time.count() : 0;
  write_line(fmt::format("{}: {} in {}{}, done", what, describe_byte_size(progress_.bytes), describe_elapsed(time),
                         rate >= 1 ? fmt::format(" ({})", describe_rate(rate)) : ""));
}

void ProgressBar::error(std::string_view line) { write_line(line); }

void ProgressBar::draw() {
  if (target_.quiet) return;
  drawn_ = clock_.steady();
  line_is_drawn_ = true;
  // One column is left free: a full line would make some terminals scroll.
  const std::size_t columns = terminal_columns(target_.descriptor) - 1;
  write_all(target_.descriptor, fmt::format("\r\x1b[K{}", format_progress(progress_, columns)));
}

void ProgressBar::clear() {
  if (!line_is_drawn_) return;
  line_is_drawn_ = false;
  write_all(target_.descriptor, "\r\x1b[K");
}

void ProgressBar::write_line(std::string_view line) {
  clear();
  write_all(target_.descriptor, printable(line) + "\n");
  drawn_.reset();
}

}  // namespace sluice::cli
