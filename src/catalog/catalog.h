// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
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
  bool is_quarantined = false;  // its content is: the id has one, and nobody may see it
};

/// Files and their bytes.
struct Usage {
  std::uint64_t files = 0;
  std::uint64_t bytes = 0;
};

/// How much one user may have stored. What is not set is not limited.
struct Allowance {
  struct Window {
    std::uint64_t max_bytes = 0;
    Milliseconds length{0};
  };

  std::optional<std::uint64_t> max_files;
  std::optional<std::uint64_t> max_bytes;
  std::optional<Window> window;  // what was stored within its length, and is there still, counts

  bool is_unlimited() const { return !max_files && !max_bytes && !window; }
};

/// Of a change that failed: what was refused, a catalog that was full or busy. Of anything else nobody knows.
inline bool has_certainly_not_committed(const Error& error) { return error.http_status != 500; }

/// What is known of each media id: reservations, and what is stored; and which contents are quarantined. It knows
/// nothing of running transfers.
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

  /// Adds what was stored, in place of the id's reservation if that still exists. No change, and
  ///   409 M_CANNOT_OVERWRITE_MEDIA if the id is stored already,
  ///   403 M_FORBIDDEN if the content is quarantined,
  ///   what `check_room` says if its user has no room for it. Counting and adding are one step, so the allowance is
  ///   exact under any concurrency.
  virtual Result<> store(const StoredMedia& media, const Allowance& allowance) = 0;
  Result<> store(const StoredMedia& media) { return store(media, {}); }

  /// What the user has stored. As cheap for a million files as for one.
  virtual Result<Usage> usage(std::string_view user) = 0;

  /// Whether `wanted` fits beside what the user has stored; yields how many bytes might come beyond it. 403 M_FORBIDDEN
  /// when there are too many files or bytes, 429 M_LIMIT_EXCEEDED when there were too many bytes within the window,
  /// with Retry-After until so many have left it that it fits.
  virtual Result<std::uint64_t> check_room(std::string_view user, const Usage& wanted, const Allowance& allowance,
                                           WallTime now) = 0;

  /// Removes the id, if it is still reserved or still stored, as `found` says. False, and no change, when it is not:
  /// a reservation may have been filled meanwhile.
  virtual Result<bool> remove(const Record& found) = 0;

  /// Whether any stored media has this content, be it quarantined.
  virtual Result<bool> refers_to(const Sha256Digest& sha256) = 0;

  /// Hides every id that has one of these contents, now or ever; unknown contents may be quarantined too. Returns how
  /// many ids were shown before. `release` undoes it, and returns how many are shown again.
  virtual Result<std::size_t> quarantine(std::span<const Sha256Digest> contents) = 0;
  virtual Result<std::size_t> release(std::span<const Sha256Digest> contents) = 0;

  /// What a user has stored, quarantined or not, the oldest first: up to `limit` that come after `last`, or the first.
  virtual Result<std::vector<StoredMedia>> stored_by(std::string_view user, const std::optional<StoredMedia>& last,
                                                     std::size_t limit) = 0;

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
