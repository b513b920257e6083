// SPDX-License-Identifier: Apache-2.0
#include "catalog/sqlite.h"

#include <sqlite3.h>

#include <cerrno>

namespace sluice::catalog::sqlite {
namespace {

// SQLite calls a quota that a write met an I/O error. Where fsync met it, the change may be on disk all the same, so
// that is not a matter of space alone.
bool is_out_of_space(sqlite3* database, int code) {
  if ((code & 0xff) == SQLITE_FULL) return true;
  if (sqlite3_extended_errcode(database) != SQLITE_IOERR_WRITE) return false;
  const int cause = sqlite3_system_errno(database);
  return cause == ENOSPC || cause == EDQUOT || cause == EFBIG;
}

Failure failure(sqlite3* database, int code) {
  const std::string message = std::string("catalog: ") + sqlite3_errmsg(database);
  if (is_out_of_space(database, code)) return fail::with(507, "M_UNKNOWN", message);
  return fail::internal(message);
}

// The first column of the first row; an empty value if there is no row.
template <class Value>
Result<Value> query_value(Database& database, std::string_view sql, Value (Execution::*column)(int) const) {
  Result<Statement> statement = database.prepare(sql);
  if (!statement) return Failure(statement.error());
  Execution query = statement->start();
  const Result<bool> row = query.step();
  if (!row) return Failure(row.error());
  return *row ? (query.*column)(0) : Value();
}

}  // namespace

Execution::Execution(Execution&& other) noexcept
    : statement_(std::exchange(other.statement_, nullptr)), bind_error_(other.bind_error_) {}

Execution::~Execution() {
  if (!statement_) return;
  sqlite3_reset(statement_);  // repeats the error of the last step, which was told already
  sqlite3_clear_bindings(statement_);
}

void Execution::bind(int index, std::int64_t value) {
  const int code = sqlite3_bind_int64(statement_, index, value);
  if (code != SQLITE_OK) bind_error_ = code;
}

void Execution::bind(int index, std::string_view text) {
  const char* data = text.data() ? text.data() : "";  // a null pointer would bind NULL
  const int code = sqlite3_bind_text64(statement_, index, data, text.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
  if (code != SQLITE_OK) bind_error_ = code;
}

void Execution::bind(int index, std::span<const std::byte> blob) {
  const void* data = blob.data() ? static_cast<const void*>(blob.data()) : "";
  const int code = sqlite3_bind_blob64(statement_, index, data, blob.size(), SQLITE_TRANSIENT);
  if (code != SQLITE_OK) bind_error_ = code;
}

Result<bool> Execution::step() {
  sqlite3* database = sqlite3_db_handle(statement_);
  if (bind_error_ != SQLITE_OK) return failure(database, bind_error_);
  switch (const int code = sqlite3_step(statement_)) {
    case SQLITE_ROW:
      return true;
    case SQLITE_DONE:
      return false;
    default:
      return failure(database, code);
  }
}

Result<std::int64_t> Execution::finish() {
  for (;;) {
    const Result<bool> row = step();
    if (!row) return Failure(row.error());
    if (!*row) return sqlite3_changes64(sqlite3_db_handle(statement_));
  }
}

bool Execution::is_null(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }

std::int64_t Execution::integer(int column) const { return sqlite3_column_int64(statement_, column); }

std::string Execution::text(int column) const {
  const unsigned char* data = sqlite3_column_text(statement_, column);  // must come before the length is asked
  const int size = sqlite3_column_bytes(statement_, column);
  if (!data) return {};
  return std::string(reinterpret_cast<const char*>(data), static_cast<std::size_t>(size));
}

std::span<const std::byte> Execution::blob(int column) const {
  const void* data = sqlite3_column_blob(statement_, column);
  const int size = sqlite3_column_bytes(statement_, column);
  if (!data) return {};
  return {static_cast<const std::byte*>(data), static_cast<std::size_t>(size)};
}

void Statement::Finalize::operator()(sqlite3_stmt* statement) const noexcept { sqlite3_finalize(statement); }

void Database::Close::operator()(sqlite3* database) const noexcept { sqlite3_close_v2(database); }

Result<Database> Database::open(const std::string& path) {
  sqlite3* opened = nullptr;
  // NOMUTEX: the owner of a connection sees to it that one thread uses it at a time.
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  const int code = sqlite3_open_v2(path.c_str(), &opened, flags, nullptr);
  Database database(opened);  // also a failed open has a handle to close
  if (code != SQLITE_OK) return failure(opened, code);
  sqlite3_busy_timeout(opened, kBusyTimeoutMs);
  // The file may have been damaged or tampered with: its schema must not be able to do more than hold data.
  sqlite3_db_config(opened, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(opened, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  return database;
}

Result<Statement> Database::prepare(std::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v3(database_.get(), sql.data(), static_cast<int>(sql.size()),
                                      SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  if (code != SQLITE_OK) return failure(database_.get(), code);
  return Statement(statement);
}

Result<> Database::execute(std::string_view sql) {
  const int code = sqlite3_exec(database_.get(), std::string(sql).c_str(), nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return failure(database_.get(), code);
  return {};
}

Result<std::int64_t> Database::query_integer(std::string_view sql) {
  return query_value(*this, sql, &Execution::integer);
}

Result<std::string> Database::query_text(std::string_view sql) { return query_value(*this, sql, &Execution::text); }

bool Database::in_transaction() const { return sqlite3_get_autocommit(database_.get()) == 0; }

Result<Transaction> Transaction::begin(Database& database) {
  if (Result<> begun = database.execute("BEGIN IMMEDIATE"); !begun) return Failure(begun.error());
  return Transaction(database);
}

Transaction::~Transaction() {
  // SQLite has rolled back by itself after some errors.
  if (database_ && database_->in_transaction()) (void)database_->execute("ROLLBACK");
}

Result<> Transaction::commit() { return database_->execute("COMMIT"); }

}  // namespace sluice::catalog::sqlite
