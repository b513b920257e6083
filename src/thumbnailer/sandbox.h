// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "thumbnails/job.h"

namespace sluice::thumbnailer {

struct Sandbox {
  /// Address space beyond what the process has when it is locked in.
  std::uint64_t memory_bytes = 0;
  /// The layers to put up; tests leave one out to see that it is what stops an escape.
  std::uint32_t layers = thumbnails::kAllLayers;
};

/// Locks the process in for the rest of its life, all its threads: it keeps the descriptors 0 to 3 (all but the socket
/// are /dev/null from now on), its memory, the clock and nothing else. Call it when everything that the libraries load
/// has been loaded. Returns the layers that hold; one that the kernel does not have is left out. Throws
/// std::system_error when the kernel refuses what it does have.
std::uint32_t lock_in(const Sandbox& sandbox);

}  // namespace sluice::thumbnailer
