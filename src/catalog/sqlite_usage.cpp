// SPDX-License-Identifier: Apache-2.0
#include "catalog/sqlite_usage.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "base/units.h"

namespace sluice::catalog {
namespace {

constexpr std::string_view kUsage = "SELECT files, bytes FROM usage WHERE user = ?1";
constexpr std::string_view kStoredSince = "SELECT sum(size) FROM media WHERE user = ?1 AND stored_at > ?2";
constexpr std::string_view kOldestSince =
    "SELECT stored_at, size FROM media WHERE user = ?1 AND stored_at > ?2 ORDER BY stored_at";

/// How much more fits, or nothing.
std::optional<std::uint64_t> room_left(std::uint64_t used, std::uint64_t wanted, std::uint64_t max) {
  if (used > max || wanted > max - used) return {};
  return max - used - wanted;
}

}  // namespace

Result<> UsageStatements::prepare(sqlite::Database& database) {
  for (const auto& [statement, sql] :
       {std::pair(&usage_, kUsage), std::pair(&stored_since_, kStoredSince), std::pair(&oldest_since_, kOldestSince)}) {
    Result<sqlite::Statement> prepared = database.prepare(sql);
    if (!prepared) return Failure(prepared.error());
    *statement = *std::move(prepared);
  }
  return {};
}

Result<Usage> UsageStatements::read(std::string_view user) {
  sqlite::Execution query = usage_.start(user);
  const Result<bool> row = query.step();
  if (!row) return Failure(row.error());
  if (!*row) return Usage{};
  return Usage{static_cast<std::uint64_t>(query.integer(0)), static_cast<std::uint64_t>(query.integer(1))};
}

Result<std::uint64_t> UsageStatements::check_room(std::string_view user, const Usage& wanted,
                                                  const Allowance& allowance, WallTime now) {
  std::uint64_t room = std::numeric_limits<std::uint64_t>::max();
  if (allowance.max_files || allowance.max_bytes) {
    const Result<Usage> used = read(user);
    if (!used) return Failure(used.error());
    if (allowance.max_files && !room_left(used->files, wanted.files, *allowance.max_files)) {
      return fail::forbidden(fmt::format("You may have {} files stored here, no more", *allowance.max_files));
    }
    if (allowance.max_bytes) {
      const auto left = room_left(used->bytes, wanted.bytes, *allowance.max_bytes);
      if (!left) {
        return fail::forbidden(
            fmt::format("You may have {} stored here, no more", describe_byte_size(*allowance.max_bytes)));
      }
      room = *left;
    }
  }
  if (!allowance.window) return room;
  const Result<std::uint64_t> left = check_window(user, wanted.bytes, *allowance.window, now);
  if (!left) return left;
  return std::min(room, *left);
}

Result<std::uint64_t> UsageStatements::check_window(std::string_view user, std::uint64_t wanted,
                                                    const Allowance::Window& window, WallTime now) {
  const std::int64_t since = (now - window.length).time_since_epoch().count();
  std::uint64_t used = 0;
  {
    sqlite::Execution sum = stored_since_.start(user, since);
    if (const Result<bool> row = sum.step(); !row) return Failure(row.error());
    used = static_cast<std::uint64_t>(sum.integer(0));
  }
  if (const auto left = room_left(used, wanted, window.max_bytes)) return *left;

  Milliseconds wait = window.length;  // for more than the window ever takes
  sqlite::Execution oldest = oldest_since_.start(user, since);
  for (;;) {
    const Result<bool> row = oldest.step();
    if (!row) return Failure(row.error());
    if (!*row) break;
    used -= std::min(used, static_cast<std::uint64_t>(oldest.integer(1)));
    if (!room_left(used, wanted, window.max_bytes)) continue;
    wait = WallTime(Milliseconds(oldest.integer(0))) + window.length - now;
    break;
  }
  return fail::limit_exceeded(fmt::format("You may upload {} within {}, no more", describe_byte_size(window.max_bytes),
                                          format_duration(window.length)),
                              wait);
}

}  // namespace sluice::catalog
