// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"

struct sqlite3;
struct sqlite3_stmt;

/// A small layer over SQLite's C interface: ownership, and errors as values. It knows no tables.
///
/// Errors: 507 when space ran out and nothing was committed, 500 for everything else, a lock that stayed busy for
/// kBusyTimeoutMs included. After a 500 while committing, whether the change is on disk is only known once the database
/// was opened again.
/// Nothing here locks: a Database and its statements are used by one thread at a time.
namespace sluice::catalog::sqlite {

/// How long a call waits for a lock that another process holds. Within one process there is nothing to wait for.
inline constexpr int kBusyTimeoutMs = 5'000;

/// One run of a prepared statement; ends it, and with it its read transaction, when destroyed.
class Execution {
 public:
  explicit Execution(sqlite3_stmt* statement) : statement_(statement) {}
  Execution(Execution&& other) noexcept;
  Execution& operator=(Execution&&) = delete;
  ~Execution();

  /// Values are copied; an error is kept for the first step.
  void bind(int index, std::int64_t value);
  void bind(int index, std::string_view text);
  void bind(int index, std::span<const std::byte> blob);

  /// True: there is a row to read. False: the statement has ended, and what it changed is committed.
  Result<bool> step();
  /// Steps to the end and returns the number of rows that the statement inserted, updated or deleted.
  Result<std::int64_t> finish();

  /// Columns of the row that the last step gave, from 0. The blob is valid until the next step.
  bool is_null(int column) const;
  std::int64_t integer(int column) const;
  std::string text(int column) const;
  std::span<const std::byte> blob(int column) const;

 private:
  sqlite3_stmt* statement_;
  int bind_error_ = 0;
};

/// A statement that is compiled once and run many times, one run at a time. Must not outlive its Database.
class Statement {
 public:
  Statement() = default;
  explicit Statement(sqlite3_stmt* statement) : statement_(statement) {}

  /// Binds `values` to ?1, ?2, ... in order.
  template <class... Values>
  Execution start(const Values&... values) {
    Execution execution(statement_.get());
    int index = 0;
    (execution.bind(++index, values), ...);
    return execution;
  }

 private:
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const noexcept;
  };
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
};

/// A connection.
class Database {
 public:
  /// Creates the file if it is missing. Does not read it: what is wrong with its contents shows at the first use.
  static Result<Database> open(const std::string& path);

  Result<Statement> prepare(std::string_view sql);
  /// Runs one or several statements that take no values and give no rows of interest.
  Result<> execute(std::string_view sql);
  /// The first column of the first row; 0 or empty when there is no row.
  Result<std::int64_t> query_integer(std::string_view sql);
  Result<std::string> query_text(std::string_view sql);
  bool in_transaction() const;

 private:
  struct Close {
    void operator()(sqlite3* database) const noexcept;
  };
  explicit Database(sqlite3* database) : database_(database) {}
  std::unique_ptr<sqlite3, Close> database_;
};

/// A write transaction: holds the write lock from its beginning, and rolls back unless it was committed.
class Transaction {
 public:
  static Result<Transaction> begin(Database& database);
  Transaction(Transaction&& other) noexcept : database_(std::exchange(other.database_, nullptr)) {}
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction();

  Result<> commit();

 private:
  explicit Transaction(Database& database) : database_(&database) {}
  Database* database_;
};

}  // namespace sluice::catalog::sqlite
