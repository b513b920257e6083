// SPDX-License-Identifier: Apache-2.0
#include "thumbnails/format.h"

#include <string_view>
#include <utility>

namespace sluice::thumbnails {

bool is_thumbnail_format(Format format) {
  return format == Format::kJpeg || format == Format::kPng || format == Format::kApng || format == Format::kGif ||
         format == Format::kWebp;
}

std::string_view content_type_of(Format format) {
  switch (format) {
    case Format::kJpeg:
      return "image/jpeg";
    case Format::kPng:
      return "image/png";
    case Format::kApng:
      return "image/apng";
    case Format::kGif:
      return "image/gif";
    case Format::kWebp:
      return "image/webp";
    default:
      std::unreachable();
  }
}

std::string_view extension_of(Format format) {
  if (format == Format::kJpeg) return "jpg";
  return content_type_of(format).substr(std::string_view("image/").size());
}

Format format_of_thumbnail(std::span<const std::byte> beginning) {
  const std::string_view text(reinterpret_cast<const char*>(beginning.data()), beginning.size());
  if (text.starts_with("\xff\xd8\xff")) return Format::kJpeg;
  if (text.starts_with("\x89PNG\r\n\x1a\n")) return Format::kPng;
  if (text.starts_with("RIFF") && text.substr(0, 12).ends_with("WEBP")) return Format::kWebp;
  return Format::kUnknown;
}

}  // namespace sluice::thumbnails
