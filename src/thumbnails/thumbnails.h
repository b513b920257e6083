// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/file_system.h"
#include "base/random.h"
#include "base/sha256.h"
#include "runtime/blocking_pool.h"
#include "runtime/signal.h"
#include "runtime/task.h"
#include "thumbnails/recent.h"
#include "thumbnails/size.h"
#include "thumbnails/store.h"
#include "thumbnails/worker.h"

namespace sluice::thumbnails {

/// What a worker found out about a source.
struct Description {
  Format format = Format::kUnknown;
  bool is_animated = false;
  std::uint32_t width = 0;  // pixels, as it is shown; 0: it has none
  std::uint32_t height = 0;
  Milliseconds duration{0};  // 0: it has none
  std::string blurhash;      // empty: it shows no picture
};

/// Makes thumbnails of what strangers sent, in worker processes that can do nothing else, and keeps them.
/// However many ask for the same at once, one worker makes it. From any thread; a Task must be awaited on a loop.
class Thumbnails {
 public:
  struct Limits {
    std::string program;                      // the path of sluice-thumbnailer
    std::size_t workers = 1;                  // processes at once; 0: none are made
    std::size_t max_queued = 512;             // jobs that wait for a worker or are with one; 429 beyond
    Milliseconds queue_time{20'000};          // how long one may wait for its worker; 429 after
    Milliseconds time{20'000};                // for one job, of the processor and of the wall
    std::uint64_t memory_bytes = 1ull << 30;  // of one worker
    std::uint64_t max_source_pixels = 100'000'000;
    std::uint32_t max_frames = 200;
    Milliseconds failure_age = std::chrono::minutes(10);  // how long a source that cannot be read is not tried again
    bool needs_every_layer = false;                       // of the sandbox
    std::size_t max_hot = 1024;                           // thumbnails with their files open
    std::vector<Size> usual_sizes;                        // always kept; of others, some for each source
  };

  /// A file, and the name of its content.
  struct Source {
    Sha256Digest sha256;
    std::shared_ptr<const FileDescriptor> file;
  };

  using Made = std::shared_ptr<const Thumbnail>;
  /// Whether somebody still refers to a content; may block. What nobody refers to keeps no thumbnails.
  using IsReferenced = std::function<bool(const Sha256Digest&)>;

  /// All references must outlive it. What is removed while it is at work is removed again when the work is done.
  Thumbnails(Limits limits, std::unique_ptr<ThumbnailStore> store, IsReferenced is_referenced, const Clock& clock);
  /// Gives up the jobs that run and those that wait.
  ~Thumbnails();

  /// Starts one worker, so that its sandbox is known, and logs which layers are missing. Where every layer is needed,
  /// it blocks until that is known, some tenths of a second, and the Error says why there can be no thumbnails; else it
  /// does so in the background, and does not fail.
  Result<> start();

  /// A thumbnail that was asked for before and is still at hand; else null. Never blocks.
  Made find_hot(const Sha256Digest& source, const Variant& variant);
  /// A thumbnail that is kept; else null. May block.
  Result<Made> find(const Sha256Digest& source, const Variant& variant);

  /// Makes a thumbnail and keeps it, if it is one of few. 400 M_UNKNOWN for what has none, 413 M_TOO_LARGE for too many
  /// pixels, 429 when too much waits, 503 when no worker can be started.
  Task<Result<Made>> make(Source source, Variant variant);
  /// 400 M_UNKNOWN for what no decoder knows; else likewise.
  Task<Result<Description>> describe(Source source);

  /// Makes one later, if half of the queue is free; nobody waits for it.
  void make_later(Source source, Variant variant);

  /// For content that is deleted; after the catalog knows. May block.
  void remove(const Sha256Digest& source);

  /// Jobs that wait for a worker or are with one.
  std::size_t queued() const;

 private:
  /// What a job yields.
  struct Product {
    Made made;
    Description description;
  };
  using Key = std::pair<Sha256Digest, std::optional<Variant>>;  // without a variant: a description
  struct Flight {
    std::vector<std::shared_ptr<Signal>> waiting;
    std::optional<Result<Product>> product;
  };
  struct KnownFailure {
    Error error;
    SteadyTime until;
  };

  Task<Result<Product>> fly(Source source, std::optional<Variant> variant);
  /// The flight that makes it, one that waits for a worker from now on if there is none yet.
  Result<std::shared_ptr<Flight>> board(const Source& source, const std::optional<Variant>& variant);
  Result<Product> serve(const Source& source, const std::optional<Variant>& variant, SteadyTime queued_at);
  Result<Product> work(const Source& source, const std::optional<Variant>& variant);
  Result<Product> keep(const Thumbnail& thumbnail, const Sha256Digest& source, const Variant& variant);
  bool is_worth_keeping(const Sha256Digest& source, const Variant& variant) const;
  void land(const Key& key, Flight& flight, Result<Product> product);
  Failure remember_failure(const Sha256Digest& source, const Error& error);
  Result<> try_out();
  Result<> check_not_failed(const Sha256Digest& source) const;

  /// A worker for as long as this lives; there is one for each thread of the pool.
  class Lease {
   public:
    explicit Lease(Thumbnails& owner);
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Worker* operator->() const { return worker_.get(); }

   private:
    Thumbnails& owner_;
    std::unique_ptr<Worker> worker_;
  };

  const Limits limits_;
  const std::unique_ptr<ThumbnailStore> store_;
  const IsReferenced is_referenced_;
  const Clock& clock_;
  Recent<std::pair<Sha256Digest, Variant>, Made> hot_;
  const FileDescriptor interrupt_;  // readable once all work shall end

  mutable std::mutex mutex_;  // guards what follows
  std::map<Key, std::shared_ptr<Flight>> flights_;
  std::map<Sha256Digest, KnownFailure> failures_;
  std::deque<Sha256Digest> failures_by_age_;
  std::vector<std::unique_ptr<Worker>> idle_;
  bool is_stopping_ = false;

  BlockingPool pool_;  // a thread for each worker; the last, so that its threads end before what they use
};

}  // namespace sluice::thumbnails
