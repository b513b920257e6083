// SPDX-License-Identifier: Apache-2.0
#include "thumbnails/thumbnails.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <exception>
#include <system_error>

#include "thumbnails/format.h"

namespace sluice::thumbnails {
namespace {

constexpr std::uint64_t kMaxResultBytes = 32ull << 20;
// Of the sizes that are not among the usual ones: what anybody may ask for must not fill the disk.
constexpr std::size_t kMaxKeptPerSource = 64;
constexpr std::size_t kMaxKnownFailures = 10'000;
constexpr Milliseconds kCrowdedRetry = std::chrono::seconds(5);

Failure has_none() { return fail::with(400, "M_UNKNOWN", "A thumbnail of this content cannot be made"); }

Failure crowded() { return fail::limit_exceeded("Too many thumbnails are being made", kCrowdedRetry); }

Failure stopping() { return fail::unavailable("The server is stopping", kCrowdedRetry); }

/// Where a worker puts its result: in memory, since a worker that was taken over could go on writing to a file.
FileDescriptor make_canvas() { return FileDescriptor(::memfd_create("thumbnail", MFD_CLOEXEC | MFD_ALLOW_SEALING)); }

/// From here on nobody can change it. False when somebody still can.
bool seal(const FileDescriptor& canvas) {
  return ::fcntl(canvas.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) == 0;
}

FileDescriptor make_interrupt() {
  FileDescriptor interrupt(::eventfd(0, EFD_CLOEXEC));
  if (!interrupt) throw std::system_error(errno, std::generic_category(), "eventfd");
  return interrupt;
}

/// The same file with an offset of its own: a worker moves it, and others read the file meanwhile.
FileDescriptor reopen(const FileDescriptor& file) {
  return FileDescriptor(::open(fmt::format("/proc/self/fd/{}", file.get()).c_str(), O_RDONLY | O_CLOEXEC));
}

Description description_of(const Reply& reply) {
  return {.format = reply.source_format,
          .is_animated = reply.source_is_animated != 0,
          .width = reply.source_width,
          .height = reply.source_height,
          .duration = Milliseconds(reply.source_duration_ms),
          .blurhash = reply.blurhash};
}

Result<Thumbnail> look_at(FileDescriptor canvas, Format promised) {
  std::array<std::byte, 16> beginning{};
  if (!seal(canvas)) return has_none();  // before anything is looked at
  const std::uint64_t size = file_size(canvas).value_or(0);
  if (size > kMaxResultBytes) return has_none();
  if (::pread(canvas.get(), beginning.data(), beginning.size(), 0) != std::ssize(beginning)) return has_none();
  if (const Format format = format_of_thumbnail(beginning); format != promised) return has_none();
  return Thumbnail{std::make_shared<const FileDescriptor>(std::move(canvas)), size, promised};
}

}  // namespace

Thumbnails::Thumbnails(Limits limits, std::unique_ptr<ThumbnailStore> store, IsReferenced is_referenced,
                       const Clock& clock)
    : limits_(std::move(limits)),
      store_(std::move(store)),
      is_referenced_(std::move(is_referenced)),
      clock_(clock),
      hot_(limits_.max_hot),
      interrupt_(make_interrupt()),
      pool_("sluice-thumb", limits_.workers) {
  const Worker::Options options{limits_.program, limits_.memory_bytes, limits_.time, limits_.needs_every_layer,
                                interrupt_.get()};
  idle_.reserve(limits_.workers);  // so that giving one back cannot fail
  for (std::size_t i = 0; i < limits_.workers; ++i) idle_.push_back(std::make_unique<Worker>(options));
}

Thumbnails::~Thumbnails() {
  const std::lock_guard lock(mutex_);
  is_stopping_ = true;
  (void)::eventfd_write(interrupt_.get(), 1);
}

Result<> Thumbnails::start() {
  if (limits_.workers == 0) return {};
  if (limits_.needs_every_layer) return try_out();
  pool_.submit([this] { (void)try_out(); });
  return {};
}

Result<> Thumbnails::try_out() {
  const Lease worker(*this);
  const Result<std::uint32_t> layers = worker->start();
  if (!layers) return std::unexpected(layers.error());
  const std::string missing = missing_layers(*layers);
  if (missing.empty()) {
    spdlog::info("thumbnails are made in a sandbox of every layer");
  } else {
    spdlog::warn("this system gives the thumbnails' sandbox no {}", missing);
  }
  return {};
}

Thumbnails::Made Thumbnails::find_hot(const Sha256Digest& source, const Variant& variant) {
  return hot_.find({source, variant}).value_or(nullptr);
}

Result<Thumbnails::Made> Thumbnails::find(const Sha256Digest& source, const Variant& variant) {
  Result<std::optional<Thumbnail>> found = store_->find(source, variant);
  if (!found) return std::unexpected(found.error());
  if (!*found) return nullptr;
  auto made = std::make_shared<const Thumbnail>(**std::move(found));
  hot_.keep({source, variant}, made);
  return made;
}

Task<Result<Thumbnails::Made>> Thumbnails::make(Source source, Variant variant) {
  const Result<Product> product = co_await fly(std::move(source), variant);
  if (!product) co_return std::unexpected(product.error());
  co_return product->made;
}

Task<Result<Description>> Thumbnails::describe(Source source) {
  const Result<Product> product = co_await fly(std::move(source), std::nullopt);
  if (!product) co_return std::unexpected(product.error());
  co_return product->description;
}

void Thumbnails::make_later(Source source, Variant variant) {
  const std::lock_guard lock(mutex_);
  if (flights_.size() >= limits_.max_queued / 2) return;  // the rest is for those who wait
  (void)board(source, variant);
}

void Thumbnails::remove(const Sha256Digest& source) {
  store_->remove(source);
  hot_.forget(source);
}

std::size_t Thumbnails::queued() const {
  const std::lock_guard lock(mutex_);
  return flights_.size();
}

// ---- on the loop of who asks ----

Task<Result<Thumbnails::Product>> Thumbnails::fly(Source source, std::optional<Variant> variant) {
  const auto signal = std::make_shared<Signal>(Loop::current());
  std::shared_ptr<Flight> flight;
  {
    const std::lock_guard lock(mutex_);
    Result<std::shared_ptr<Flight>> boarded = board(source, variant);
    if (!boarded) co_return std::unexpected(boarded.error());
    flight = *std::move(boarded);
    flight->waiting.push_back(signal);
  }
  for (;;) {
    co_await signal->wait();
    const std::lock_guard lock(mutex_);
    if (flight->product) co_return *flight->product;
  }
}

Result<std::shared_ptr<Thumbnails::Flight>> Thumbnails::board(const Source& source,
                                                              const std::optional<Variant>& variant) {
  const Key key{source.sha256, variant};
  if (const auto found = flights_.find(key); found != flights_.end()) return found->second;
  if (Result<> known = check_not_failed(source.sha256); !known) return std::unexpected(known.error());
  if (limits_.workers == 0) return has_none();
  if (flights_.size() >= limits_.max_queued) return crowded();
  auto flight = std::make_shared<Flight>();
  flights_.emplace(key, flight);
  pool_.submit([this, source, variant, flight, now = clock_.steady()] {
    land({source.sha256, variant}, *flight, serve(source, variant, now));
  });
  return flight;
}

Result<> Thumbnails::check_not_failed(const Sha256Digest& source) const {
  const auto failed = failures_.find(source);
  if (failed == failures_.end() || clock_.steady() >= failed->second.until) return {};
  return std::unexpected(failed->second.error);
}

// ---- on a worker's thread ----

// Never throws: those who wait must not wait for ever.
Result<Thumbnails::Product> Thumbnails::serve(const Source& source, const std::optional<Variant>& variant,
                                              SteadyTime queued_at) try {
  {
    const std::lock_guard lock(mutex_);
    if (is_stopping_) return stopping();
    // Of the many sizes of one upload, the first may have failed meanwhile.
    if (Result<> known = check_not_failed(source.sha256); !known) return std::unexpected(known.error());
  }
  if (clock_.steady() > queued_at + limits_.queue_time) return crowded();
  if (variant) {  // it may have been made between somebody's look and their coming here
    Result<Made> found = find(source.sha256, *variant);
    if (found && *found) return Product{.made = *std::move(found)};
  }
  return work(source, variant);
} catch (const std::exception& exception) {
  spdlog::error("making a thumbnail: {}", exception.what());
  return fail::internal("Making a thumbnail failed");
}

Result<Thumbnails::Product> Thumbnails::work(const Source& source, const std::optional<Variant>& variant) {
  const FileDescriptor content = reopen(*source.file);
  FileDescriptor canvas = make_canvas();
  if (!content || !canvas) return fail::unavailable("Thumbnails cannot be made now", kCrowdedRetry);
  const Size size = variant ? variant->size : Size{};
  const Job job{.kind = variant ? JobKind::kThumbnail : JobKind::kDescribe,
                .method = size.method,
                .animated = static_cast<std::uint8_t>(variant && variant->animated ? 1 : 0),
                .width = size.width,
                .height = size.height,
                .max_frames = limits_.max_frames,
                .max_source_pixels = limits_.max_source_pixels};
  const Result<Reply> reply = [&] {
    const Lease worker(*this);
    return worker->run(job, content, canvas);
  }();
  // What says something of the source is remembered; what a worker made and cannot be served does not, as other sizes
  // may do.
  if (!reply)
    return reply.error().http_status == 400 ? remember_failure(source.sha256, reply.error()) : Failure(reply.error());

  switch (reply->outcome) {
    case Outcome::kMade: {
      Result<Thumbnail> thumbnail = look_at(std::move(canvas), reply->format);
      if (!thumbnail) return std::unexpected(thumbnail.error());
      return keep(*thumbnail, source.sha256, *variant);
    }
    case Outcome::kOriginal:
      if (!is_thumbnail_format(reply->format)) return has_none();
      return keep({.file = nullptr, .format = reply->format}, source.sha256, *variant);
    case Outcome::kDescribed:
      return Product{.description = description_of(*reply)};
    case Outcome::kTooManyPixels:
      return remember_failure(source.sha256, fail::too_large("Content is too large to thumbnail").error());
    case Outcome::kUnsupported:
    case Outcome::kBroken:
      return remember_failure(source.sha256, has_none().error());
  }
  std::unreachable();
}

Result<Thumbnails::Product> Thumbnails::keep(const Thumbnail& thumbnail, const Sha256Digest& source,
                                             const Variant& variant) {
  if (!is_worth_keeping(source, variant)) return Product{.made = std::make_shared<const Thumbnail>(thumbnail)};
  Result<Thumbnail> kept = store_->keep(thumbnail, source, variant);
  if (!kept) return std::unexpected(kept.error());
  auto made = std::make_shared<const Thumbnail>(*std::move(kept));
  hot_.keep({source, variant}, made);
  // Who deletes the content removes its thumbnails after the catalog knows, and so either theirs or this look comes
  // after both.
  if (!is_referenced_(source)) remove(source);
  return Product{.made = std::move(made)};
}

bool Thumbnails::is_worth_keeping(const Sha256Digest& source, const Variant& variant) const {
  return std::ranges::find(limits_.usual_sizes, variant.size) != limits_.usual_sizes.end() ||
         store_->count(source) < kMaxKeptPerSource;
}

void Thumbnails::land(const Key& key, Flight& flight, Result<Product> product) {
  std::vector<std::shared_ptr<Signal>> waiting;
  {
    const std::lock_guard lock(mutex_);
    flight.product = std::move(product);
    flights_.erase(key);
    waiting.swap(flight.waiting);
  }
  for (const std::shared_ptr<Signal>& signal : waiting) signal->raise(Wake::kProgress);
}

Failure Thumbnails::remember_failure(const Sha256Digest& source, const Error& error) {
  const std::lock_guard lock(mutex_);
  const KnownFailure failure{error, clock_.steady() + limits_.failure_age};
  if (failures_.insert_or_assign(source, failure).second) failures_by_age_.push_back(source);
  if (failures_by_age_.size() > kMaxKnownFailures) {
    failures_.erase(failures_by_age_.front());
    failures_by_age_.pop_front();
  }
  return Failure(error);
}

Thumbnails::Lease::Lease(Thumbnails& owner) : owner_(owner) {
  const std::lock_guard lock(owner_.mutex_);
  worker_ = std::move(owner_.idle_.back());
  owner_.idle_.pop_back();
}

Thumbnails::Lease::~Lease() {
  const std::lock_guard lock(owner_.mutex_);
  owner_.idle_.push_back(std::move(worker_));
}

}  // namespace sluice::thumbnails
