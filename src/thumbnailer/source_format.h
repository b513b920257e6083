// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "thumbnailer/geometry.h"
#include "thumbnailer/source_file.h"
#include "thumbnails/job.h"

namespace sluice::thumbnailer {

/// What a file is by its first bytes. What it is called and what type it was declared to have plays no part.
struct SourceFormat {
  /// kVideo stands for every container of video and sound; which of the two is in it is known when it is opened.
  thumbnails::Format format = thumbnails::Format::kUnknown;
  /// Who may read it: the name of libvips' loader (without its _source), or libav's demuxer; null where there is none.
  const char* loader = nullptr;
  const char* demuxer = nullptr;
  /// As it is stored, where the first bytes tell it, so that a large picture can be refused before a library sees it.
  Size size;
  // Of an APNG.
  std::uint32_t plays = 0;  // how often the animation is shown, 0 for ever
  std::uint64_t duration_ms = 0;
};

/// Reads no more than the first 4 KiB, and of a PNG the heads of its chunks.
SourceFormat recognise(const SourceFile& file);

}  // namespace sluice::thumbnailer
