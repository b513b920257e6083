// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "catalog/catalog.h"
#include "catalog/sqlite.h"

namespace sluice::catalog {

/// What a user has stored, and what fits beside it, asked of one connection: inside a transaction it sees what that has
/// changed.
class UsageStatements {
 public:
  Result<> prepare(sqlite::Database& database);

  Result<Usage> read(std::string_view user);
  /// As Catalog::check_room.
  Result<std::uint64_t> check_room(std::string_view user, const Usage& wanted, const Allowance& allowance,
                                   WallTime now);

 private:
  Result<std::uint64_t> check_window(std::string_view user, std::uint64_t wanted, const Allowance::Window& window,
                                     WallTime now);

  sqlite::Statement usage_, stored_since_, oldest_since_;
};

}  // namespace sluice::catalog
