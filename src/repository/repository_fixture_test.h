// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <functional>
#include <future>
#include <latch>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/faulty_file_system_test.h"
#include "base/temporary_directory_test.h"
#include "blobs/folder_store.h"
#include "catalog/sqlite_catalog.h"
#include "repository/caller_double_test.h"
#include "repository/hooked_catalog_test.h"
#include "repository/repository.h"
#include "repository/settable_clock_test.h"
#include "runtime/run_on_loop_test.h"
#include "thumbnails/worker_double_test.h"

namespace sluice::repository {

// Longer than any test takes, so that who sleeps until then has missed what should have woken it.
inline constexpr Milliseconds kForever = std::chrono::minutes(2);

inline const auth::Requester kAlice{.user = "@alice:example.org"};
inline const auth::Requester kMallory{.user = "@mallory:example.org"};
inline const auth::Requester kAdmin{.user = "@admin:example.org", .admin = true};
inline const auth::Requester kGuest{.user = "@guest:example.org", .guest = true};

using UploadPtr = std::unique_ptr<Upload>;

/// What a reader has got.
struct Outcome {
  std::optional<Error> error;  // of opening; nothing below but the report then
  std::string content;
  bool was_live = false;
  bool is_whole = false;
  std::uint64_t attempt = 0;
  std::string content_type;
  std::string filename;
  WaitReport report;

  int status() const { return error ? error->http_status : 200; }
  std::string errcode() const { return error ? error->errcode : ""; }
};

namespace detail {

inline std::string read_bytes(const FileDescriptor& file, std::uint64_t offset, std::uint64_t length) {
  std::string bytes(length, '\0');
  const ssize_t got = ::pread(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
  bytes.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
  return bytes;
}

inline Task<> follow_to_the_end(Repository& repository, Download::Live transfer, std::shared_ptr<Signal> signal,
                                Outcome& outcome) {
  const auto follower = repository.follow(transfer, signal);
  for (;;) {
    const transfer::Progress progress = follower->progress();
    const std::uint64_t offset = outcome.content.size();
    outcome.content += read_bytes(*transfer->file(), offset, progress.readable - offset);
    outcome.is_whole = progress.state == transfer::State::kWhole;
    if (progress.state != transfer::State::kRunning) co_return;
    if (progress.readable > offset) continue;
    follower->wake_beyond(progress.readable);
    co_await signal->wait();
  }
}

/// Opens, and reads what there is to its end.
inline Task<Outcome> read_to_the_end(Repository& repository, DownloadRequest request, CallerDouble& caller,
                                     std::function<void()> on_opened) {
  Outcome outcome;
  Result<Download> opened = co_await repository.open(request, caller, outcome.report);
  on_opened();
  if (!opened) {
    outcome.error = opened.error();
    co_return outcome;
  }
  if (const auto* stored = std::get_if<Download::Stored>(&opened->content)) {
    outcome.content = read_bytes(*(*stored)->file, 0, (*stored)->media.size + 1);
    outcome.is_whole = true;
    outcome.attempt = (*stored)->media.attempt;
    outcome.content_type = (*stored)->media.content_type;
    outcome.filename = (*stored)->media.filename;
    co_return outcome;
  }
  const Download::Live transfer = std::get<Download::Live>(opened->content);
  outcome.was_live = true;
  outcome.attempt = transfer->description().attempt;
  outcome.content_type = transfer->description().content_type;
  outcome.filename = transfer->description().filename;
  co_await follow_to_the_end(repository, transfer, caller.signal_unasked(), outcome);
  co_return outcome;
}

inline Task<> do_nothing() { co_return; }

}  // namespace detail

/// A download under way. Its outcome must be taken before it is destroyed.
class Reader {
 public:
  /// `on_opened`, if given, runs on the loop when the opening is over, before anything is read.
  Reader(LoopThread& thread, Repository& repository, DownloadRequest request, CallerDouble::OnAsked on_asked = {},
         std::function<void()> on_opened = {})
      : thread_(thread), caller_(thread.loop(), std::move(on_asked)) {
    const auto note_opened = [this, on_opened = std::move(on_opened)] {
      if (on_opened) on_opened();
      opened_.count_down();
    };
    outcome_ = thread_.start(detail::read_to_the_end(repository, std::move(request), caller_, note_opened));
  }

  CallerDouble& caller() { return caller_; }
  /// Blocks until it has been put to sleep, stalled.
  void await_asleep() {
    caller_.await_asked(CallerDouble::kAskedToSleep);
    thread_.start(detail::do_nothing()).get();
  }
  /// Blocks until it has been refused, or has something to read.
  void await_opened() { opened_.wait(); }
  Outcome outcome() { return outcome_.get(); }

 private:
  LoopThread& thread_;
  CallerDouble caller_;
  std::latch opened_{1};
  std::future<Outcome> outcome_;
};

struct UploadOptions {
  std::string content_type = "text/plain";
  std::string filename;
  std::optional<std::uint64_t> content_length;
};

struct DownloadOptions {
  bool has_token = true;
  Milliseconds wait = kForever;
  std::string network;
};

/// A repository on a real catalog and a real blob store in a temporary directory, whose disk can be made to fail,
/// driven from the test's thread. `limits_` may be changed before the first use.
class RepositoryTest : public ::testing::Test {
 protected:
  static constexpr std::string_view kServerName = "example.org";

  RepositoryTest() {
    limits_.uploads.create_rate = {.per_second = 1e6, .burst = 1e6};
    limits_.uploads.max_pending_per_user = 100'000;
    limits_.downloads.unauthenticated = config::UnauthenticatedAccess::kAllow;
  }

  Repository& repository() {
    if (!repository_) {
      repository_ =
          std::make_unique<Repository>(policies(), limits_, catalog_, *blobs_, clock_, random_, thumbnails_.get());
    }
    return *repository_;
  }
  Policies policies() const {
    return {{std::string(kServerName), limits_.uploads, limits_.downloads},
            {"example.net", limits_.uploads, limits_.downloads}};
  }
  /// Puts what `limits_` says by now in force, while the repository works.
  void replace_policies() { replace_policies(policies()); }
  void replace_policies(Policies policies) {
    const std::array<Loop*, 2> loops = {&loop_.loop(), &uploading_loop_.loop()};
    repository().replace_policies(std::move(policies), loops);
  }

  // ---- create, upload ----

  Result<Created> create(const auth::Requester& requester = kAlice, std::string content_type = "",
                         std::string filename = "") {
    return loop_
        .start(repository().create(requester, std::string(kServerName), std::move(content_type), std::move(filename)))
        .get();
  }
  Mxc reserve(const auth::Requester& requester = kAlice) {
    const auto created = create(requester);
    if (!created) throw std::runtime_error(created.error().message);
    return created->mxc;
  }
  static UploadRequest to_request(const Mxc& mxc, const UploadOptions& options) {
    return {.server_name = mxc.server_name(),
            .media_id = mxc.media_id(),
            .content_type = options.content_type,
            .filename = options.filename,
            .content_length = options.content_length};
  }
  Result<UploadPtr> begin(const Mxc& mxc, const auth::Requester& requester = kAlice,
                          const UploadOptions& options = {}) {
    return begin(to_request(mxc, options), requester);
  }
  Result<UploadPtr> begin(const UploadRequest& request, const auth::Requester& requester = kAlice) {
    return uploading_loop_.start(repository().begin_upload(requester, request)).get();
  }
  Result<> write(const UploadPtr& upload, std::string_view text) {
    return upload->write(std::as_bytes(std::span(text)));
  }
  Result<> seal(const UploadPtr& upload) { return uploading_loop_.start(upload->seal()).get(); }
  /// A whole upload, or what refused it.
  Result<> fill(const Mxc& mxc, std::string_view content, const UploadOptions& options = {}) {
    auto upload = begin(mxc, kAlice, options);
    if (!upload) return Failure(upload.error());
    if (Result<> written = write(*upload, content); !written) return written;
    return seal(*upload);
  }
  Mxc store(std::string_view content, const UploadOptions& options = {}) {
    const Mxc mxc = reserve();
    if (const Result<> filled = fill(mxc, content, options); !filled) throw std::runtime_error(filled.error().message);
    return mxc;
  }

  // ---- download ----

  std::unique_ptr<Reader> start_download(const Mxc& mxc, const DownloadOptions& options = {}) {
    return std::make_unique<Reader>(
        loop_, repository(), DownloadRequest{mxc, options.has_token, clock_.steady() + options.wait, options.network});
  }
  /// A download that has been put to sleep.
  std::unique_ptr<Reader> stall_download(const Mxc& mxc, const DownloadOptions& options = {}) {
    auto reader = start_download(mxc, options);
    reader->await_asleep();
    return reader;
  }
  Outcome download(const Mxc& mxc, const DownloadOptions& options = {}) {
    return start_download(mxc, options)->outcome();
  }
  /// Does not wait for an upload.
  Outcome look(const Mxc& mxc) { return download(mxc, {.wait = Milliseconds(0)}); }

  // ---- delete ----

  Result<> remove(const Mxc& mxc, const auth::Requester& requester = kAlice) {
    return loop_.start(repository().remove(requester, mxc)).get();
  }

  // ---- disk ----

  /// Ends the repository, and with it the work that it had put off.
  void close() { repository_.reset(); }
  std::vector<std::string> spool() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(directory_ / "spool")) {
      names.push_back(entry.path().filename().string());
    }
    return names;
  }
  std::size_t count_blobs() const {
    return static_cast<std::size_t>(
        std::ranges::count_if(std::filesystem::recursive_directory_iterator(directory_ / "blobs"),
                              [](const auto& entry) { return entry.is_regular_file(); }));
  }

  // ---- thumbnails ----

  /// Before the first use: from now on there are thumbnails, made by `worker`.
  void make_thumbnails(const thumbnails::WorkerDouble& worker) {
    auto store = or_throw(thumbnails::ThumbnailStore::open(files_, random_, directory_ / "thumbnails"));
    limits_.thumbnail_sizes = {{32, 32, thumbnails::Method::kCrop}, {320, 240}, {640, 480}};
    thumbnails_ = std::make_unique<thumbnails::Thumbnails>(
        thumbnails::Thumbnails::Limits{.program = worker.program(), .usual_sizes = limits_.thumbnail_sizes},
        std::move(store), [this](const Sha256Digest& digest) { return *catalog_.refers_to(digest); }, clock_);
  }

  template <class T>
  static T or_throw(Result<T> result) {
    if (!result) throw std::runtime_error(result.error().message);
    return *std::move(result);
  }

  const TemporaryDirectory directory_;
  PosixFileSystem files_;
  FaultyFileSystem disk_{files_, directory_.path()};
  SystemRandom random_;
  SettableClock clock_;
  const std::unique_ptr<catalog::Catalog> sqlite_catalog_ =
      or_throw(catalog::open_sqlite_catalog(directory_ / "catalog.sqlite"));
  HookedCatalog catalog_{*sqlite_catalog_};
  std::unique_ptr<blobs::BlobStore> blobs_ = or_throw(blobs::open_folder_store(disk_, random_, directory_.path()));
  struct : Repository::Limits {
    config::Config::Uploads uploads;
    config::Config::Downloads downloads;
  } limits_;
  std::unique_ptr<thumbnails::Thumbnails> thumbnails_;  // null: none are made
  LoopThread loop_;
  LoopThread uploading_loop_;

 private:
  std::unique_ptr<Repository> repository_;
};

}  // namespace sluice::repository
