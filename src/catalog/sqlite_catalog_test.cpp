// SPDX-License-Identifier: Apache-2.0
#include "catalog/sqlite_catalog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <random>

#include "base/temporary_directory_test.h"
#include "catalog/catalog_contract_test.h"
#include "catalog/sqlite.h"
#include "catalog/sqlite_schema.h"
#include "catalog/stored_media_contract_test.h"

namespace sluice::catalog {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;

struct SqliteCatalogMaker {
  Result<std::unique_ptr<Catalog>> open() { return open_sqlite_catalog(directory / "catalog.sqlite"); }

  TemporaryDirectory directory{TemporaryDirectory::in_memory()};
};

INSTANTIATE_TYPED_TEST_SUITE_P(Sqlite, CatalogContract, SqliteCatalogMaker);
INSTANTIATE_TYPED_TEST_SUITE_P(Sqlite, StoredMediaContract, SqliteCatalogMaker);

class SqliteCatalogTest : public ::testing::Test {
 protected:
  static Mxc mxc(std::string_view id) { return *Mxc::of("example.org", id); }
  static WallTime at(std::int64_t milliseconds) { return WallTime(Milliseconds(milliseconds)); }
  static Reservation reservation(std::string_view id) {
    return {mxc(id), "@alice:example.org", at(0), at(1000), "image/png", "a name that takes some room.png"};
  }
  static StoredMedia stored(std::string_view id) {
    return {mxc(id), "@alice:example.org", at(0), at(1), "image/png", "", 1, sha256(id), 1};
  }

  std::unique_ptr<Catalog> open() {
    auto opened = open_sqlite_catalog(path_);
    if (!opened) throw std::runtime_error(opened.error().message);
    return std::move(*opened);
  }
  std::string why_refused() const {
    const auto opened = open_sqlite_catalog(path_);
    if (opened) return "it was opened";
    EXPECT_EQ(opened.error().http_status, 500);
    EXPECT_THAT(opened.error().message, Not(HasSubstr(directory_.path())));
    return opened.error().message;
  }
  std::string content() const {
    std::ifstream in(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  }
  void overwrite(std::string_view content) const {
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << content;
  }
  void fill(Catalog& catalog, int rows) {
    for (int i = 0; i < rows; ++i) {
      ASSERT_TRUE(catalog.reserve(reservation("reserved" + std::to_string(i)), 1'000'000));
      ASSERT_TRUE(catalog.store(stored("stored" + std::to_string(i))));
    }
  }

  TemporaryDirectory directory_{TemporaryDirectory::in_memory()};
  std::string path_ = directory_ / "catalog.sqlite";
};

TEST_F(SqliteCatalogTest, WritesAFileThatSaysWhatItIs) {
  open();
  auto database = *sqlite::Database::open(path_);
  EXPECT_EQ(database.query_integer("PRAGMA application_id"), kSqliteApplicationId);
  EXPECT_EQ(database.query_integer("PRAGMA user_version"), 2);
  EXPECT_EQ(database.query_text("PRAGMA journal_mode"), "wal");
  EXPECT_EQ(database.query_text("PRAGMA integrity_check"), "ok");
}

TEST_F(SqliteCatalogTest, LooksUpAndCountsByIndexAlone) {
  open();
  auto database = *sqlite::Database::open(path_);
  const auto plan = [&](const std::string& sql) {
    auto statement = *database.prepare("EXPLAIN QUERY PLAN " + sql);
    auto rows = statement.start();
    std::string text;
    while (rows.step().value()) text += rows.text(3) + "\n";
    return text;
  };
  EXPECT_THAT(plan("SELECT filename FROM media WHERE media_id = 'a' AND server_name = 'b'"),
              HasSubstr("SEARCH media USING PRIMARY KEY (media_id=? AND server_name=?)"));
  EXPECT_THAT(plan("SELECT count(*) FROM media WHERE user = 'a' AND expires_at > 1"),
              HasSubstr("SEARCH media USING COVERING INDEX reserved_by_user (user=? AND expires_at>?)"));
  EXPECT_THAT(plan("SELECT media_id, server_name FROM media WHERE expires_at <= 1 ORDER BY expires_at LIMIT 5"),
              HasSubstr("SEARCH media USING COVERING INDEX reserved_by_expiry (expires_at<?)"));
  EXPECT_THAT(plan("SELECT 1 FROM media WHERE sha256 = x'00' LIMIT 1"),
              HasSubstr("SEARCH media USING COVERING INDEX stored_by_content (sha256=?)"));
  EXPECT_THAT(plan("SELECT sum(size) FROM media WHERE user = 'a' AND stored_at > 1"),
              HasSubstr("SEARCH media USING COVERING INDEX stored_by_user (user=? AND stored_at>?)"));
  EXPECT_THAT(plan("SELECT sha256 FROM media WHERE user = 'a' AND stored_at >= 1 AND (stored_at, size, media_id, "
                   "server_name) > (1, 2, 'a', 'b') ORDER BY stored_at, size, media_id, server_name LIMIT 5"),
              AllOf(HasSubstr("USING INDEX stored_by_user"), Not(HasSubstr("TEMP B-TREE"))));
}

TEST_F(SqliteCatalogTest, CountsWhatWasStoredBeforeItCounted) {
  fill(*open(), 10);
  ASSERT_TRUE(sqlite::Database::open(path_)->execute(
      "DROP TRIGGER stored_without_reservation; DROP TRIGGER stored_in_its_place; DROP TRIGGER removed;"
      "DROP INDEX stored_by_user; DROP TABLE usage; DROP TABLE quarantined; PRAGMA user_version = 1"));
  const auto catalog = open();
  EXPECT_EQ(catalog->usage(stored("stored0").user)->files, 10u);
  EXPECT_EQ(catalog->usage(stored("stored0").user)->bytes, 10 * stored("stored0").size);
  ASSERT_TRUE(catalog->store(stored("reserved0")));
  EXPECT_EQ(catalog->usage(stored("stored0").user)->files, 11u);
}

TEST_F(SqliteCatalogTest, ReadsWhileAWriteIsUnderWay) {
  const auto catalog = open();
  ASSERT_TRUE(catalog->reserve(reservation("a"), 5));
  auto other = *sqlite::Database::open(path_);
  auto transaction = *sqlite::Transaction::begin(other);
  ASSERT_TRUE(other.execute("DELETE FROM media"));
  EXPECT_TRUE(catalog->find(mxc("a"))->reservation);
  EXPECT_EQ(catalog->refers_to(sha256("a")), false);
  ASSERT_TRUE(transaction.commit());
  EXPECT_FALSE(catalog->find(mxc("a"))->reservation);
}

TEST_F(SqliteCatalogTest, TheCheckFailsWhenNothingCanBeCommitted) {
  const auto catalog = open();
  ASSERT_TRUE(sqlite::Database::open(path_)->execute("DROP TABLE probe"));
  const Result<> checked = catalog->check();
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().http_status, 500);
  EXPECT_TRUE(catalog->reserve(reservation("a"), 5)) << "the failed check left its transaction open";
}

/// No file grows beyond a size, as on a full disk. For the whole process, so only while it lives.
class FullDisk {
 public:
  explicit FullDisk(std::uintmax_t size) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{size, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  FullDisk(const FullDisk&) = delete;
  FullDisk& operator=(const FullDisk&) = delete;
  ~FullDisk() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int) = nullptr;
};

// A few changes reach the disk when they are committed; thousands before, since they do not fit into memory.
TEST_F(SqliteCatalogTest, ADiskThatFillsUpFailsTheWholeGroupAndKeepsNothingOfIt) {
  const auto catalog = open();
  fill(*catalog, 10);
  for (const int changes : {3, 30'000}) {
    const std::string prefix = std::to_string(changes) + "-";
    int refused = 0;
    {
      const FullDisk full(std::filesystem::file_size(path_ + "-wal") + 100'000);
      std::optional<FullDisk> fuller;
      if (changes < 100) fuller.emplace(std::filesystem::file_size(path_ + "-wal"));
      const Result<> done = catalog->in_one_transaction([&] {
        for (int i = 0; i < changes; ++i) {
          const Result<> reserved = catalog->reserve(reservation(prefix + std::to_string(i)), 1'000'000);
          if (!reserved) ++refused;
        }
      });
      ASSERT_FALSE(done);
      EXPECT_THAT(done.error().http_status, AnyOf(500, 507));  // SQLite cannot always tell this from a broken disk
    }
    EXPECT_EQ(refused > 0, changes > 100) << "the test does not test what it says";
    for (int i = 0; i < changes; i += 1 + changes / 100) {
      EXPECT_FALSE(catalog->find(mxc(prefix + std::to_string(i)))->reservation) << i;
    }
    EXPECT_TRUE(catalog->reserve(reservation(prefix + "after"), 1'000'000)) << "there is space again";
    EXPECT_TRUE(catalog->find(mxc("stored9"))->stored);
  }
}

TEST_F(SqliteCatalogTest, RefusesAFileFromTheFutureAndLeavesItAsItIs) {
  open();
  ASSERT_TRUE(sqlite::Database::open(path_)->execute("PRAGMA user_version = 1000"));
  const std::string before = content();
  EXPECT_THAT(why_refused(),
              HasSubstr("newer Sluice: its schema is version 1000, this program knows versions up to 2"));
  EXPECT_EQ(content(), before);
}

TEST_F(SqliteCatalogTest, RefusesADatabaseOfAnotherProgramAndLeavesItAsItIs) {
  ASSERT_TRUE(sqlite::Database::open(path_)->execute("CREATE TABLE notes (text TEXT)"));
  const std::string before = content();
  EXPECT_THAT(why_refused(), HasSubstr("another program"));
  EXPECT_EQ(content(), before);
}

TEST_F(SqliteCatalogTest, RefusesAFileThatIsNoDatabase) {
  overwrite(std::string(10'000, 'x'));
  EXPECT_EQ(why_refused(), "catalog: file is not a database");
  overwrite("short");
  EXPECT_EQ(why_refused(), "catalog: file is not a database");
}

TEST_F(SqliteCatalogTest, RefusesATruncatedFile) {
  fill(*open(), 100);
  const std::string whole = content();
  for (const std::size_t left : {std::size_t{50}, std::size_t{100}, std::size_t{4096}, whole.size() / 2}) {
    overwrite(whole.substr(0, left));
    EXPECT_THAT(why_refused(), ::testing::StartsWith("catalog: ")) << left;
  }
}

TEST_F(SqliteCatalogTest, CannotBeMadeWhereThereIsNoDirectory) {
  path_ = directory_ / "missing/catalog.sqlite";
  EXPECT_EQ(why_refused(), "catalog: unable to open database file");
}

TEST_F(SqliteCatalogTest, SurvivesDamageWithoutHarm) {
  fill(*open(), 100);
  const std::string whole = content();
  int failures = 0;
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    std::string damaged = whole;
    const std::size_t begin = 100 + random() % (damaged.size() - 100);
    const std::size_t length = std::min<std::size_t>(1 + random() % 3000, damaged.size() - begin);
    for (std::size_t i = 0; i < length; ++i) damaged[begin + i] = static_cast<char>(random());
    overwrite(damaged);

    const auto count = [&](const auto& result) {
      if (result) return;
      ++failures;
      EXPECT_EQ(result.error().http_status, 500) << seed << ": " << result.error().message;
    };
    auto opened = open_sqlite_catalog(path_);
    count(opened);
    if (!opened) continue;
    Catalog& catalog = **opened;
    for (int i = 0; i < 100; i += 7) {
      count(catalog.find(mxc("reserved" + std::to_string(i))));
      count(catalog.refers_to(sha256("stored" + std::to_string(i))));
    }
    count(catalog.reserve(reservation("new"), 1000));
    count(catalog.store(stored("new2")));
    count(catalog.reap(at(1000), 50));
    count(catalog.check());
  }
  EXPECT_GT(failures, 100);
}

}  // namespace
}  // namespace sluice::catalog
