// SPDX-License-Identifier: Apache-2.0
#include "cli/get.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "base/file_system.h"
#include "base/text.h"
#include "base/units.h"
#include "cli/progress_bar.h"
#include "http/content_disposition.h"

namespace sluice::cli {
namespace {

constexpr Milliseconds kDefaultWait = std::chrono::hours(24);
// How long one request asks the server to wait: the specification's default, which every proxy on the way must stand.
constexpr Milliseconds kServerWait{20'000};
constexpr Milliseconds kSilenceBeforeWaiting{1'000};  // after which no response means that the upload has not begun
constexpr int kMaxTriesWithoutProgress = 10;
constexpr std::size_t kMaxFileName_bytes =
    200;  // of the 255 that file systems allow; " (9999)" and ".part" come on top
constexpr int kMaxNumberedNames = 9999;

std::string system_error_text(int error) { return std::strerror(error); }

// ---- where the bytes go ----

/// A descriptor that only takes (standard output, a device), or FILE.part that becomes FILE at the end.
class Output {
 public:
  Output(std::string option, int standard_output) : option_(std::move(option)), standard_output_(standard_output) {}

  /// What can be told before anything is asked: that a file cannot be made there.
  Outcome<> check() const;
  /// Opens; `name` is used when the user gave none.
  Outcome<> open(const std::string& name);
  bool is_open() const { return is_open_; }
  Outcome<> write(std::span<const std::byte> bytes);
  /// Forgets all that was written. Fails where that cannot be.
  Outcome<> restart();
  /// Gives the file its name. Yields what the user calls the output.
  Outcome<std::string> commit();

 private:
  Outcome<> open_part(const std::string& target, int flags);
  Outcome<> open_free_name(const std::string& name);
  static std::string numbered(const std::string& name, int number);

  std::string option_;
  int standard_output_;
  bool is_open_ = false;
  FileDescriptor file_;
  int descriptor_ = -1;
  std::string name_;    // as the server's word became one; empty with an option
  std::string target_;  // empty: only takes
  bool wrote_ = false;
};

std::string resolved(const std::string& path) {
  std::error_code error;
  const std::filesystem::path canonical = std::filesystem::canonical(path, error);
  return error ? path : canonical.string();
}

bool is_special_file(const std::string& path) {
  struct stat status{};
  return ::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode);
}

Outcome<> Output::check() const {
  if (option_ == "-") return {};
  struct stat status{};
  if (!option_.empty() && ::stat(option_.c_str(), &status) == 0) {
    if (S_ISDIR(status.st_mode)) return failed(fmt::format("{} is a directory: name a file with -o", option_));
    if (!S_ISREG(status.st_mode)) return {};
  }
  std::string directory = std::filesystem::path(resolved(option_)).parent_path();
  if (directory.empty()) directory = ".";
  if (::access(directory.c_str(), W_OK | X_OK) != 0) {
    return failed(
        fmt::format("cannot write into {}: {}; choose another place with -o", directory, system_error_text(errno)));
  }
  return {};
}

Outcome<> Output::open(const std::string& name) {
  is_open_ = true;
  if (option_.empty()) return open_free_name(name);
  if (option_ == "-") {
    descriptor_ = standard_output_;
    return {};
  }
  if (!is_special_file(option_)) return open_part(resolved(option_), O_TRUNC);
  file_ = FileDescriptor(::open(option_.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file_) return failed(fmt::format("cannot open {}: {}", option_, system_error_text(errno)));
  descriptor_ = file_.get();
  return {};
}

Outcome<> Output::open_part(const std::string& target, int flags) {
  constexpr mode_t kMode = 0666;  // less what the umask takes
  const std::string part = target + ".part";
  file_ = FileDescriptor(::open(part.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | flags, kMode));
  if (!file_) {
    return failed(fmt::format("cannot open {}: {}; choose another place with -o", part, system_error_text(errno)));
  }
  descriptor_ = file_.get();
  target_ = target;
  return {};
}

Outcome<> Output::open_free_name(const std::string& name) {
  name_ = name;
  for (int number = 0; number <= kMaxNumberedNames; ++number) {
    const std::string candidate = numbered(name, number);
    struct stat status{};
    if (::lstat(candidate.c_str(), &status) == 0 || ::lstat((candidate + ".part").c_str(), &status) == 0) continue;
    return open_part(candidate, O_EXCL);
  }
  return failed(fmt::format("there are too many files named like {}: name one with -o", name));
}

std::string Output::numbered(const std::string& name, int number) {
  if (number == 0) return name;
  const std::filesystem::path path(name);
  return fmt::format("{} ({}){}", path.stem().string(), number, path.extension().string());
}

Outcome<> Output::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      const std::string where = target_.empty() ? "the output" : target_ + ".part";
      return failed(fmt::format("cannot write to {}: {}", where, system_error_text(errno)));
    }
    wrote_ = true;
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return {};
}

Outcome<> Output::restart() {
  if (!wrote_) return {};
  if (target_.empty()) {
    return failed("the download has to start over, but its beginning is already written to the output: use -o FILE");
  }
  if (::ftruncate(descriptor_, 0) != 0 || ::lseek(descriptor_, 0, SEEK_SET) != 0) {
    return failed(fmt::format("cannot truncate {}.part: {}", target_, system_error_text(errno)));
  }
  wrote_ = false;
  return {};
}

Outcome<std::string> Output::commit() {
  if (target_.empty()) return option_ == "-" ? "standard output" : option_;
  const std::string part = target_ + ".part";
  if (!option_.empty()) {
    if (::rename(part.c_str(), target_.c_str()) == 0) return option_;
    return failed(fmt::format("cannot rename {} to {}: {}", part, target_, system_error_text(errno)));
  }
  // A file of that name may have come meanwhile; it is never replaced.
  for (int number = 0; number <= kMaxNumberedNames; ++number) {
    const std::string candidate = numbered(name_, number);
    if (::renameat2(AT_FDCWD, part.c_str(), AT_FDCWD, candidate.c_str(), RENAME_NOREPLACE) == 0) return candidate;
    if (errno == EINVAL && ::link(part.c_str(), candidate.c_str()) == 0) {  // a file system that lacks that rename
      ::unlink(part.c_str());
      return candidate;
    }
    if (errno != EEXIST) {
      return failed(fmt::format("cannot rename {} to {}: {}", part, candidate, system_error_text(errno)));
    }
  }
  return failed(fmt::format("all names like {} are taken; the content is in {}", name_, part));
}

// ---- the download ----

class Download {
 public:
  Download(const Mxc& mxc, const GetOptions& options, ClientSession& session, const ClientEnvironment& environment,
           ProgressBar& bar)
      : mxc_(mxc),
        session_(session),
        environment_(environment),
        bar_(bar),
        output_(options.output, environment.output),
        wait_(options.wait.value_or(kDefaultWait)) {}

  Outcome<> run();

 private:
  enum class Next { kDone, kAskAgain };

  Outcome<Next> attempt();
  HttpRequest next_request();
  Outcome<> take_head(const HttpResponse& response);
  Outcome<> take_whole_head(const HttpResponse& response);
  Outcome<> take_rest_head(const HttpResponse& response);
  Outcome<> take_bytes(std::span<const std::byte> bytes);
  Outcome<Next> after_content(const HttpResponse& response);
  Outcome<Next> after_unsatisfied_range(const HttpResponse& response);
  Outcome<Next> after_not_yet_uploaded();
  Outcome<Next> after_no_response(const HttpResponse& response);
  Outcome<Next> ask_again_later(const std::string& why, std::optional<Milliseconds> retry_after);
  Outcome<> start_over();
  bool take(const Outcome<>& outcome);
  SteadyTime now() const { return environment_.clock->steady(); }

  const Mxc& mxc_;
  ClientSession& session_;
  const ClientEnvironment& environment_;
  ProgressBar& bar_;
  Output output_;
  const Milliseconds wait_;

  std::uint64_t received_ = 0;
  std::string etag_;  // names the content whose first bytes are here; empty: it cannot be resumed
  std::optional<std::uint64_t> total_;
  std::uint64_t furthest_ = 0;
  int tries_without_progress_ = 0;
  int early_answers_ = 0;  // in a row: the server answered "not yet" sooner than it was asked to
  bool server_has_answered_ = false;
  SteadyTime waiting_since_{};
  SteadyTime asked_at_{};
  Milliseconds asked_wait_{0};
  std::optional<CommandFailure> failure_;  // of a callback, which could only stop the exchange
};

Outcome<> Download::run() {
  if (const Outcome<> writable = output_.check(); !writable) return writable;
  waiting_since_ = now();
  bar_.set_label(mxc_.media_id());
  for (;;) {
    const Outcome<Next> next = attempt();
    if (!next) return std::unexpected(next.error());
    if (*next == Next::kDone) break;
  }
  const Outcome<std::string> name = output_.commit();
  if (!name) return std::unexpected(name.error());
  bar_.finish(*name);
  return {};
}

Outcome<Download::Next> Download::attempt() {
  if (received_ > 0 && etag_.empty()) {
    if (const Outcome<> started_over = start_over(); !started_over) return std::unexpected(started_over.error());
  }
  const HttpResponse response = session_.perform(next_request());
  if (failure_) return std::unexpected(*failure_);
  server_has_answered_ = server_has_answered_ || response.status != 0;

  if (response.status == 200 || response.status == 206) return after_content(response);
  if (response.status == 416 && received_ > 0) return after_unsatisfied_range(response);
  if (response.status == 0) return after_no_response(response);
  if (errcode_of(response) == "M_NOT_YET_UPLOADED") return after_not_yet_uploaded();
  if (response.status == 429 || is_transient(response.status)) {
    return ask_again_later(describe_failure(response), response.retry_after);
  }
  const std::string advice =
      response.status == 404 ? "check the MXC URI, and that --server serves it" : advice_for(response);
  return failed(fmt::format("{} refused: {}; {}", session_.server(), describe_failure(response), advice));
}

HttpRequest Download::next_request() {
  asked_at_ = now();
  const auto waited = std::chrono::duration_cast<Milliseconds>(asked_at_ - waiting_since_);
  asked_wait_ = std::clamp(wait_ - waited, Milliseconds(0), kServerWait);

  HttpRequest request{.method = "GET", .path = download_path(mxc_, asked_wait_), .follow_redirects = true};
  if (received_ > 0) {
    request.headers = {fmt::format("Range: bytes={}-", received_), "If-Range: " + etag_};
  }
  request.on_head = [this](const HttpResponse& response) { return take(take_head(response)); };
  request.on_body = [this](std::span<const std::byte> bytes) { return take(take_bytes(bytes)); };
  request.on_tick = [this](std::uint64_t) {
    if (waiting_since_ > asked_at_) {
      bar_.update(received_);  // so that the rate falls while nothing comes
    } else if (now() - asked_at_ > kSilenceBeforeWaiting) {
      bar_.set_state(ProgressState::kWaiting);
    }
  };
  return request;
}

bool Download::take(const Outcome<>& outcome) {
  if (outcome) return true;
  failure_ = outcome.error();
  return false;
}

Outcome<> Download::take_head(const HttpResponse& response) {
  if (response.status == 206) return take_rest_head(response);
  if (response.status == 200) return take_whole_head(response);
  return {};
}

// The content from its first byte: the first response, or another content than the one whose beginning is here.
Outcome<> Download::take_whole_head(const HttpResponse& response) {
  if (received_ > 0) {
    if (const Outcome<> started_over = start_over(); !started_over) return started_over;
    bar_.note("the server sends the content from its beginning: starting over");
  }
  if (!output_.is_open()) {
    const std::string said = http::filename_of(response.header("Content-Disposition").value_or(""));
    const std::string name = safe_file_name(said, mxc_.media_id());
    if (const Outcome<> opened = output_.open(name); !opened) return opened;
    bar_.set_label(name);
  }
  const std::string_view etag = response.header("ETag").value_or("");
  etag_ = etag.starts_with('"') ? etag : "";  // If-Range takes strong ones only (RFC 9110, section 13.1.5)
  total_.reset();
  if (const auto length = response.header("Content-Length")) {
    std::uint64_t bytes = 0;
    if (std::from_chars(length->data(), length->data() + length->size(), bytes).ec == std::errc{}) total_ = bytes;
  }
  waiting_since_ = now();
  bar_.set_total(total_);
  bar_.set_state(total_ ? ProgressState::kRunning : ProgressState::kLive);
  return {};
}

Outcome<> Download::take_rest_head(const HttpResponse& response) {
  const auto range = parse_content_range(response.header("Content-Range").value_or(""));
  if (received_ == 0 || !range || range->first != received_) {
    return failed(fmt::format("the server sent another range than was asked for ({}); try again",
                              response.header("Content-Range").value_or("no Content-Range")));
  }
  const std::string_view etag = response.header("ETag").value_or(etag_);
  if (etag != etag_ || (range->total && total_ && range->total != total_)) {
    return failed("the server sent the rest of another content than was asked for; try again");
  }
  if (range->total) total_ = range->total;
  waiting_since_ = now();
  bar_.set_total(total_);
  bar_.set_state(total_ ? ProgressState::kRunning : ProgressState::kLive);
  return {};
}

Outcome<> Download::take_bytes(std::span<const std::byte> bytes) {
  if (const Outcome<> written = output_.write(bytes); !written) return written;
  received_ += bytes.size();
  waiting_since_ = now();
  if (received_ > furthest_) {
    furthest_ = received_;
    tries_without_progress_ = 0;
  }
  bar_.update(received_);
  return {};
}

Outcome<Download::Next> Download::after_content(const HttpResponse& response) {
  early_answers_ = 0;
  if (total_ && received_ > *total_) {
    return failed(fmt::format("the server sent {} bytes of {}; try again", received_, *total_));
  }
  if (total_ ? received_ == *total_ : response.end == ExchangeEnd::kWhole && response.status == 200) return Next::kDone;
  // A whole 206 need not be the whole rest.
  const std::string trouble = response.trouble.empty() ? "the response ended early" : response.trouble;
  return ask_again_later(fmt::format("broke off after {} ({})", describe_byte_size(received_), trouble), std::nullopt);
}

Outcome<Download::Next> Download::after_unsatisfied_range(const HttpResponse& response) {
  const auto range = parse_content_range(response.header("Content-Range").value_or(""));
  const bool is_whole = range && range->total == received_ && total_.value_or(received_) == received_;
  if (is_whole) return Next::kDone;
  if (const Outcome<> started_over = start_over(); !started_over) return std::unexpected(started_over.error());
  return ask_again_later("the server cannot go on from there: starting over", std::nullopt);
}

Outcome<Download::Next> Download::after_not_yet_uploaded() {
  const auto waited = std::chrono::duration_cast<Milliseconds>(now() - waiting_since_);
  if (waited >= wait_ && received_ > 0) {
    return failed(fmt::format("the upload of {} broke off after {}, and did not begin anew within {}", mxc_.to_uri(),
                              describe_byte_size(received_), format_duration(wait_)));
  }
  if (waited >= wait_) {
    return failed(fmt::format("nothing was uploaded to {} within {}; wait longer with --wait", mxc_.to_uri(),
                              format_duration(wait_)));
  }
  bar_.set_state(ProgressState::kWaiting);
  // A server that holds too many waiting downloads answers at once.
  const bool is_early = now() - asked_at_ < asked_wait_ / 2;
  early_answers_ = is_early ? early_answers_ + 1 : 0;
  if (is_early) environment_.sleep(std::min(backoff(early_answers_), wait_ - waited));
  return Next::kAskAgain;
}

Outcome<Download::Next> Download::after_no_response(const HttpResponse& response) {
  if (response.end == ExchangeEnd::kUnreachable && !server_has_answered_) {
    return failed(fmt::format("cannot reach {}: {}; {}", session_.server(), response.trouble, advice_for(response)));
  }
  return ask_again_later(response.trouble, std::nullopt);
}

Outcome<Download::Next> Download::ask_again_later(const std::string& why, std::optional<Milliseconds> retry_after) {
  if (++tries_without_progress_ > kMaxTriesWithoutProgress) {
    return failed(
        fmt::format("gave up after {} tries without progress: {}; try again later", kMaxTriesWithoutProgress, why));
  }
  const Milliseconds wait = retry_after.value_or(backoff(tries_without_progress_));
  if (wait > kMaxRetryAfter) {
    return failed(fmt::format("{}; the server asks to come back in {}", why, describe_wait(wait)));
  }
  bar_.note(fmt::format("{}; asking again in {}", why, describe_wait(wait)));
  environment_.sleep(wait);
  return Next::kAskAgain;
}

Outcome<> Download::start_over() {
  if (const Outcome<> restarted = output_.restart(); !restarted) return restarted;
  received_ = 0;
  etag_.clear();
  total_.reset();
  bar_.set_total(std::nullopt);
  bar_.update(0);
  return {};
}

}  // namespace

std::string safe_file_name(std::string_view name, std::string_view fallback) {
  if (const std::size_t slash = name.find_last_of("/\\"); slash != std::string_view::npos)
    name.remove_prefix(slash + 1);
  // What a terminal should not show, a directory listing should not hold.
  std::string safe = printable(name);
  std::erase(safe, '?');  // also refused by some file systems
  const std::size_t first = safe.find_first_not_of(". ");
  safe.erase(0, std::min(first, safe.size()));
  safe.erase(safe.find_last_not_of(' ') + 1);
  if (safe.size() > kMaxFileName_bytes) {
    const std::string extension = std::filesystem::path(safe).extension();
    const bool keeps_extension = extension.size() < kMaxFileName_bytes / 4;
    safe.resize(kMaxFileName_bytes - (keeps_extension ? extension.size() : 0));
    while (!is_utf8(safe)) safe.pop_back();
    if (keeps_extension) safe += extension;
  }
  return safe.empty() ? std::string(fallback) : safe;
}

std::optional<ContentRange> parse_content_range(std::string_view field) {
  constexpr std::string_view kUnit = "bytes ";
  if (!equals_ignoring_case(field.substr(0, kUnit.size()), kUnit)) return std::nullopt;
  field = trim(field.substr(kUnit.size()));

  const auto take_number = [&field]() -> std::optional<std::uint64_t> {
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), number);
    if (error != std::errc{}) return std::nullopt;
    field.remove_prefix(static_cast<std::size_t>(end - field.data()));
    return number;
  };
  const auto take_sign = [&field](char sign) {
    if (!field.starts_with(sign)) return false;
    field.remove_prefix(1);
    return true;
  };

  ContentRange range;
  if (!take_sign('*')) {
    range.first = take_number();
    if (!range.first || !take_sign('-')) return std::nullopt;
    range.last = take_number();
    if (!range.last || *range.last < *range.first) return std::nullopt;
  }
  if (!take_sign('/')) return std::nullopt;
  if (!take_sign('*')) {
    range.total = take_number();
    if (!range.total || (range.last && *range.last >= *range.total)) return std::nullopt;
  }
  if (!field.empty()) return std::nullopt;
  return range;
}

int get(const GetOptions& options) { return get(options, ClientEnvironment::of_process()); }

int get(const GetOptions& options, const ClientEnvironment& environment) {
  ProgressBar bar({environment.diagnostics, environment.diagnostics_are_a_terminal, options.quiet}, *environment.clock);
  const auto end_with = [&bar](const CommandFailure& failure) {
    bar.error("sluice get: " + failure.line);
    return failure.exit_code;
  };
  const std::optional<Mxc> mxc = Mxc::parse(options.mxc);
  if (!mxc) {
    return end_with({2, fmt::format("'{}' is not an MXC URI: give one like mxc://example.org/abc123", options.mxc)});
  }
  Outcome<ClientSession> session = ClientSession::open(options.server, options.token, environment);
  if (!session) return end_with(session.error());
  const Outcome<> downloaded = Download(*mxc, options, *session, environment, bar).run();
  return downloaded ? 0 : end_with(downloaded.error());
}

}  // namespace sluice::cli
