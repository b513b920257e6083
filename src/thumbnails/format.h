// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "thumbnails/job.h"

namespace sluice::thumbnails {

/// Whether a thumbnail may have this format: one of the five content types that the client-server API allows.
bool is_thumbnail_format(Format format);

/// "image/jpeg"; for a format that is_thumbnail_format.
std::string_view content_type_of(Format format);
/// "jpg"; likewise.
std::string_view extension_of(Format format);

/// Which of the formats that a worker makes (JPEG, PNG, WebP) begins with these bytes, of which 12 are enough;
/// kUnknown for others.
Format format_of_thumbnail(std::span<const std::byte> beginning);

}  // namespace sluice::thumbnails
