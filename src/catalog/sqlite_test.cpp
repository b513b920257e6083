// SPDX-License-Identifier: Apache-2.0
#include "catalog/sqlite.h"

#include <gtest/gtest.h>
#include <sqlite3.h>

#include <cerrno>

#include "base/temporary_directory_test.h"

namespace sluice::catalog::sqlite {
namespace {

class SqliteTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(database_.execute("CREATE TABLE t (number INTEGER UNIQUE, text TEXT, blob BLOB) STRICT"));
  }
  std::int64_t count() { return database_.query_integer("SELECT count(*) FROM t").value_or(-1); }

  TemporaryDirectory directory_{TemporaryDirectory::in_memory()};
  std::string path_ = directory_ / "db";
  Database database_ = *Database::open(path_);
};

TEST_F(SqliteTest, GivesBackWhatWasBound) {
  const std::string text("a\0b'", 4);
  auto insert = *database_.prepare("INSERT INTO t VALUES (?1, ?2, ?3)");
  EXPECT_EQ(insert.start(std::int64_t{-5}, text, std::as_bytes(std::span(text))).finish(), 1);
  auto select = *database_.prepare("SELECT number, text, blob, NULL FROM t");
  auto rows = select.start();
  ASSERT_EQ(rows.step(), true);
  EXPECT_EQ(rows.integer(0), -5);
  EXPECT_EQ(rows.text(1), text);
  EXPECT_TRUE(std::ranges::equal(rows.blob(2), std::as_bytes(std::span(text))));
  EXPECT_FALSE(rows.is_null(2));
  EXPECT_TRUE(rows.is_null(3));
  EXPECT_EQ(rows.text(3), "");
  EXPECT_EQ(rows.step(), false);
}

TEST_F(SqliteTest, EmptyIsNotNull) {
  auto insert = *database_.prepare("INSERT INTO t VALUES (1, ?1, ?2)");
  ASSERT_TRUE(insert.start(std::string_view(), std::span<const std::byte>()).finish());
  EXPECT_EQ(database_.query_integer("SELECT text IS NULL OR blob IS NULL FROM t"), 0);
}

TEST_F(SqliteTest, AStatementRunsAgainAfterAnError) {
  auto insert = *database_.prepare("INSERT INTO t (number) VALUES (?1)");
  EXPECT_TRUE(insert.start(std::int64_t{1}).finish());
  const auto twice = insert.start(std::int64_t{1}).finish();
  ASSERT_FALSE(twice);
  EXPECT_EQ(twice.error().http_status, 500);
  EXPECT_EQ(twice.error().message, "catalog: UNIQUE constraint failed: t.number");
  EXPECT_TRUE(insert.start(std::int64_t{2}).finish());
  EXPECT_EQ(count(), 2);
}

TEST_F(SqliteTest, MistakesInSqlAndWrongValuesAreErrors) {
  EXPECT_FALSE(database_.prepare("SELECT missing FROM t"));
  EXPECT_FALSE(database_.execute("NONSENSE"));
  auto select = *database_.prepare("SELECT 1");
  EXPECT_FALSE(select.start(std::int64_t{1}).step());  // there is no ?1
  EXPECT_EQ(database_.query_integer("SELECT number FROM t"), 0);
}

TEST_F(SqliteTest, AFullDatabaseIsA507) {
  ASSERT_TRUE(database_.execute("PRAGMA max_page_count = 4"));
  auto insert = *database_.prepare("INSERT INTO t (text) VALUES (?1)");
  const auto added = insert.start(std::string(100'000, 'x')).finish();
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().http_status, 507);
  EXPECT_EQ(count(), 0);
}

// SQLite's own file system, but that fsync of the log fails for want of space, as a quota or a network mount lets it.
class FailingSync {
 public:
  FailingSync() {
    vfs_ = *original_;
    vfs_.zName = "failing-sync";
    vfs_.xOpen = [](sqlite3_vfs*, const char* name, sqlite3_file* file, int flags, int* out) {
      const int code = original_->xOpen(original_, name, file, flags, out);
      if (code == SQLITE_OK && (flags & SQLITE_OPEN_WAL) != 0) {
        methods_ = *file->pMethods;
        methods_.xSync = [](sqlite3_file*, int) { return SQLITE_IOERR_FSYNC; };
        file->pMethods = &methods_;
      }
      return code;
    };
    vfs_.xGetLastError = [](sqlite3_vfs*, int, char*) { return ENOSPC; };
    sqlite3_vfs_register(&vfs_, 1);
  }
  ~FailingSync() {
    sqlite3_vfs_unregister(&vfs_);
    sqlite3_vfs_register(original_, 1);
  }

 private:
  static inline sqlite3_vfs* original_ = sqlite3_vfs_find(nullptr);
  static inline sqlite3_io_methods methods_;
  sqlite3_vfs vfs_;
};

TEST_F(SqliteTest, SpaceThatRunsOutInFsyncIsNoCertainRefusal) {
  const FailingSync failing;
  Database database = *Database::open(directory_ / "unsynced");
  ASSERT_EQ(database.query_text("PRAGMA journal_mode = WAL"), "wal");
  ASSERT_TRUE(database.execute("PRAGMA synchronous = FULL"));
  const Result<> created = database.execute("CREATE TABLE t (number INTEGER)");
  ASSERT_FALSE(created);
  EXPECT_EQ(created.error().http_status, 500) << "507 promises that nothing was committed: " << created.error().message;
}

TEST_F(SqliteTest, ATransactionRollsBackUnlessItIsCommitted) {
  {
    const auto transaction = *Transaction::begin(database_);
    ASSERT_TRUE(database_.execute("INSERT INTO t (number) VALUES (1)"));
    EXPECT_EQ(count(), 1);
  }
  EXPECT_EQ(count(), 0);
  {
    auto transaction = *Transaction::begin(database_);
    EXPECT_FALSE(Transaction::begin(database_));
    ASSERT_TRUE(database_.execute("INSERT INTO t (number) VALUES (1)"));
    ASSERT_TRUE(transaction.commit());
  }
  EXPECT_EQ(count(), 1);
  EXPECT_FALSE(database_.in_transaction());
}

}  // namespace
}  // namespace sluice::catalog::sqlite
