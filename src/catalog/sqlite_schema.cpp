// SPDX-License-Identifier: Apache-2.0
#include "catalog/sqlite_schema.h"

#include <fmt/format.h>

#include <array>
#include <string_view>

namespace sluice::catalog {
namespace {

// The ladder: migration n brings user_version from n to n + 1. A step that was released is never edited.
constexpr std::array<std::string_view, 2> kMigrations = {
    // 0 -> 1
    // One row per media id, first reserved, then stored, so that looking an id up is one descent of one tree. The id
    // leads the key because ids are unique in themselves. Times are milliseconds since 1970.
    R"sql(
CREATE TABLE media (
  media_id     TEXT    NOT NULL,
  server_name  TEXT    NOT NULL,
  user         TEXT    NOT NULL,
  created_at   INTEGER NOT NULL,
  expires_at   INTEGER,           -- set while reserved, and only then
  stored_at    INTEGER,           -- set once stored, with all that follow
  size         INTEGER,           -- bytes; an unsigned 64-bit number, kept by its bits
  sha256       BLOB,              -- 32 bytes
  attempt      INTEGER,           -- an unsigned 64-bit number, kept by its bits
  content_type TEXT    NOT NULL,  -- empty: not declared; never empty once stored
  filename     TEXT    NOT NULL,  -- empty: none
  PRIMARY KEY (media_id, server_name),
  CHECK ((expires_at IS NULL) <> (stored_at IS NULL)),
  CHECK (stored_at IS NULL OR (size IS NOT NULL AND attempt IS NOT NULL AND sha256 IS NOT NULL AND length(sha256) = 32))
) STRICT, WITHOUT ROWID;

CREATE INDEX reserved_by_user   ON media (user, expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX reserved_by_expiry ON media (expires_at)       WHERE expires_at IS NOT NULL;
CREATE INDEX stored_by_content  ON media (sha256)           WHERE sha256 IS NOT NULL;

CREATE TABLE probe (  -- the health check writes it and rolls back
  id     INTEGER NOT NULL PRIMARY KEY,
  writes INTEGER NOT NULL
) STRICT;
INSERT INTO probe (id, writes) VALUES (1, 0);
)sql",
    // 1 -> 2
    // What each user has stored is counted by triggers, so that no statement can forget to. The index finds a user's
    // media by time; it has the size, so that a window is summed up without looking at a row.
    R"sql(
CREATE TABLE quarantined (  -- contents that nobody may see
  sha256 BLOB NOT NULL PRIMARY KEY CHECK (length(sha256) = 32)
) STRICT, WITHOUT ROWID;

CREATE TABLE usage (  -- of each user who has something stored
  user  TEXT    NOT NULL PRIMARY KEY,
  files INTEGER NOT NULL,
  bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO usage (user, files, bytes)
  SELECT user, count(*), sum(size) FROM media WHERE stored_at IS NOT NULL GROUP BY user;

CREATE INDEX stored_by_user ON media (user, stored_at, size) WHERE stored_at IS NOT NULL;

CREATE TRIGGER stored_without_reservation AFTER INSERT ON media WHEN new.stored_at IS NOT NULL BEGIN
  INSERT INTO usage (user, files, bytes) VALUES (new.user, 1, new.size)
  ON CONFLICT (user) DO UPDATE SET files = files + 1, bytes = bytes + new.size;
END;
CREATE TRIGGER stored_in_its_place AFTER UPDATE OF stored_at ON media WHEN new.stored_at IS NOT NULL BEGIN
  INSERT INTO usage (user, files, bytes) VALUES (new.user, 1, new.size)
  ON CONFLICT (user) DO UPDATE SET files = files + 1, bytes = bytes + new.size;
END;
CREATE TRIGGER removed AFTER DELETE ON media WHEN old.stored_at IS NOT NULL BEGIN
  UPDATE usage SET files = files - 1, bytes = bytes - old.size WHERE user = old.user;
  DELETE FROM usage WHERE user = old.user AND files = 0;
END;
)sql",
};

constexpr auto kNewestVersion = static_cast<std::int64_t>(kMigrations.size());

// Looks before anything is written, so that a file that is not ours stays as it is.
Result<> refuse_what_is_not_ours(sqlite::Database& database) {
  const Result<std::int64_t> objects = database.query_integer("SELECT count(*) FROM sqlite_schema");
  if (!objects) return Failure(objects.error());
  const Result<std::int64_t> application = database.query_integer("PRAGMA application_id");
  if (!application) return Failure(application.error());
  const Result<std::int64_t> version = database.query_integer("PRAGMA user_version");
  if (!version) return Failure(version.error());

  const bool is_empty = *objects == 0 && *application == 0 && *version == 0;
  if (is_empty) return {};
  if (*application != kSqliteApplicationId) {
    return fail::internal("catalog: the file is an SQLite database of another program");
  }
  if (*version > kNewestVersion) {
    return fail::internal(
        fmt::format("catalog: the file was written by a newer Sluice: its schema is version {}, this program knows "
                    "versions up to {}",
                    *version, kNewestVersion));
  }
  return {};
}

Result<> turn_on_write_ahead_log(sqlite::Database& database) {
  const Result<std::string> mode = database.query_text("PRAGMA journal_mode = WAL");
  if (!mode) return Failure(mode.error());
  if (*mode != "wal") {
    return fail::internal("catalog: the file system cannot hold a write-ahead log; a local disk is needed");
  }
  return {};
}

Result<> climb(sqlite::Database& database) {
  Result<sqlite::Transaction> transaction = sqlite::Transaction::begin(database);
  if (!transaction) return Failure(transaction.error());
  const Result<std::int64_t> version = database.query_integer("PRAGMA user_version");
  if (!version) return Failure(version.error());
  if (*version == kNewestVersion) return {};
  for (std::int64_t from = *version; from < kNewestVersion; ++from) {
    if (Result<> done = database.execute(kMigrations.at(static_cast<std::size_t>(from))); !done) return done;
  }
  const std::string marks =
      fmt::format("PRAGMA application_id = {}; PRAGMA user_version = {};", kSqliteApplicationId, kNewestVersion);
  if (Result<> done = database.execute(marks); !done) return done;
  return transaction->commit();
}

}  // namespace

Result<> prepare_sqlite_schema(sqlite::Database& database) {
  if (Result<> ours = refuse_what_is_not_ours(database); !ours) return ours;
  if (Result<> logged = turn_on_write_ahead_log(database); !logged) return logged;
  return climb(database);
}

}  // namespace sluice::catalog
