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
/// A mark is on stable storage before its blob is, and goes after the catalog has committed, so a blob that nobody
/// refers to always has a mark, and a sweep need not read blobs/ to find it.
///
/// When the catalog has certainly not committed after publish (it was full), `discard` removes blob and mark, unless
/// equal content is stored or on its way. When nobody can say whether it has (a commit that failed may still turn out
/// to be on disk), the SpoolFile is destroyed with neither settle nor discard: the mark stays, it is another name of
/// the blob and takes no space of its own, and the sweep at the next start asks the catalog. An upload that found its
/// content in place leaves no mark: whoever put the blob there has left one or has committed.
///
/// One process at a time uses a folder. `fs` and `random` must outlive the store and its SpoolFiles.
Result<std::unique_ptr<BlobStore>> open_folder_store(FileSystem& fs, RandomSource& random,
                                                     const std::string& directory);

}  // namespace sluice::blobs
