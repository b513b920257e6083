// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "auth/authenticator.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/mxc.h"
#include "base/random.h"
#include "blobs/blob_store.h"
#include "catalog/catalog.h"
#include "repository/commit_queue.h"
#include "repository/policy.h"
#include "repository/quota.h"
#include "repository/rate_limiter.h"
#include "repository/stored_cache.h"
#include "repository/tidier.h"
#include "repository/upload.h"
#include "runtime/blocking_pool.h"
#include "runtime/group_pool.h"
#include "runtime/signal.h"
#include "runtime/snapshot.h"
#include "runtime/task.h"
#include "thumbnails/thumbnails.h"
#include "transfer/transfer.h"
#include "transfer/transfer_table.h"
#include "transfer/waiting_room.h"

namespace sluice::repository {

struct Created {
  Mxc mxc;
  WallTime unused_expires_at;
};

struct Download {
  using Stored = std::shared_ptr<const StoredFile>;
  /// A transfer that has begun: there is something to read, and more is coming.
  using Live = std::shared_ptr<transfer::Transfer>;

  std::variant<Stored, Live> content;
};

struct DownloadRequest {
  Mxc mxc;
  bool has_token = false;        // a valid one
  SteadyTime give_up_at;         // until then it may be stalled
  std::string client_network{};  // for the limit of stalled downloads per address; empty: unknown
  bool whole = false;            // only once all of it is stored
};

/// A thumbnail, and what it is a thumbnail of.
struct FoundThumbnail {
  Download::Stored source;
  thumbnails::Variant variant;
  thumbnails::Thumbnails::Made thumbnail;  // never null; where it has no file, the source serves as it is
};

/// How far the content of an id has come.
struct Arrival {
  enum class State { kPending, kReceiving, kStored };
  State state = State::kPending;
  std::uint64_t received = 0;
  std::optional<std::uint64_t> size;  // declared, or final; nothing: unknown
};

/// How long a download was stalled; filled in whatever becomes of it.
struct WaitReport {
  bool was_stalled = false;
  Milliseconds waited{0};
};

/// The rules of a content repository: who may create, fill and read which media id, how much and for how long.
/// The life of a media id is drawn in ARCHITECTURE.md. From any loop; every Task must be awaited on a loop.
///
/// Content types and file names are checked here: at most 255 and 1024 bytes, UTF-8, no control characters. What else
/// is ruled is in the policies, which may be replaced while it works: whatever begins, or wakes, sees those in force.
class Repository {
 public:
  struct Limits {
    std::size_t max_running_uploads = 1024;  // each has a file open, or Upload::kMaxHeldBytes in memory; 503 beyond
    std::size_t max_cached_files = 512;      // of hot media, kept open
    std::vector<config::Quota> quotas{};
    std::vector<thumbnails::Size> thumbnail_sizes{};
    bool thumbnails_at_upload = false;
    std::size_t hash_threads = 0;            // for large uploads; 0: their own loops hash them
    std::size_t max_cached_records = 32768;  // of media whose files are not; some half a kilobyte each
  };

  /// Media of servers that `policies` does not name is not found. All references must outlive the repository. Without
  /// `thumbnails` none are made.
  Repository(Policies policies, Limits limits, catalog::Catalog& catalog, blobs::BlobStore& blobs, const Clock& clock,
             RandomSource& random, thumbnails::Thumbnails* thumbnails = nullptr);
  ~Repository();
  Repository(const Repository&) = delete;
  Repository& operator=(const Repository&) = delete;

  /// What holds for the media of a homeserver; for a name that is not ours, what holds for the default's. On a loop,
  /// good until the caller goes back to it.
  const Policy& policy_of(std::string_view server_name) const;
  /// Puts others in force, of the same homeservers. `loops` are all that use the repository. One thread at a time.
  void replace_policies(Policies policies, std::span<Loop* const> loops);
  /// Running uploads keep the quota that they began with.
  void replace_quotas(const std::vector<config::Quota>& quotas) { quotas_.replace(quotas); }

  /// Makes a media id without content (`POST /_matrix/media/v1/create`). 403 for guests and content types that are not
  /// allowed, 429 when too many are pending or they come too fast.
  Task<Result<Created>> create(auth::Requester requester, std::string server_name, std::string content_type,
                               std::string filename);

  /// Begins to fill a media id, or, when the request names none, a new one of `server_name`. Every refusal that can be
  /// known without the body is given here: 403, 404, 409, 413, 429.
  Task<Result<std::unique_ptr<Upload>>> begin_upload(auth::Requester requester, UploadRequest request);

  /// What `open` would find, if that is a stored file that was downloaded before and is still at hand; else null. Never
  /// blocks.
  Download::Stored open_hot(const DownloadRequest& request);

  /// Why the requester may not read what is stored at `stored_at`, by what is in force now: 401 M_MISSING_TOKEN, or 404
  /// for media of others, or that came after the freeze.
  Result<> check_may_read(const DownloadRequest& request, WallTime stored_at) const;

  /// Finds the content of an id; stalled until there is something to read, at most until `give_up_at`. 404 for ids that
  /// are unknown, expired (as soon as they are) or not to be read by this requester; 504 M_NOT_YET_UPLOADED.
  /// All that is passed must outlive the task.
  Task<Result<Download>> open(const DownloadRequest& request, Caller& caller, WaitReport& report);

  /// A follower for a live download, on `signal`'s loop.
  std::unique_ptr<transfer::Follower> follow(Download::Live transfer, std::shared_ptr<Signal> signal);

  /// Stalls until `follower` can read the byte at `offset`, its transfer has ended, or the wait that `request` allows
  /// is over: at `give_up_at`, when there is no place to wait, when waiting stops, or when the caller leaves. The
  /// caller looks at the follower's progress to see which.
  Task<> wait_for_byte(transfer::Follower& follower, std::uint64_t offset, const DownloadRequest& request,
                       Caller& caller);

  // thumbnailing.cpp

  /// What `open_thumbnail` would find, if source and thumbnail are at hand; else nothing. Never blocks.
  std::optional<FoundThumbnail> open_hot_thumbnail(const DownloadRequest& request, const thumbnails::Variant& asked);

  /// Finds the smallest thumbnail that is no smaller than `asked`, and makes it if need be. Waits as `open` does, for
  /// the whole content, and then for the thumbnail, which has time limits of its own; refuses what `open` refuses, also
  /// when that came about while the thumbnail was made, and what `Thumbnails::make` refuses.
  Task<Result<FoundThumbnail>> open_thumbnail(const DownloadRequest& request, const thumbnails::Variant& asked,
                                              Caller& caller, WaitReport& report);

  /// What is to be seen of the content of an id. 404 when nothing is stored under it, 400 M_UNKNOWN for what no decoder
  /// knows; else as `Thumbnails::describe`.
  Task<Result<thumbnails::Description>> describe(Mxc mxc);

  /// How far an id has come, without waiting, for somebody with a valid token. 404 for ids that are unknown or expired.
  Task<Result<Arrival>> arrival(Mxc mxc);

  /// What is stored under an id. 404 for ids that are unknown, expired, or quarantined if not `for_admin`; 504
  /// M_NOT_YET_UPLOADED for one that waits for its content.
  Task<Result<catalog::Record>> look_up(Mxc mxc, bool for_admin);

  /// What a user has stored.
  Task<Result<catalog::Usage>> usage(std::string user);
  /// What the user may store, at most; null: as much as there is room for.
  std::optional<catalog::Allowance> allowance_of(std::string_view user) const { return quotas_.find(user); }

  /// Deletes an id for good, for its owner or an admin: from then on it is unknown, also to those who wait for it. An
  /// upload that fills it is broken off. Downloads that have begun may end. Its bytes go when no other id has them and
  /// nobody reads them any more. 403, 404.
  Task<Result<>> remove(auth::Requester requester, Mxc mxc);

  /// Whether a content is quarantined: then every id that has it is unknown to everybody, and no upload of it is taken.
  /// By digest, by id, or for all that a user has stored until now, in batches. Returns how many ids appear, or vanish;
  /// by id, 404 if nothing is stored under it.
  enum class Visibility { kHidden, kShown };
  Task<Result<std::size_t>> set_visibility(std::vector<Sha256Digest> contents, Visibility visibility);
  Task<Result<std::size_t>> set_visibility(Mxc mxc, Visibility visibility);
  Task<Result<std::size_t>> set_visibility_of_user(std::string user, Visibility visibility);

  /// Removes expired reservations for good. They have stopped counting long before.
  Task<Result<std::size_t>> reap();

  /// Whether catalog and blob store answer. However many ask, it is looked at most once a second; who asks meanwhile is
  /// told what was found last.
  Task<Result<>> check();

  /// Answers every stalled download, and stalls none from now on.
  void stop_waiting() { waiting_room_.close(); }

  // Levels, for metrics.
  std::size_t stalled_downloads() const { return waiting_room_.waiting(); }
  std::size_t live_followers() const { return *followers_; }
  std::size_t running_uploads() const { return running_uploads_; }

 private:
  friend class Upload;

  /// What the catalog says of an id that is asked for: stored, or reserved, or neither.
  struct Found {
    Download::Stored stored;
    bool is_sound = false;  // the stored file has the size that its record says
    std::optional<WallTime> reserved_until;
  };

  bool is_local(std::string_view server_name) const;
  std::optional<WallTime> freeze_of(const DownloadRequest& request) const;
  /// One look of a download that may be stalled.
  struct Look {
    WallTime now{};
    SteadyTime steady_now{};
    SteadyTime sleep_until{};  // without an outcome: then things may look different
    bool is_being_filled = false;
    std::optional<Result<Download>> outcome;

    [[gnu::noinline]] void refuse(Failure (*why)());
  };
  // Not inlined, or their temporaries would lie in the frame of every stalled download: 1.0 KB instead of 0.5 KB.
  [[gnu::noinline]] void check_access(const DownloadRequest& request, Look& at) const;
  [[gnu::noinline]] void find_begun(const DownloadRequest& request, Look& at);
  [[gnu::noinline]] void judge(const DownloadRequest& request, const Result<Found>& found, Look& at) const;
  Task<Result<Found>> look(const Mxc& mxc);
  Result<Found> find_and_open(const Mxc& mxc);
  Result<Found> open_stored(catalog::StoredMedia media);
  Task<Result<std::unique_ptr<Quotas::Share>>> take_share(const std::string& user, std::optional<std::uint64_t> size);
  Result<> check_may_fill(const catalog::Record& record, const auth::Requester& requester) const;

  thumbnails::Variant smallest_variant(const thumbnails::Variant& asked) const;
  /// Has the usual thumbnails made; does not wait.
  void prepare_thumbnails(const Sha256Digest& sha256);

  Snapshot<Policies> policies_;
  const Limits limits_;
  catalog::Catalog& catalog_;
  blobs::BlobStore& blobs_;
  const Clock& clock_;
  RandomSource& random_;
  thumbnails::Thumbnails* const thumbnails_;  // null: none are made

  RateLimiter create_rate_;
  Quotas quotas_;
  transfer::TransferTable transfers_;
  transfer::WaitingRoom waiting_room_;
  StoredCache stored_cache_;
  /// For the blob store, which asks before it gives a content's space back: its thumbnails go first.
  const blobs::IsReferenced refers_to_ = [this](const Sha256Digest& digest) {
    Result<bool> referenced = catalog_.refers_to(digest);
    if (thumbnails_ != nullptr && referenced && !*referenced) thumbnails_->remove(digest);
    return referenced;
  };
  const std::shared_ptr<std::atomic<std::size_t>> followers_ = std::make_shared<std::atomic<std::size_t>>(0);
  std::atomic<std::size_t> running_uploads_{0};

  std::mutex health_mutex_;
  Result<> health_;
  SteadyTime next_check_at_{};

  // Declared last, so that what is still queued runs before anything it uses is destroyed. Downloads look things up
  // on threads of their own: they must not queue behind the fsyncs of uploads.
  // A look-up takes 10 µs, if what it needs is in memory: so several are made in one go.
  static constexpr std::size_t kDiskThreads = 8;
  static constexpr std::size_t kLookThreads = 4;
  static constexpr std::size_t kMaxLooksAtOnce = 16;
  BlockingPool disk_pool_{"sluice-disk", kDiskThreads};
  BlockingPool look_pool_{"sluice-look", kLookThreads, kMaxLooksAtOnce};
  std::optional<BlockingPool> hash_pool_;
  CommitQueue commits_{catalog_};
  Tidier tidier_{[this] { return blobs_.tidy(refers_to_); }};
  // Small uploads share the syncs of the blob store. A large one goes alone, since its neighbours would wait for it.
  // With 64 uploads at once: one thread 600/s, since each file's fsync waits for the disk, two 2,500/s, four 4,000/s;
  // more make the groups smaller, cost more and bring nothing.
  static constexpr std::size_t kPublishThreads = 4;
  static constexpr std::size_t kMaxPublishGroup = 64;
  static constexpr std::uint64_t kMaxGroupedBytes = 256 * 1024;
  GroupPool<blobs::Publication> publish_pool_{
      "sluice-publish", kPublishThreads, kMaxPublishGroup,
      [this](std::span<blobs::Publication* const> group) { blobs_.publish(group); }};
};

}  // namespace sluice::repository
