// SPDX-License-Identifier: Apache-2.0
#include "catalog/sqlite_catalog.h"

#include <algorithm>
#include <condition_variable>
#include <functional>
#include <initializer_list>
#include <limits>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "catalog/sqlite.h"
#include "catalog/sqlite_schema.h"
#include "catalog/sqlite_usage.h"

namespace sluice::catalog {
namespace {

using sqlite::Database;
using sqlite::Execution;
using sqlite::Statement;

// How many reads run at once; more wait. A read takes microseconds, and each connection has a page cache of 2 MB and
// two descriptors.
constexpr std::size_t kReadConnections = 8;

// FULL: a commit is on stable storage when it returns. mmap off: a failing disk is an error then, not a SIGBUS. The log
// grows past a checkpoint only while a long read holds it; the limit gives that space back.
constexpr std::string_view kConnectionSettings = R"sql(
PRAGMA synchronous = FULL;
PRAGMA mmap_size = 0;
PRAGMA cache_size = -2000;
PRAGMA cell_size_check = ON;
PRAGMA journal_size_limit = 67108864;
)sql";

constexpr std::string_view kReserve = R"sql(
INSERT INTO media (media_id, server_name, user, created_at, expires_at, content_type, filename)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
)sql";

// Counts no further than to ?3.
constexpr std::string_view kCountPending = R"sql(
SELECT count(*) FROM (SELECT 1 FROM media WHERE user = ?1 AND expires_at > ?2 LIMIT ?3)
)sql";

constexpr std::string_view kFirstExpiry = "SELECT min(expires_at) FROM media WHERE user = ?1 AND expires_at > ?2";

constexpr std::string_view kStore = R"sql(
INSERT INTO media (media_id, server_name, user, created_at, stored_at, content_type, filename, size, sha256, attempt)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10 WHERE NOT EXISTS (SELECT 1 FROM quarantined WHERE sha256 = ?9)
ON CONFLICT (media_id, server_name) DO UPDATE SET
  user = excluded.user, created_at = excluded.created_at, expires_at = NULL, stored_at = excluded.stored_at,
  content_type = excluded.content_type, filename = excluded.filename,
  size = excluded.size, sha256 = excluded.sha256, attempt = excluded.attempt
WHERE stored_at IS NULL
)sql";

constexpr std::string_view kReap = R"sql(
DELETE FROM media WHERE (media_id, server_name) IN (
  SELECT media_id, server_name FROM media WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)
)sql";

constexpr std::string_view kRemove = R"sql(
DELETE FROM media WHERE media_id = ?1 AND server_name = ?2 AND (stored_at IS NOT NULL) = ?3
)sql";

constexpr std::string_view kQuarantine = "INSERT INTO quarantined (sha256) VALUES (?1) ON CONFLICT (sha256) DO NOTHING";
constexpr std::string_view kRelease = "DELETE FROM quarantined WHERE sha256 = ?1";
constexpr std::string_view kIsQuarantined = "SELECT 1 FROM quarantined WHERE sha256 = ?1";
constexpr std::string_view kCountIds = "SELECT count(*) FROM media WHERE sha256 = ?1";

constexpr std::string_view kFind = R"sql(
SELECT user, created_at, content_type, filename, expires_at, stored_at, size, sha256, attempt,
  EXISTS (SELECT 1 FROM quarantined WHERE quarantined.sha256 = media.sha256)
FROM media WHERE media_id = ?1 AND server_name = ?2
)sql";

// In the order of the index, which ends with the primary key.
constexpr std::string_view kStoredBy = R"sql(
SELECT user, created_at, content_type, filename, expires_at, stored_at, size, sha256, attempt, media_id, server_name
FROM media WHERE user = ?1 AND stored_at >= ?2 AND (stored_at, size, media_id, server_name) > (?2, ?3, ?4, ?5)
ORDER BY stored_at, size, media_id, server_name LIMIT ?6
)sql";

constexpr std::string_view kRefersTo = "SELECT 1 FROM media WHERE sha256 = ?1 LIMIT 1";

std::int64_t to_column(WallTime time) { return time.time_since_epoch().count(); }
WallTime to_time(std::int64_t column) { return WallTime(Milliseconds(column)); }

// A negative LIMIT would mean none.
std::int64_t to_limit(std::size_t limit) {
  return static_cast<std::int64_t>(std::min<std::size_t>(limit, std::numeric_limits<std::int64_t>::max()));
}

struct Writer {
  Database database;
  Statement reserve, count_pending, first_expiry, store, reap, remove, quarantine, release, is_quarantined, count_ids;
  UsageStatements usage{};
};

struct Reader {
  Database database;
  Statement find, refers_to, stored_by;
  UsageStatements usage{};
};

/// Prepares each statement in turn; stops at the first that fails.
Result<> prepare_all(Database& database, std::initializer_list<std::pair<Statement*, std::string_view>> statements) {
  for (const auto& [statement, sql] : statements) {
    Result<Statement> prepared = database.prepare(sql);
    if (!prepared) return Failure(prepared.error());
    *statement = std::move(*prepared);
  }
  return {};
}

Result<std::unique_ptr<Writer>> open_writer(const std::string& path) {
  Result<Database> database = Database::open(path);
  if (!database) return Failure(database.error());
  auto writer = std::make_unique<Writer>(std::move(*database));
  if (Result<> ready = prepare_sqlite_schema(writer->database); !ready) return Failure(ready.error());
  if (Result<> set = writer->database.execute(kConnectionSettings); !set) return Failure(set.error());
  const Result<> prepared = prepare_all(writer->database, {{&writer->reserve, kReserve},
                                                           {&writer->count_pending, kCountPending},
                                                           {&writer->first_expiry, kFirstExpiry},
                                                           {&writer->store, kStore},
                                                           {&writer->reap, kReap},
                                                           {&writer->remove, kRemove},
                                                           {&writer->quarantine, kQuarantine},
                                                           {&writer->release, kRelease},
                                                           {&writer->is_quarantined, kIsQuarantined},
                                                           {&writer->count_ids, kCountIds}});
  if (!prepared) return Failure(prepared.error());
  if (Result<> counting = writer->usage.prepare(writer->database); !counting) return Failure(counting.error());
  return writer;
}

Result<std::unique_ptr<Reader>> open_reader(const std::string& path) {
  Result<Database> database = Database::open(path);
  if (!database) return Failure(database.error());
  auto reader = std::make_unique<Reader>(std::move(*database));
  if (Result<> set = reader->database.execute(kConnectionSettings); !set) return Failure(set.error());
  if (Result<> set = reader->database.execute("PRAGMA query_only = ON"); !set) return Failure(set.error());
  const Result<> prepared = prepare_all(
      reader->database, {{&reader->find, kFind}, {&reader->refers_to, kRefersTo}, {&reader->stored_by, kStoredBy}});
  if (!prepared) return Failure(prepared.error());
  if (Result<> counting = reader->usage.prepare(reader->database); !counting) return Failure(counting.error());
  return reader;
}

/// Lends each reader to one thread at a time.
class ReaderPool {
 public:
  explicit ReaderPool(std::vector<std::unique_ptr<Reader>> readers) : idle_(std::move(readers)) {}

  class Lease {
   public:
    Lease(ReaderPool& pool, std::unique_ptr<Reader> reader) : pool_(pool), reader_(std::move(reader)) {}
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease() { pool_.give_back(std::move(reader_)); }
    Reader* operator->() const { return reader_.get(); }

   private:
    ReaderPool& pool_;
    std::unique_ptr<Reader> reader_;
  };

  Lease take() {
    std::unique_lock lock(mutex_);
    returned_.wait(lock, [this] { return !idle_.empty(); });
    std::unique_ptr<Reader> reader = std::move(idle_.back());  // the last one used has the warmest cache
    idle_.pop_back();
    return Lease(*this, std::move(reader));
  }

 private:
  void give_back(std::unique_ptr<Reader> reader) {
    {
      const std::scoped_lock lock(mutex_);
      idle_.push_back(std::move(reader));
    }
    returned_.notify_one();
  }

  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<std::unique_ptr<Reader>> idle_;
};

Result<StoredMedia> read_stored(const Mxc& mxc, const Execution& row) {
  Sha256Digest sha256;
  const std::span<const std::byte> digest = row.blob(7);
  if (digest.size() != sha256.bytes.size()) return fail::internal("catalog: a row has a damaged digest");
  std::ranges::copy(digest, sha256.bytes.begin());
  return StoredMedia{.mxc = mxc,
                     .user = row.text(0),
                     .created_at = to_time(row.integer(1)),
                     .stored_at = to_time(row.integer(5)),
                     .content_type = row.text(2),
                     .filename = row.text(3),
                     .size = static_cast<std::uint64_t>(row.integer(6)),
                     .sha256 = sha256,
                     .attempt = static_cast<std::uint64_t>(row.integer(8))};
}

Result<Record> read_record(const Mxc& mxc, const Execution& row) {
  Record record;
  if (!row.is_null(4)) {
    record.reservation = Reservation{.mxc = mxc,
                                     .user = row.text(0),
                                     .created_at = to_time(row.integer(1)),
                                     .expires_at = to_time(row.integer(4)),
                                     .content_type = row.text(2),
                                     .filename = row.text(3)};
    return record;
  }
  Result<StoredMedia> stored = read_stored(mxc, row);
  if (!stored) return Failure(stored.error());
  record.stored = *std::move(stored);
  record.is_quarantined = row.integer(9) != 0;
  return record;
}

/// What is known, without asking the database, of how many ids each user has pending: at most so many. It is the last
/// count and what was added since; what was stored or has expired meanwhile can only have made it less. So a
/// reservation below the limit by this bound is below it for certain, and one count serves many: a user with 10,000
/// pending ids (a bridge) cost 400 us for each create, all of it counting.
class PendingBounds {
 public:
  /// Nothing when a count is needed: none was made, or the clock was set back to before it.
  std::optional<std::int64_t> at_most(const std::string& user, WallTime now) const {
    const auto found = bounds_.find(user);
    if (found == bounds_.end() || now < found->second.counted_at) return {};
    return found->second.pending;
  }
  void set(const std::string& user, std::int64_t counted, WallTime now) {
    if (bounds_.size() >= kMaxUsers) bounds_.clear();
    bounds_[user] = {counted, now};
  }
  void clear() { bounds_.clear(); }
  void add_one(const std::string& user) {
    if (const auto found = bounds_.find(user); found != bounds_.end()) ++found->second.pending;
  }

 private:
  static constexpr std::size_t kMaxUsers = 10'000;  // about 1 MB; what is forgotten is counted again

  struct Bound {
    std::int64_t pending;
    WallTime counted_at;
  };
  std::unordered_map<std::string, Bound> bounds_;
};

class SqliteCatalog final : public Catalog {
 public:
  SqliteCatalog(std::unique_ptr<Writer> writer, std::vector<std::unique_ptr<Reader>> readers)
      : writer_(std::move(writer)), readers_(std::move(readers)) {}

  Result<> reserve(const Reservation& reservation, std::uint32_t max_pending) override {
    const std::scoped_lock lock(writer_mutex_);
    if (group_ && group_->failure) return Failure(*group_->failure);
    const Result<bool> has_room = has_room_for(reservation, max_pending);
    if (!has_room) return note(Failure(has_room.error()));
    if (!*has_room) return too_many_pending(reservation);
    const Result<std::int64_t> added =
        writer_->reserve
            .start(reservation.mxc.media_id(), reservation.mxc.server_name(), reservation.user,
                   to_column(reservation.created_at), to_column(reservation.expires_at), reservation.content_type,
                   reservation.filename)
            .finish();
    if (!added) return note(Failure(added.error()));
    pending_bounds_.add_one(reservation.user);
    return {};
  }

  Result<Record> find(const Mxc& mxc) override {
    const ReaderPool::Lease reader = readers_.take();
    Execution query = reader->find.start(mxc.media_id(), mxc.server_name());
    const Result<bool> row = query.step();
    if (!row) return Failure(row.error());
    if (!*row) return Record{};
    return read_record(mxc, query);
  }

  Result<> store(const StoredMedia& media, const Allowance& allowance) override {
    const std::scoped_lock lock(writer_mutex_);
    if (group_ && group_->failure) return Failure(*group_->failure);
    if (!allowance.is_unlimited()) {
      const Result<std::uint64_t> room =
          writer_->usage.check_room(media.user, {.files = 1, .bytes = media.size}, allowance, media.stored_at);
      if (!room) return note(Failure(room.error()));
    }
    const Result<std::int64_t> changed =
        writer_->store
            .start(media.mxc.media_id(), media.mxc.server_name(), media.user, to_column(media.created_at),
                   to_column(media.stored_at), media.content_type, media.filename,
                   static_cast<std::int64_t>(media.size), std::span<const std::byte>(media.sha256.bytes),
                   static_cast<std::int64_t>(media.attempt))
            .finish();
    if (!changed) return note(Failure(changed.error()));
    if (*changed > 0) return {};
    const Result<bool> hidden = writer_->is_quarantined.start(std::span<const std::byte>(media.sha256.bytes)).step();
    if (!hidden) return note(Failure(hidden.error()));
    if (*hidden) return fail::forbidden("This content is not allowed here");
    return fail::with(409, "M_CANNOT_OVERWRITE_MEDIA", "This media id has content already");
  }

  Result<Usage> usage(std::string_view user) override {
    const ReaderPool::Lease reader = readers_.take();
    return reader->usage.read(user);
  }

  Result<std::uint64_t> check_room(std::string_view user, const Usage& wanted, const Allowance& allowance,
                                   WallTime now) override {
    const ReaderPool::Lease reader = readers_.take();
    return reader->usage.check_room(user, wanted, allowance, now);
  }

  Result<bool> remove(const Record& found) override {
    if (!found.stored && !found.reservation) return false;
    const Mxc& mxc = found.stored ? found.stored->mxc : found.reservation->mxc;
    const std::scoped_lock lock(writer_mutex_);
    if (group_ && group_->failure) return Failure(*group_->failure);
    const Result<std::int64_t> removed =
        writer_->remove.start(mxc.media_id(), mxc.server_name(), std::int64_t{found.stored.has_value()}).finish();
    if (!removed) return note(Failure(removed.error()));
    return *removed > 0;
  }

  Result<std::size_t> quarantine(std::span<const Sha256Digest> contents) override {
    return change_each(writer_->quarantine, contents);
  }

  Result<std::size_t> release(std::span<const Sha256Digest> contents) override {
    return change_each(writer_->release, contents);
  }

  Result<std::vector<StoredMedia>> stored_by(std::string_view user, const std::optional<StoredMedia>& last,
                                             std::size_t limit) override {
    constexpr std::int64_t kBeforeAll = std::numeric_limits<std::int64_t>::min();
    const ReaderPool::Lease reader = readers_.take();
    Execution query = reader->stored_by.start(user, last ? to_column(last->stored_at) : kBeforeAll,
                                              last ? static_cast<std::int64_t>(last->size) : kBeforeAll,
                                              last ? std::string_view(last->mxc.media_id()) : "",
                                              last ? std::string_view(last->mxc.server_name()) : "", to_limit(limit));
    std::vector<StoredMedia> page;
    for (;;) {
      const Result<bool> row = query.step();
      if (!row) return Failure(row.error());
      if (!*row) return page;
      const std::optional<Mxc> mxc = Mxc::of(query.text(10), query.text(9));
      if (!mxc) return fail::internal("catalog: a row has a damaged id");
      Result<StoredMedia> media = read_stored(*mxc, query);
      if (!media) return Failure(media.error());
      page.push_back(*std::move(media));
    }
  }

  Result<bool> refers_to(const Sha256Digest& sha256) override {
    const ReaderPool::Lease reader = readers_.take();
    return reader->refers_to.start(std::span<const std::byte>(sha256.bytes)).step();
  }

  Result<std::size_t> reap(WallTime now, std::size_t limit) override {
    const std::scoped_lock lock(writer_mutex_);
    if (group_ && group_->failure) return Failure(*group_->failure);
    const Result<std::int64_t> removed = writer_->reap.start(to_column(now), to_limit(limit)).finish();
    if (!removed) return note(Failure(removed.error()));
    return static_cast<std::size_t>(*removed);
  }

  Result<> in_one_transaction(const std::function<void()>& work) override {
    const std::scoped_lock lock(writer_mutex_);
    Result<sqlite::Transaction> transaction = sqlite::Transaction::begin(writer_->database);
    if (!transaction) return Failure(transaction.error());
    // A count may have seen changes of a group that is taken back.
    struct BoundsOfTheCommitted {
      PendingBounds& bounds;
      bool are_committed = false;
      ~BoundsOfTheCommitted() {
        if (!are_committed) bounds.clear();
      }
    } bounds{pending_bounds_};
    const Group group(group_);
    work();
    if (group.failure) return Failure(*group.failure);
    Result<> committed = transaction->commit();
    bounds.are_committed = committed.has_value();
    return committed;
  }

  Result<> check() override {
    if (const Result<bool> answer = refers_to({}); !answer) return Failure(answer.error());
    const std::scoped_lock lock(writer_mutex_);
    const Result<sqlite::Transaction> rolled_back = sqlite::Transaction::begin(writer_->database);
    if (!rolled_back) return Failure(rolled_back.error());
    return writer_->database.execute("UPDATE probe SET writes = writes + 1");
  }

 private:
  /// The changes that share a transaction now.
  struct Group {
    explicit Group(Group*& current) : current_(current) { current_ = this; }
    Group(const Group&) = delete;
    Group& operator=(const Group&) = delete;
    ~Group() { current_ = nullptr; }

    std::optional<Error> failure;  // of the whole transaction
    Group*& current_;
  };

  /// Adds or takes away each, and counts the ids that have what was changed.
  Result<std::size_t> change_each(Statement& change, std::span<const Sha256Digest> contents) {
    const std::scoped_lock lock(writer_mutex_);
    std::size_t ids = 0;
    for (const Sha256Digest& sha256 : contents) {
      if (group_ && group_->failure) return Failure(*group_->failure);
      const std::span<const std::byte> digest(sha256.bytes);
      const Result<std::int64_t> changed = change.start(digest).finish();
      if (!changed) return note(Failure(changed.error()));
      if (*changed == 0) continue;
      Execution count = writer_->count_ids.start(digest);
      if (const Result<bool> row = count.step(); !row) return note(Failure(row.error()));
      ids += static_cast<std::size_t>(count.integer(0));
    }
    return ids;
  }

  Result<bool> has_room_for(const Reservation& reservation, std::uint32_t max_pending) {
    const WallTime now = reservation.created_at;
    if (pending_bounds_.at_most(reservation.user, now).value_or(max_pending) < max_pending) return true;
    Execution query =
        writer_->count_pending.start(reservation.user, to_column(now), static_cast<std::int64_t>(max_pending));
    const Result<bool> row = query.step();
    if (!row) return Failure(row.error());
    const std::int64_t counted = query.integer(0);
    if (counted >= max_pending) return false;  // where counting stopped: there may be more
    pending_bounds_.set(reservation.user, counted, now);
    return true;
  }

  // Nothing can have expired or been stored since they were counted: the mutex is still held.
  Failure too_many_pending(const Reservation& refused) {
    Error error{429, "M_LIMIT_EXCEEDED", "Too many media ids wait for their content", {}, false};
    Execution query = writer_->first_expiry.start(refused.user, to_column(refused.created_at));
    const Result<bool> row = query.step();
    if (!row) return note(Failure(row.error()));
    if (*row && !query.is_null(0)) error.retry_after = to_time(query.integer(0)) - refused.created_at;
    return Failure(std::move(error));
  }

  // A statement that fails takes back what it did itself. But some errors, a full disk above all, make SQLite take back
  // the whole transaction: then nothing of the group can be kept, and what would come after must not be committed
  // alone.
  Failure note(Failure failure) {
    if (group_ && !writer_->database.in_transaction()) group_->failure = failure.error();
    return failure;
  }

  std::recursive_mutex
      writer_mutex_;  // guards all below but readers_; `in_one_transaction` holds it while changes are made
  std::unique_ptr<Writer> writer_;
  PendingBounds pending_bounds_;
  Group* group_ = nullptr;  // while `in_one_transaction` runs its work
  ReaderPool readers_;      // closed before the writer, whose closing empties the log
};

}  // namespace

Result<std::unique_ptr<Catalog>> open_sqlite_catalog(const std::string& path) {
  Result<std::unique_ptr<Writer>> writer = open_writer(path);
  if (!writer) return Failure(writer.error());
  std::vector<std::unique_ptr<Reader>> readers;
  while (readers.size() < kReadConnections) {
    Result<std::unique_ptr<Reader>> reader = open_reader(path);
    if (!reader) return Failure(reader.error());
    readers.push_back(std::move(*reader));
  }
  return std::make_unique<SqliteCatalog>(std::move(*writer), std::move(readers));
}

}  // namespace sluice::catalog
