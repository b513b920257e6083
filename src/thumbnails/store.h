// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/error.h"
#include "base/file_system.h"
#include "base/random.h"
#include "base/sha256.h"
#include "thumbnails/job.h"
#include "thumbnails/size.h"

namespace sluice::thumbnails {

/// A thumbnail at rest, or the word that the original serves as its own. Immutable.
struct Thumbnail {
  std::shared_ptr<const FileDescriptor> file;  // null: the original, whatever it is called, is of this format
  std::uint64_t size = 0;                      // bytes of the file
  Format format = Format::kUnknown;
};

/// The folder where thumbnails rest: `thumbnails/ab/<SHA-256 of the source>/<variant>`. It holds nothing that cannot be
/// made again: whoever wants the space may remove it while the server is down. Every call may block, and may come from
/// any thread.
class ThumbnailStore {
 public:
  /// Creates the folder, and clears what a crash left.
  static Result<std::unique_ptr<ThumbnailStore>> open(FileSystem& fs, RandomSource& random, std::string directory);

  /// Nothing when it is not there.
  Result<std::optional<Thumbnail>> find(const Sha256Digest& source, const Variant& variant) const;

  /// Keeps a thumbnail that rests somewhere else, from now on and through a loss of power, in place of what may be
  /// there. Yields it as `find` will.
  Result<Thumbnail> keep(const Thumbnail& thumbnail, const Sha256Digest& source, const Variant& variant) const;

  /// How many thumbnails of a source are kept.
  std::size_t count(const Sha256Digest& source) const;
  /// Removes all of a source; who reads one reads on.
  void remove(const Sha256Digest& source) const;

 private:
  ThumbnailStore(FileSystem& fs, RandomSource& random, std::string directory)
      : fs_(fs), random_(random), directory_(std::move(directory)) {}
  std::string folder_of(const Sha256Digest& source) const;
  SystemResult<> write(const std::string& path, std::span<const std::byte> content) const;

  FileSystem& fs_;
  RandomSource& random_;
  const std::string directory_;
};

}  // namespace sluice::thumbnails
