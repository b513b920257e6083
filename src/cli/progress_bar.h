// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/clock.h"

namespace sluice::cli {

enum class ProgressState {
  kWaiting,  // a download of something whose upload has not begun
  kRunning,
  kLive,  // running, and its end is not known: it follows, or is, an upload as it happens
  kDone,
};

struct Progress {
  std::string label;  // any bytes; shown as `printable` makes them
  std::uint64_t bytes = 0;
  std::optional<std::uint64_t> total;  // absent: not known
  double bytes_per_second = 0;         // 0: not known
  ProgressState state = ProgressState::kRunning;
};

/// One line of well-formed UTF-8 without a line end, at most `columns` wide.
std::string format_progress(const Progress& progress, std::size_t columns);

/// The text as a terminal may show it: control characters, bytes that are not UTF-8, and marks that turn the
/// direction of writing become '?'. For everything that a server or a file name had a say in.
std::string printable(std::string_view text);

/// The speed over the last few seconds. Times must not go back; a count that does (a start from zero) begins anew.
class RateMeter {
 public:
  void add(SteadyTime time, std::uint64_t bytes);
  double bytes_per_second() const;  // 0 until there is something to measure

 private:
  std::deque<std::pair<SteadyTime, std::uint64_t>> samples_;
};

/// Everything a transfer command says on standard error. On a terminal it keeps one line up to date, redrawn at most
/// ten times a second; elsewhere it writes whole lines only. One thread.
class ProgressBar {
 public:
  struct Target {
    int descriptor = 2;
    bool is_terminal = false;
    bool quiet = false;  // only `error` writes
  };

  /// `clock` must outlive the bar.
  ProgressBar(Target target, const Clock& clock);
  /// Takes the line off the terminal.
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void set_label(std::string label) { progress_.label = std::move(label); }
  void set_total(std::optional<std::uint64_t> total) { progress_.total = total; }
  /// Off a terminal, the first wait is said in a line.
  void set_state(ProgressState state);
  void update(std::uint64_t bytes);

  /// One line that stays. It is made `printable`.
  void note(std::string_view line);
  /// The last line of a command that succeeded: `what`, its size, its time and speed.
  void finish(std::string_view what);
  /// The last line of a command that failed; written even when quiet.
  void error(std::string_view line);

 private:
  void draw();
  void clear();
  void write_line(std::string_view line);

  Target target_;
  const Clock& clock_;
  SteadyTime started_;
  std::optional<SteadyTime> drawn_;
  bool line_is_drawn_ = false;
  bool wait_was_said_ = false;
  Progress progress_;
  RateMeter rate_;
};

}  // namespace sluice::cli
