// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/mxc.h"
#include "base/sha256.h"

namespace sluice::catalog {

/// A media id that was created and has no content yet.
struct Reservation {
  Mxc mxc;
  std::string user;
  WallTime created_at;
  WallTime expires_at;
  std::string content_type;  // empty: not declared
  std::string filename;      // empty: not declared

  bool is_expired(WallTime now) const { return now >= expires_at; }
};

/// A media id whose content rests in the blob store. Immutable.
struct StoredMedia {
  Mxc mxc;
  std::string user;
  WallTime created_at;
  WallTime stored_at;
  std::string content_type;  // never empty
  std::string filename;      // empty: none was given
  std::uint64_t size = 0;
  Sha256Digest sha256;
  std::uint64_t attempt = 0;  // the number of the attempt that filled the id; part of its ETag
};

/// What the catalog knows of a media id: at most one of the two is set, neither when the id is unknown.
struct Record {
  std::optional<Reservation> reservation;
  std::optional<StoredMedia> stored;
};

/// What is known of each media id: reservations, and what is stored. It knows nothing of running transfers.
///
/// Every call may block and may come from any thread. Changes are on stable storage when the call returns, or, made
/// inside `in_one_transaction`, when that returns.
/// Expected outcomes are values; Error 507 when space ran out and nothing has changed, 500 for anything
/// else that is broken.
class Catalog {
 public:
  virtual ~Catalog() = default;

  /// Adds a reservation unless its user already has `max_pending` that are not expired at `created_at`: then 429
  /// M_LIMIT_EXCEEDED, with Retry-After until the first of them expires. Counting and adding are one step, so the
  /// limit is exact under any concurrency. An id that exists already is a 500: ids hold enough randomness never to come
  /// twice.
  virtual Result<> reserve(const Reservation& reservation, std::uint32_t max_pending) = 0;

  /// Expired reservations are returned as long as they have not been reaped; the caller compares times.
  virtual Result<Record> find(const Mxc& mxc) = 0;

  /// Adds what was stored, in place of the id's reservation if that still exists. 409 M_CANNOT_OVERWRITE_MEDIA, and
  /// no change, if the id is stored already.
  virtual Result<> store(const StoredMedia& media) = 0;

  /// Whether any stored media has this content.
  virtual Result<bool> refers_to(const Sha256Digest& sha256) = 0;

  /// Removes up to `limit` reservations that are expired at `now`; returns how many it removed.
  virtual Result<std::size_t> reap(WallTime now, std::size_t limit) = 0;

  /// Calls `work` once, inside the call, and puts all that it changes through this catalog, from its own thread, on
  /// stable storage together, at the price of one change. The changes see each other, in order, and one that is refused
  /// leaves the others be; but nothing that `work` was told about them holds until this has succeeded, and an error of
  /// this call means that error for every one of them. Readers see nothing of them before. Not nested.
  virtual Result<> in_one_transaction(const std::function<void()>& work) = 0;

  /// Succeeds when the catalog can answer a query and could commit.
  virtual Result<> check() = 0;
};

}  // namespace sluice::catalog
