// SPDX-License-Identifier: Apache-2.0
#include "thumbnailer/source_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace sluice::thumbnailer {

SourceFile::SourceFile(int descriptor) : descriptor_(descriptor) {
  struct stat status{};
  if (fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode)) size_ = static_cast<std::uint64_t>(status.st_size);
}

std::size_t SourceFile::read_at(std::uint64_t offset, std::span<std::byte> into) const {
  std::size_t got = 0;
  while (got < into.size() && offset + got < size_) {
    const auto count = pread(descriptor_, into.data() + got, into.size() - got, static_cast<off_t>(offset + got));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    got += static_cast<std::size_t>(count);
  }
  return got;
}

}  // namespace sluice::thumbnailer
