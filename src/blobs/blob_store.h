// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file_system.h"
#include "base/sha256.h"

namespace sluice::blobs {

/// A file that is being received. It has a name in the spool until it is settled or destroyed, so that a crash leaves
/// something to sweep; one that is held has none before it is published. The descriptor may be shared with readers, who
/// keep the bytes after the name is gone.
class SpoolFile {
 public:
  /// Gives back its space, unless it was published and not settled: then what was published stays, because somebody may
  /// refer to it by now, and is left for a sweep to decide. May block.
  virtual ~SpoolFile() = default;
  /// Open for reading and writing, private to the process. Null for one that is held, also when it is published.
  virtual const std::shared_ptr<const FileDescriptor>& descriptor() const = 0;
};

/// A file that has come whole and is to be kept, and, after `BlobStore::publish`, what became of it.
struct Publication {
  SpoolFile* file;
  Sha256Digest sha256;
  Result<> outcome{};
};

/// Whether the catalog knows a digest.
using IsReferenced = std::function<Result<bool>(const Sha256Digest&)>;

/// Where whole files rest, each under the SHA-256 of its bytes; equal content is kept once.
///
/// The way of an upload, and what a crash at each step leaves:
///   create_spool  -> a spool file without a digest in its name: a sweep removes it
///   or hold       -> nothing
///   publish       -> a spool file named by its digest, and the blob, of which the former is on stable storage:
///                    a sweep removes both, unless the catalog refers to the digest
///   (the catalog commits) -> the same two: a sweep sees to the blob, and removes the spool name only
///   settle        -> the same two
///   tidy          -> the blob alone
///
/// And the way out, when the last media that has a content is deleted:
///   begin_removal  -> the blob, and a spool file named by its digest: a sweep removes the latter
///   (the catalog commits) -> the same two: a sweep removes both, unless the catalog refers to the digest
///   finish_removal -> the same two
///   tidy           -> nothing, once no upload of it is on its way; who reads the blob keeps its bytes
///
/// Every call may block, but for hold and settle, and may come from any thread; one SpoolFile is used by one thread at
/// a time.
class BlobStore {
 public:
  virtual ~BlobStore() = default;

  virtual Result<std::unique_ptr<SpoolFile>> create_spool() = 0;
  /// Instead of create_spool and write_at, for a small file that has come whole: it waits in memory for `publish`,
  /// which costs less than one that has been on disk before. Does no I/O.
  virtual std::unique_ptr<SpoolFile> hold(std::vector<std::byte> content) = 0;
  /// Appends; the caller gives the offset, which is the number of bytes written before.
  virtual Result<> write_at(SpoolFile& file, std::span<const std::byte> data, std::uint64_t offset) = 0;
  /// Lets the disk begin with what was written to a spool file, so that `publish` has less to wait for. A hint.
  virtual void begin_sync(const FileDescriptor& spool_file) = 0;
  /// Returns when each can be opened under its digest, and would be after a loss of power and a sweep, or its outcome
  /// says why not; one that fails leaves the others be. Together they cost fewer syncs than one after the other, and
  /// wait for the largest of them. Once for each file; after an error it can only be destroyed.
  virtual void publish(std::span<Publication* const> group) = 0;
  /// One by itself.
  Result<> publish(SpoolFile& file, const Sha256Digest& sha256) {
    Publication alone{&file, sha256};
    Publication* const group[] = {&alone};
    publish(group);
    return alone.outcome;
  }
  /// The catalog has committed: the spool name is of no more use, and `tidy` may remove it. Does no I/O.
  virtual void settle(SpoolFile& file) = 0;
  /// Removes the spool names of what was settled, once the blobs can do without them, and the contents whose removal is
  /// finished and that nobody refers to; the more at once, the cheaper for each. True when a removal has to wait for
  /// the next time: an upload of the same content is on its way. Cannot fail in a way that matters: what stays is swept
  /// later.
  virtual bool tidy(const IsReferenced& is_referenced) = 0;
  /// The catalog has certainly not committed: gives the space of what was published back, unless the catalog refers to
  /// the same content or another upload of it is on its way there; a sweep finds out later then. `is_referenced` is
  /// called at most once, inside the call. A file that is neither settled nor discarded is left to the sweep.
  virtual void discard(SpoolFile& file, const IsReferenced& is_referenced) = 0;

  /// Before the catalog forgets a media of this content, perhaps its last: what is on stable storage when this returns
  /// lets a sweep find the content. Null when there is no such content. Destroyed unfinished, because nobody can say
  /// whether the catalog has committed, it is left to the sweep.
  virtual Result<std::unique_ptr<SpoolFile>> begin_removal(const Sha256Digest& sha256) = 0;
  /// The catalog has committed, or certainly not: `tidy` asks it whether the content may go. Does no I/O.
  virtual void finish_removal(SpoolFile& file) = 0;

  /// Opens a blob for reading; all who read it at the same time share one descriptor, so nobody may move its file
  /// offset. 404 M_NOT_FOUND if it is missing.
  virtual Result<std::shared_ptr<const FileDescriptor>> open(const Sha256Digest& sha256) = 0;

  /// At start, before any upload: clears the spool, and puts in place what the catalog refers to and a loss of power
  /// took back. Returns how many spool files it removed.
  virtual Result<std::size_t> sweep(const IsReferenced& is_referenced) = 0;

  /// Succeeds when a file can be created in the store.
  virtual Result<> check() = 0;
};

}  // namespace sluice::blobs
