// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "base/error.h"
#include "base/file_system.h"
#include "base/random.h"
#include "blobs/blob_store.h"

namespace sluice::blobs {

/// A store in one folder of a local file system with hard links; the folder is made, durably, if it is missing:
///
///   directory/blobs/ab/ab12...      a whole file, under the 64 hexadecimal characters of its SHA-256
///   directory/spool/<id>            being received
///   directory/spool/<sha256>.<id>   a mark: this content may be in blobs/ before the catalog knows of it
///
/// What is held is made under the name of its mark, and has no other in the spool.
///
/// A mark is another name of the blob's bytes, takes no space of its own, and is on stable storage before the blob's
/// name is. So it does two things until it goes. A blob that nobody refers to always has a mark: a sweep need not read
/// blobs/ to find it. And the blob's own name may be synced late, together with others: should power be lost before,
/// the sweep links it anew from the mark, after it has compared the digest. Only marks that were settled and whose
/// blobs' folder was synced are removed. (A file so large that comparing its digest would hold up a start has its
/// folder synced in publish.)
///
/// When the catalog has certainly not committed after publish (it was full), `discard` removes blob and mark, unless
/// equal content is stored or on its way. When nobody can say whether it has (a commit that failed may still turn out
/// to be on disk), the SpoolFile is destroyed with neither settle nor discard: the mark stays, and the sweep at the
/// next start asks the catalog. An upload that found its content in place and is not settled leaves no mark: whoever
/// put the blob there has left one or has committed.
///
/// The removal of a content begins with a mark too, which is linked from the blob; so what the catalog has forgotten is
/// found by a sweep.
///
/// One process at a time uses a folder. `fs` and `random` must outlive the store and its SpoolFiles.
Result<std::unique_ptr<BlobStore>> open_folder_store(FileSystem& fs, RandomSource& random,
                                                     const std::string& directory);

}  // namespace sluice::blobs
