// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace sluice::thumbnailer {

/// A job's source: an open regular file that belongs to somebody else and does not change.
class SourceFile {
 public:
  explicit SourceFile(int descriptor);

  int descriptor() const { return descriptor_; }
  std::uint64_t size() const { return size_; }
  /// How many bytes there were; fewer than asked for only at the end of the file or when it cannot be read.
  std::size_t read_at(std::uint64_t offset, std::span<std::byte> into) const;

 private:
  int descriptor_;
  std::uint64_t size_ = 0;
};

}  // namespace sluice::thumbnailer
