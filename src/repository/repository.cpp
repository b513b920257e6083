// SPDX-License-Identifier: Apache-2.0
#include "repository/repository.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "base/units.h"
#include "repository/media_id.h"

namespace sluice::repository {
namespace {

constexpr std::string_view kDefaultContentType = "application/octet-stream";
constexpr std::size_t kMaxContentTypeBytes = 255;
constexpr std::size_t kMaxFilenameBytes = 1024;
// An id expires in a day, but any upload that ends frees a place, and some clients do as they are told.
constexpr Milliseconds kMaxPendingRetry = std::chrono::seconds(5);
constexpr Milliseconds kFarAway = std::chrono::hours(24);  // enough to look again then, and not too much to add up
constexpr Milliseconds kCheckInterval{1000};               // anybody may ask for the health
constexpr std::size_t kReapBatch = 1000;                   // what one transaction removes, so that others wait briefly

Result<> check_content_type(std::string_view content_type) {
  if (content_type.size() > kMaxContentTypeBytes || !is_utf8(content_type) || has_control_characters(content_type)) {
    return fail::invalid_param("The content type is too long or holds characters that no content type has");
  }
  return {};
}

Result<> check_filename(std::string_view filename) {
  if (filename.size() > kMaxFilenameBytes) {
    return fail::invalid_param(fmt::format("The file name is longer than {} bytes", kMaxFilenameBytes));
  }
  if (!is_utf8(filename)) return fail::invalid_param("The file name is not UTF-8");
  if (has_control_characters(filename)) return fail::invalid_param("The file name holds control characters");
  return {};
}

Result<> check_not_guest(const auth::Requester& requester) {
  if (!requester.guest) return {};
  return fail::with(403, "M_GUEST_ACCESS_FORBIDDEN", "Guests cannot upload content");
}

Failure no_such_media() { return fail::not_found("Unknown media ID"); }

// The same errcode: clients know no other for an id that they may not fill now.
Failure being_uploaded() {
  return fail::with(409, "M_CANNOT_OVERWRITE_MEDIA", "Another upload to this media ID is running");
}

Failure already_uploaded() { return fail::with(409, "M_CANNOT_OVERWRITE_MEDIA", "Media already uploaded"); }

transfer::WaitingRoom::Limits waiting_limits(const config::Config::Downloads& downloads) {
  return {downloads.max_waiting, downloads.max_waiting_per_media.value_or(downloads.max_waiting),
          downloads.max_waiting_per_address};
}

}  // namespace

Repository::Repository(Policies policies, Limits limits, catalog::Catalog& catalog, blobs::BlobStore& blobs,
                       const Clock& clock, RandomSource& random, thumbnails::Thumbnails* thumbnails)
    : policies_(std::move(policies)),
      limits_(std::move(limits)),
      catalog_(catalog),
      blobs_(blobs),
      clock_(clock),
      random_(random),
      thumbnails_(thumbnails),
      quotas_(limits_.quotas),
      waiting_room_(waiting_limits(policies_.read().front().downloads)),
      stored_cache_(limits_.max_cached_files, limits_.max_cached_records) {
  if (limits_.hash_threads > 0) hash_pool_.emplace("sluice-hash", limits_.hash_threads);
}

Repository::~Repository() = default;

// ---- policies ----

const Policy& Repository::policy_of(std::string_view server_name) const {
  const Policies& policies = policies_.read();
  const Policy* const found = find_policy(policies, server_name);
  return found != nullptr ? *found : policies.front();
}

void Repository::replace_policies(Policies policies, std::span<Loop* const> loops) {
  waiting_room_.set_limits(waiting_limits(policies.front().downloads));
  policies_.replace(std::move(policies), loops);
}

// ---- create ----

Task<Result<Created>> Repository::create(auth::Requester requester, std::string server_name, std::string content_type,
                                         std::string filename) {
  for (const Result<>& check :
       {check_not_guest(requester), check_content_type(content_type), check_filename(filename)}) {
    if (!check) co_return std::unexpected(check.error());
  }
  const config::Config::Uploads& uploads = policy_of(server_name).uploads;
  // One that names none is asked for it by the upload.
  if (!content_type.empty()) {
    if (Result<> allowed = check_content_type_allowed(uploads.content_types, content_type); !allowed) {
      co_return std::unexpected(allowed.error());
    }
  }
  if (const auto wait = create_rate_.take(requester.user, uploads.create_rate, clock_.steady())) {
    co_return fail::limit_exceeded("Too many media IDs created in a short time", *wait);
  }
  const auto mxc = Mxc::of(server_name, make_media_id(clock_.now(), random_));
  if (!mxc) co_return fail::internal("The server name is not valid");
  const Milliseconds unused_expiry = uploads.unused_expiry;
  const std::uint32_t max_pending = uploads.max_pending_per_user;
  Result<WallTime> reserved = co_await commits_.run([&]() -> Result<WallTime> {
    // The time is read here, where reservations are made one after the other: what expired while this one waited for
    // its turn does not count against it.
    const WallTime now = clock_.now();
    const catalog::Reservation reservation{*mxc, requester.user, now, now + unused_expiry, content_type, filename};
    if (Result<> added = catalog_.reserve(reservation, max_pending); !added) {
      Error error = added.error();
      if (error.retry_after) error.retry_after = std::min(*error.retry_after, kMaxPendingRetry);
      return std::unexpected(std::move(error));
    }
    return reservation.expires_at;
  });
  if (!reserved) co_return std::unexpected(reserved.error());
  co_return Created{*mxc, *reserved};
}

Task<Result<std::size_t>> Repository::reap() {
  std::size_t reaped = 0;
  for (;;) {
    const Result<std::size_t> batch = co_await commits_.run([this] { return catalog_.reap(clock_.now(), kReapBatch); });
    if (!batch) co_return batch;
    reaped += *batch;
    if (*batch < kReapBatch) co_return reaped;
  }
}

// ---- upload ----

Task<Result<std::unique_ptr<Upload>>> Repository::begin_upload(auth::Requester requester, UploadRequest request) {
  for (const Result<>& check :
       {check_not_guest(requester), check_content_type(request.content_type), check_filename(request.filename)}) {
    if (!check) co_return std::unexpected(check.error());
  }
  const std::uint64_t max_size = policy_of(request.server_name).uploads.max_size;
  if (request.content_length.value_or(0) > max_size) {
    co_return fail::too_large(fmt::format("Cannot upload files larger than {}", describe_byte_size(max_size)));
  }
  if (running_uploads_ >= limits_.max_running_uploads) {
    co_return fail::unavailable("Too many uploads are running", std::chrono::seconds(5));
  }
  const bool is_new = request.media_id.empty();
  const auto mxc = Mxc::of(request.server_name, is_new ? make_media_id(clock_.now(), random_) : request.media_id);
  if (!mxc || !is_local(mxc->server_name())) co_return no_such_media();

  catalog::StoredMedia media{.mxc = *mxc, .user = requester.user, .created_at = clock_.now()};
  WallTime expires_at = WallTime::max();
  if (!is_new) {
    const Result<catalog::Record> found = co_await look_pool_.run([&] { return catalog_.find(*mxc); });
    if (!found) co_return std::unexpected(found.error());
    if (Result<> check = check_may_fill(*found, requester); !check) co_return std::unexpected(check.error());
    // Said here too, so that a loser of the race does not cost a file.
    if (transfers_.find(*mxc)) co_return being_uploaded();
    const catalog::Reservation& reservation = *found->reservation;
    media.created_at = reservation.created_at;
    expires_at = reservation.expires_at;
    if (request.content_type.empty()) request.content_type = reservation.content_type;
    if (request.filename.empty()) request.filename = reservation.filename;
  }
  media.content_type = request.content_type.empty() ? kDefaultContentType : request.content_type;
  const config::ContentTypes& content_types = policy_of(mxc->server_name()).uploads.content_types;
  if (Result<> allowed = check_content_type_allowed(content_types, media.content_type); !allowed) {
    co_return std::unexpected(allowed.error());
  }
  media.filename = std::move(request.filename);
  random_.fill(std::as_writable_bytes(std::span(&media.attempt, 1)));
  auto share = co_await take_share(requester.user, request.content_length);
  if (!share) co_return std::unexpected(share.error());

  // A small upload needs no file before it is whole, and so no way to the disk and back, and no renaming. 64 at once of
  // 10 KiB, each: 280 µs of processor time before, 230 after; 7.9 context switches before, 4.2 after.
  std::unique_ptr<blobs::SpoolFile> spool;
  const std::uint64_t max_held = is_new ? Upload::kMaxHeldBytes : Upload::kMaxHeldAtOnceBytes;
  if (!request.content_length || *request.content_length > max_held) {
    auto created = co_await disk_pool_.run([this] { return blobs_.create_spool(); });
    if (!created) co_return std::unexpected(created.error());
    spool = *std::move(created);
  }
  auto upload =
      std::make_unique<Upload>(*this, std::move(media), expires_at, max_size, request.content_length, std::move(spool));
  upload->share_ = *std::move(share);
  if (is_new) co_return upload;

  if (!upload->take_id()) co_return being_uploaded();
  // Another attempt may have filled the id between the first look and our taking it; from now on nobody else can.
  const Result<catalog::Record> found = co_await look_pool_.run([&] { return catalog_.find(*mxc); });
  if (!found) co_return std::unexpected(found.error());
  if (Result<> check = check_may_fill(*found, requester); !check) co_return std::unexpected(check.error());
  co_return upload;
}

Result<> Repository::check_may_fill(const catalog::Record& record, const auth::Requester& requester) const {
  if (!record.stored && !record.reservation) return no_such_media();
  const std::string& owner = record.stored ? record.stored->user : record.reservation->user;
  if (owner != requester.user) return fail::forbidden("This media ID was created by another user");
  if (record.stored) return already_uploaded();
  if (record.reservation->is_expired(clock_.now())) return fail::not_found("This media ID has expired");
  return {};
}

// ---- download ----

Download::Stored Repository::open_hot(const DownloadRequest& request) {
  Download::Stored stored = stored_cache_.find(request.mxc);
  if (!stored || !stored->file || !check_may_read(request, stored->media.stored_at)) return nullptr;
  return stored;
}

// Thousands may sleep in here at once, so its frame is kept small (1.5 KB before, 0.5 KB after): what is looked up has
// a frame of its own, what is decided is decided in plain functions, and there is one way out.
Task<Result<Download>> Repository::open(const DownloadRequest& request, Caller& caller, WaitReport& report) {
  const SteadyTime began = clock_.steady();
  std::optional<transfer::Ticket> ticket;
  std::optional<Deadline> deadline;
  Look at;
  while (!at.outcome) {
    if (ticket) {
      report.waited = std::chrono::duration_cast<Milliseconds>(clock_.steady() - began);
      if (!caller.is_present()) {
        at.refuse(fail::client_left);
        break;
      }
    }
    // The time first, then the transfers, then the catalog. An id that had expired by now, has no transfer by then and
    // is not stored by the last can never be filled: who fills it took it in time, and gives it back once it is stored.
    at.now = clock_.now();
    at.steady_now = clock_.steady();
    check_access(request, at);
    if (!at.outcome) find_begun(request, at);
    if (!at.outcome) judge(request, co_await look(request.mxc), at);
    if (at.outcome) break;

    if (!ticket) {
      ticket.emplace(waiting_room_, request.mxc, request.client_network, caller.signal());
      report.was_stalled = ticket->is_admitted();
      if (!ticket->is_admitted()) at.refuse(fail::not_yet_uploaded);
      deadline.emplace(caller.signal());
      continue;  // registered: look once more, for what happened since the look before
    }
    if (waiting_room_.is_closed()) {
      at.refuse(fail::not_yet_uploaded);
      break;
    }
    deadline->arm(at.sleep_until);
    // That the client has said something is no reason to ask the catalog again.
    for (;;) {
      const WakeSet woken = co_await caller.signal()->wait();
      if (woken.has(Wake::kProgress) || woken.has(Wake::kDeadline) || !caller.is_present()) break;
    }
  }
  co_return *std::move(at.outcome);
}

void Repository::Look::refuse(Failure (*why)()) { outcome = why(); }

// Once a transfer has begun there is no need to ask the catalog: this is the way that all who waited come at once.
void Repository::find_begun(const DownloadRequest& request, Look& at) {
  Download::Live transfer = transfers_.find(request.mxc);
  const transfer::Progress progress = transfer ? transfer->progress() : transfer::Progress();
  // One that has ended is here for a moment yet; what became of the id since, the catalog knows.
  at.is_being_filled = transfer && progress.state == transfer::State::kRunning;
  const bool may_follow = !request.whole && policy_of(request.mxc.server_name()).downloads.live;
  if (!at.is_being_filled || !may_follow || !progress.has_begun()) return;
  if (check_may_read(request, at.now)) at.outcome = Download{std::move(transfer)};
}

// What the catalog's word means for a download; without an outcome, it may wait.
void Repository::judge(const DownloadRequest& request, const Result<Found>& found, Look& at) const {
  if (!found) {
    at.outcome = std::unexpected(found.error());
    return;
  }
  // What is not stored yet will be stored now at the earliest.
  const WallTime stored_at = found->stored ? found->stored->media.stored_at : at.now;
  if (Result<> may_read = check_may_read(request, stored_at); !may_read) {
    at.outcome = std::unexpected(may_read.error());
    return;
  }
  if (found->stored) {
    at.outcome = Download{found->stored};
    return;
  }
  const bool is_pending = found->reserved_until && at.now < *found->reserved_until;
  // An upload that began in time may end after the id's expiry; until then the id lives.
  if (!is_pending && !at.is_being_filled) return at.refuse(no_such_media);
  if (at.steady_now >= request.give_up_at) return at.refuse(fail::not_yet_uploaded);
  at.sleep_until = request.give_up_at;
  if (is_pending) at.sleep_until = std::min(at.sleep_until, at.steady_now + (*found->reserved_until - at.now));
  if (const auto freeze = freeze_of(request)) {
    at.sleep_until = std::min(at.sleep_until, at.steady_now + std::min(*freeze - at.now, kFarAway));
  }
}

Task<Result<Arrival>> Repository::arrival(Mxc mxc) {
  if (!is_local(mxc.server_name())) co_return no_such_media();
  // In this order, as in `open`: what is not being received any more is in the catalog.
  const WallTime now = clock_.now();
  if (const auto transfer = transfers_.find(mxc); transfer && transfer->progress().state == transfer::State::kRunning) {
    co_return Arrival{Arrival::State::kReceiving, transfer->progress().readable, transfer->description().size};
  }
  const Result<catalog::Record> record = co_await look_pool_.run([&] { return catalog_.find(mxc); });
  if (!record) co_return std::unexpected(record.error());
  if (record->is_quarantined) co_return no_such_media();
  if (record->stored) co_return Arrival{Arrival::State::kStored, record->stored->size, record->stored->size};
  if (!record->reservation || record->reservation->is_expired(now)) co_return no_such_media();
  co_return Arrival{};
}

Task<Result<catalog::Record>> Repository::look_up(Mxc mxc, bool for_admin) {
  if (!is_local(mxc.server_name())) co_return no_such_media();
  Result<catalog::Record> record = co_await look_pool_.run([&] { return catalog_.find(mxc); });
  if (!record || (record->stored && (for_admin || !record->is_quarantined))) co_return record;
  const bool is_pending = record->reservation && !record->reservation->is_expired(clock_.now());
  co_return is_pending ? fail::not_yet_uploaded() : no_such_media();
}

Task<> Repository::wait_for_byte(transfer::Follower& follower, std::uint64_t offset, const DownloadRequest& request,
                                 Caller& caller) {
  const transfer::Ticket ticket(waiting_room_, request.mxc, request.client_network, caller.signal());
  Deadline deadline(caller.signal());
  deadline.arm(request.give_up_at);
  for (;;) {
    const transfer::Progress progress = follower.progress();
    if (progress.readable > offset || progress.state != transfer::State::kRunning) co_return;
    if (!ticket.is_admitted() || waiting_room_.is_closed()) co_return;
    if (clock_.steady() >= request.give_up_at || !caller.is_present()) co_return;
    follower.wake_beyond(offset);
    co_await caller.signal()->wait();
  }
}

Task<Result<Repository::Found>> Repository::look(const Mxc& mxc) {
  const StoredCache::Moment moment = stored_cache_.now(mxc);
  Download::Stored known = stored_cache_.find(mxc);
  if (known && known->file) co_return Found{std::move(known), true, {}};
  Result<Found> found = co_await look_pool_.run([&] { return known ? open_stored(known->media) : find_and_open(mxc); });
  // A file that is not what its record says may be healed by the next upload of the same content.
  if (found && found->stored && found->is_sound) stored_cache_.keep(found->stored, moment);
  co_return found;
}

Result<Repository::Found> Repository::find_and_open(const Mxc& mxc) {
  Result<catalog::Record> record = catalog_.find(mxc);
  if (!record) return std::unexpected(record.error());
  Found found;
  if (record->is_quarantined) return found;
  if (record->stored) return open_stored(*std::move(record->stored));
  if (record->reservation) found.reserved_until = record->reservation->expires_at;
  return found;
}

Result<Repository::Found> Repository::open_stored(catalog::StoredMedia media) {
  auto file = blobs_.open(media.sha256);
  if (!file) return std::unexpected(file.error());
  const bool is_sound = file_size(**file) == media.size;
  return Found{std::make_shared<const StoredFile>(std::move(media), *std::move(file)), is_sound, {}};
}

void Repository::check_access(const DownloadRequest& request, Look& at) const {
  // By what would be true of the oldest media; of this one, its time is not known yet.
  if (Result<> check = check_may_read(request, WallTime::min()); !check) at.outcome = std::unexpected(check.error());
}

Result<> Repository::check_may_read(const DownloadRequest& request, WallTime stored_at) const {
  const std::string& server_name = request.mxc.server_name();
  if (!request.has_token) {
    const config::Config::Downloads& downloads = policy_of(server_name).downloads;
    if (downloads.unauthenticated == config::UnauthenticatedAccess::kDeny) {
      return fail::with(401, "M_MISSING_TOKEN", "Media is served only to those who bring an access token");
    }
    if (downloads.unauthenticated == config::UnauthenticatedAccess::kFrozen &&
        (!downloads.frozen_since || stored_at >= *downloads.frozen_since)) {
      return no_such_media();
    }
  }
  if (!is_local(server_name)) return fail::not_found("Media of other servers is not served here");
  return {};
}

// From when on newer media is not for the requester, if that is to come.
std::optional<WallTime> Repository::freeze_of(const DownloadRequest& request) const {
  const config::Config::Downloads& downloads = policy_of(request.mxc.server_name()).downloads;
  const bool is_frozen = downloads.unauthenticated == config::UnauthenticatedAccess::kFrozen;
  return is_frozen && !request.has_token ? downloads.frozen_since : std::nullopt;
}

std::unique_ptr<transfer::Follower> Repository::follow(Download::Live transfer, std::shared_ptr<Signal> signal) {
  return std::make_unique<transfer::Follower>(std::move(transfer), std::move(signal), followers_);
}

bool Repository::is_local(std::string_view server_name) const {
  return find_policy(policies_.read(), server_name) != nullptr;
}

Task<Result<>> Repository::check() {
  {
    const std::lock_guard lock(health_mutex_);
    const SteadyTime now = clock_.steady();
    if (now < next_check_at_) co_return health_;
    next_check_at_ = now + kCheckInterval;
  }
  const auto name_what_fails = [](Result<> health, std::string_view what) {
    if (!health) health.error().message = fmt::format("{}: {}", what, health.error().message);
    return health;
  };
  Result<> health = co_await disk_pool_.run([this] { return catalog_.check(); });
  health = name_what_fails(std::move(health), "the catalog");
  if (health) {
    health = co_await disk_pool_.run([this] { return blobs_.check(); });
    health = name_what_fails(std::move(health), "the blob store");
  }
  const std::lock_guard lock(health_mutex_);
  health_ = health;
  co_return health;
}

}  // namespace sluice::repository
