// SPDX-License-Identifier: Apache-2.0
#include "cli/put.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <span>

#include "base/file_system.h"
#include "base/text.h"
#include "cli/get.h"
#include "cli/progress_bar.h"

namespace sluice::cli {
namespace {

constexpr int kMaxTries = 5;  // of each request
constexpr Milliseconds kSmallRequestLimit{60'000};
constexpr Milliseconds kMaxCreateWait = kMaxRetryAfter;  // in all, for a URI
// From this size on, asking first costs less than a body sent in vain.
constexpr std::uint64_t kExpectContinueFrom_bytes = 1 << 20;

struct MediaType {
  std::string_view extension;
  std::string_view type;
};

constexpr std::array kMediaTypes = {
    MediaType{"7z", "application/x-7z-compressed"},
    MediaType{"aac", "audio/aac"},
    MediaType{"apng", "image/apng"},
    MediaType{"avif", "image/avif"},
    MediaType{"bmp", "image/bmp"},
    MediaType{"bz2", "application/x-bzip2"},
    MediaType{"css", "text/css"},
    MediaType{"csv", "text/csv"},
    MediaType{"flac", "audio/flac"},
    MediaType{"gif", "image/gif"},
    MediaType{"gz", "application/gzip"},
    MediaType{"heic", "image/heic"},
    MediaType{"heif", "image/heif"},
    MediaType{"htm", "text/html"},
    MediaType{"html", "text/html"},
    MediaType{"jpeg", "image/jpeg"},
    MediaType{"jpg", "image/jpeg"},
    MediaType{"js", "text/javascript"},
    MediaType{"json", "application/json"},
    MediaType{"jxl", "image/jxl"},
    MediaType{"m4a", "audio/mp4"},
    MediaType{"m4v", "video/mp4"},
    MediaType{"md", "text/markdown"},
    MediaType{"mkv", "video/x-matroska"},
    MediaType{"mov", "video/quicktime"},
    MediaType{"mp3", "audio/mpeg"},
    MediaType{"mp4", "video/mp4"},
    MediaType{"oga", "audio/ogg"},
    MediaType{"ogg", "audio/ogg"},
    MediaType{"ogv", "video/ogg"},
    MediaType{"opus", "audio/ogg"},
    MediaType{"pdf", "application/pdf"},
    MediaType{"png", "image/png"},
    MediaType{"svg", "image/svg+xml"},
    MediaType{"tar", "application/x-tar"},
    MediaType{"tif", "image/tiff"},
    MediaType{"tiff", "image/tiff"},
    MediaType{"txt", "text/plain"},
    MediaType{"wav", "audio/wav"},
    MediaType{"weba", "audio/webm"},
    MediaType{"webm", "video/webm"},
    MediaType{"webp", "image/webp"},
    MediaType{"xml", "application/xml"},
    MediaType{"zip", "application/zip"},
    MediaType{"zst", "application/zstd"},
};

// ---- what is sent ----

class Source {
 public:
  static Outcome<Source> open(const std::string& file, int standard_input);

  UploadBody body() const { return {descriptor_, size_}; }
  const std::string& description() const { return description_; }
  /// Back to the beginning, from which `read` bytes have been taken. False where that cannot be.
  bool rewind(std::uint64_t read);

 private:
  FileDescriptor file_;
  int descriptor_ = -1;
  std::optional<std::uint64_t> size_;  // of a regular file; others are sent as they come
  std::string description_;
};

Outcome<Source> Source::open(const std::string& file, int standard_input) {
  Source source;
  if (file == "-") {
    source.descriptor_ = standard_input;
    source.description_ = "standard input";
    return source;
  }
  source.file_ = FileDescriptor(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status{};
  if (!source.file_ || ::fstat(source.file_.get(), &status) != 0) {
    return failed(fmt::format("cannot read {}: {}; check the path", file, std::strerror(errno)));
  }
  if (S_ISDIR(status.st_mode)) return failed(fmt::format("{} is a directory: name a file", file));
  source.descriptor_ = source.file_.get();
  source.description_ = file;
  if (S_ISREG(status.st_mode)) source.size_ = static_cast<std::uint64_t>(status.st_size);
  return source;
}

bool Source::rewind(std::uint64_t read) {
  if (read == 0) return true;
  return size_ && ::lseek(descriptor_, 0, SEEK_SET) == 0;
}

// ---- the upload ----

class Upload {
 public:
  Upload(const PutOptions& options, Source source, ClientSession& session, const ClientEnvironment& environment,
         ProgressBar& bar)
      : options_(options), source_(std::move(source)), session_(session), environment_(environment), bar_(bar) {}

  Outcome<> run();

 private:
  Outcome<Mxc> create_uri();
  Outcome<> print(const Mxc& mxc);
  Outcome<> send(const Mxc& mxc);
  HttpRequest upload_request(const Mxc& mxc, bool is_first_try);
  std::string told_filename() const;

  enum class Stored { kYes, kNotYet, kOtherContent };
  Stored look_whether_stored(const Mxc& mxc);
  bool serves_last_byte(const Mxc& mxc);

  CommandFailure refusal(std::string_view doing, const HttpResponse& response) const;
  Outcome<> pause(const HttpResponse& response, std::string_view what, int tries);

  const PutOptions& options_;
  Source source_;
  ClientSession& session_;
  const ClientEnvironment& environment_;
  ProgressBar& bar_;
};

Outcome<> Upload::run() {
  const Outcome<Mxc> mxc = create_uri();
  if (!mxc) return std::unexpected(mxc.error());
  if (const Outcome<> printed = print(*mxc); !printed) return printed;
  if (const Outcome<> sent = send(*mxc); !sent) return sent;
  if (source_.body().size) bar_.update(*source_.body().size);  // which the last try need not have sent
  bar_.finish(mxc->to_uri());
  return {};
}

Outcome<Mxc> Upload::create_uri() {
  HttpRequest request{.method = "POST", .path = "/_matrix/media/v1/create"};
  request.headers = {"Content-Type: application/json"};
  request.body = "{}";
  request.time_limit = kSmallRequestLimit;

  const SteadyTime give_up_at = environment_.clock->steady() + kMaxCreateWait;
  for (int tries = 1;; ++tries) {
    const HttpResponse response = session_.perform(request);
    if (response.status == 200) {
      const std::optional<Mxc> mxc = Mxc::parse(json_string(response.body, "content_uri").value_or(""));
      if (mxc) return *mxc;
      return failed(fmt::format("{} answered without a valid content_uri; check that it is a Matrix media server",
                                session_.server()));
    }
    if (response.status == 0) {
      return failed(fmt::format("cannot reach {}: {}; {}", session_.server(), response.trouble, advice_for(response)));
    }
    const bool may_wait = environment_.clock->steady() < give_up_at;
    const bool is_limited = response.status == 429 && may_wait;
    const bool is_busy = is_transient(response.status) && tries < kMaxTries;
    if (!is_limited && !is_busy) return std::unexpected(refusal("refused to create a URI", response));
    if (const Outcome<> paused = pause(response, "no URI can be created now", tries); !paused) {
      return std::unexpected(paused.error());
    }
  }
}

// At once, so that the URI can be used while the upload runs.
Outcome<> Upload::print(const Mxc& mxc) {
  const std::string line = mxc.to_uri() + "\n";
  for (std::string_view rest = line; !rest.empty();) {
    const ssize_t written = ::write(environment_.output, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return failed(fmt::format("cannot print the URI: {}", std::strerror(errno)));
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
  return {};
}

Outcome<> Upload::send(const Mxc& mxc) {
  bar_.set_label(source_.description());
  bar_.set_total(source_.body().size);
  bar_.set_state(source_.body().size ? ProgressState::kRunning : ProgressState::kLive);
  bool an_earlier_try_may_be_stored = false;
  for (int tries = 1;; ++tries) {
    const HttpResponse response = session_.perform(upload_request(mxc, tries == 1));
    if (response.end == ExchangeEnd::kWhole && response.status / 100 == 2) return {};
    if (response.end == ExchangeEnd::kStopped) {
      return failed(fmt::format("cannot send {}: {}", source_.description(), response.trouble));
    }

    bool still_held = false;
    if (response.status == 409 && an_earlier_try_may_be_stored) {
      const Stored stored = look_whether_stored(mxc);
      if (stored == Stored::kYes) return {};
      still_held = stored == Stored::kNotYet;  // by the try that broke off, which the server has not noticed yet
    }
    const bool broke_off = response.status < 400;
    const bool may_pass = broke_off || still_held || is_transient(response.status) || response.status == 429;
    if (!may_pass) return std::unexpected(refusal("refused the upload", response));
    if (tries == kMaxTries) {
      return failed(fmt::format("gave up after {} tries: {}; put the file again later, under a new URI", kMaxTries,
                                describe_failure(response)));
    }
    if (!source_.rewind(response.body_read)) {
      return failed(fmt::format("the upload broke off: {}; {} cannot be sent a second time, so put it again",
                                describe_failure(response), source_.description()));
    }
    // A proxy's word that the server failed says no more than a broken connection of what the server did.
    an_earlier_try_may_be_stored |= broke_off || is_transient(response.status);
    if (const Outcome<> paused = pause(response, "the upload broke off", tries); !paused) return paused;
  }
}

HttpRequest Upload::upload_request(const Mxc& mxc, bool is_first_try) {
  const std::string filename = told_filename();
  HttpRequest request{.method = "PUT"};
  request.path = fmt::format("/_matrix/media/v3/upload/{}/{}", percent_encode(mxc.server_name()), mxc.media_id());
  if (!filename.empty()) request.path += "?filename=" + percent_encode(filename);
  const std::string_view type =
      options_.content_type.empty() ? guess_content_type(filename) : std::string_view(options_.content_type);
  request.headers = {fmt::format("Content-Type: {}", type)};
  request.upload = source_.body();
  // After a failure the server is asked first whatever the size: then a refusal cannot be lost in a broken connection.
  request.expect_continue =
      !is_first_try || source_.body().size.value_or(kExpectContinueFrom_bytes + 1) > kExpectContinueFrom_bytes;
  request.on_tick = [this](std::uint64_t body_read) { bar_.update(body_read); };
  return request;
}

std::string Upload::told_filename() const {
  if (!options_.filename.empty()) return options_.filename;
  if (options_.file == "-") return {};
  std::string name = std::filesystem::path(options_.file).filename();
  return is_utf8(name) ? name : std::string();  // a server could only refuse other bytes
}

// A 409 after a try that broke off: is it that try's own content that is in the way?
Upload::Stored Upload::look_whether_stored(const Mxc& mxc) {
  HttpRequest request{.method = "HEAD", .path = download_path(mxc, Milliseconds(0))};
  request.follow_redirects = true;
  request.time_limit = kSmallRequestLimit;
  const HttpResponse response = session_.perform(request);
  const std::uint64_t size = source_.body().size.value_or(0);
  const std::optional<std::string_view> length = response.header("Content-Length");
  if (response.status != 200 || !length) return Stored::kNotYet;
  if (*length != fmt::format("{}", size)) return Stored::kOtherContent;
  return size == 0 || serves_last_byte(mxc) ? Stored::kYes : Stored::kNotYet;
}

// A length alone may be that of an upload that still runs, or hangs. Its last byte is only ever sent once it is stored.
bool Upload::serves_last_byte(const Mxc& mxc) {
  const std::uint64_t size = *source_.body().size;
  std::uint64_t received = 0;
  HttpRequest request{.method = "GET", .path = download_path(mxc, Milliseconds(0))};
  request.follow_redirects = true;
  request.headers = {fmt::format("Range: bytes={}-", size - 1)};
  request.on_body = [&received](std::span<const std::byte> bytes) {
    received += bytes.size();
    return true;
  };
  const HttpResponse response = session_.perform(request);
  if (response.end != ExchangeEnd::kWhole) return false;
  if (response.status == 200) return received == size;  // a server without ranges
  const auto range = parse_content_range(response.header("Content-Range").value_or(""));
  return response.status == 206 && range == ContentRange{size - 1, size - 1, size} && received == 1;
}

CommandFailure Upload::refusal(std::string_view doing, const HttpResponse& response) const {
  const bool is_about_the_id = response.status == 404 || response.status == 409;
  const std::string advice = is_about_the_id ? "put the file again, under a new URI" : advice_for(response);
  return {1, fmt::format("{} {}: {}; {}", session_.server(), doing, describe_failure(response), advice)};
}

Outcome<> Upload::pause(const HttpResponse& response, std::string_view what, int tries) {
  const Milliseconds wait = response.retry_after.value_or(backoff(tries));
  if (wait > kMaxRetryAfter) {
    return failed(fmt::format("{}: {}; the server asks to come back in {}", what, describe_failure(response),
                              describe_wait(wait)));
  }
  bar_.note(fmt::format("{}: {}; trying again in {}", what, describe_failure(response), describe_wait(wait)));
  environment_.sleep(wait);
  return {};
}

}  // namespace

std::string_view guess_content_type(std::string_view filename) {
  const std::size_t dot = filename.rfind('.');
  if (dot != std::string_view::npos) {
    const std::string_view extension = filename.substr(dot + 1);
    for (const MediaType& known : kMediaTypes) {
      if (equals_ignoring_case(known.extension, extension)) return known.type;
    }
  }
  return "application/octet-stream";
}

int put(const PutOptions& options) { return put(options, ClientEnvironment::of_process()); }

int put(const PutOptions& options, const ClientEnvironment& environment) {
  ProgressBar bar({environment.diagnostics, environment.diagnostics_are_a_terminal, options.quiet}, *environment.clock);
  const auto end_with = [&bar](const CommandFailure& failure) {
    bar.error("sluice put: " + failure.line);
    return failure.exit_code;
  };
  if (has_control_characters(options.content_type)) {
    return end_with({2, "the content type holds control characters: give one like image/png"});
  }
  Outcome<Source> source = Source::open(options.file, environment.input);
  if (!source) return end_with(source.error());
  Outcome<ClientSession> session = ClientSession::open(options.server, options.token, environment);
  if (!session) return end_with(session.error());
  const Outcome<> uploaded = Upload(options, *std::move(source), *session, environment, bar).run();
  return uploaded ? 0 : end_with(uploaded.error());
}

}  // namespace sluice::cli
