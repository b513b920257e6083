// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "base/error.h"
#include "catalog/sqlite.h"

namespace sluice::catalog {

/// Marks an SQLite file as a catalog of Sluice ("SLCE"); other files are refused. docs/storage-format.md.
inline constexpr std::int64_t kSqliteApplicationId = 0x534c4345;

/// Makes `database` a catalog of the newest schema: fills an empty file, climbs the ladder from an older schema in one
/// transaction, and sets the connection's write-ahead logging. Changes nothing, and fails with a 500 that says why,
/// when the file is not an intact database, belongs to another program, or was written by a newer Sluice.
Result<> prepare_sqlite_schema(sqlite::Database& database);

}  // namespace sluice::catalog
