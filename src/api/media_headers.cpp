// SPDX-License-Identifier: Apache-2.0
#include "api/media_headers.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/text.h"
#include "http/content_disposition.h"

namespace sluice::api {
namespace {

const http::Fields& fields_of_all_media() {
  static const http::Fields made = [] {
    http::Fields fields;
    fields.add("Accept-Ranges", "bytes");
    // What a browser has kept must not be run from its cache either: a request for another use comes to us again.
    fields.add("Vary", "Sec-Fetch-Dest");
    // Both as the client-server API gives them ("Content repository", server behaviour), and media-src, so that a
    // browser's own player page works.
    fields.add("Content-Security-Policy",
               "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; style-src "
               "'unsafe-inline'; media-src 'self'; object-src 'self';");
    fields.add("Cross-Origin-Resource-Policy", "cross-origin");
    return fields;
  }();
  return made;
}

}  // namespace

bool is_inline_type(std::string_view content_type) {
  // In the specification's order.
  constexpr std::array<std::string_view, 26> kInlineTypes = {
      "text/css",   "text/plain",   "text/csv",        "application/json", "application/ld+json", "image/jpeg",
      "image/gif",  "image/png",    "image/apng",      "image/webp",       "image/avif",          "video/mp4",
      "video/webm", "video/ogg",    "video/quicktime", "audio/mp4",        "audio/webm",          "audio/aac",
      "audio/mpeg", "audio/ogg",    "audio/wave",      "audio/wav",        "audio/x-wav",         "audio/x-pn-wav",
      "audio/flac", "audio/x-flac",
  };
  // Browsers split a Content-Type at its commas and take the last part that is a type.
  if (content_type.find(',') != std::string_view::npos) return false;
  const std::string_view essence = trim(content_type.substr(0, content_type.find(';')));
  return !essence.empty() && std::ranges::any_of(kInlineTypes, [essence](std::string_view type) {
    return equals_ignoring_case(type, essence);
  });
}

std::string entity_tag(std::string_view media_id, std::uint64_t attempt) {
  return fmt::format("\"{}.{:x}\"", media_id, attempt);
}

void add_media_fields(http::Response& response, std::string_view content_type, std::string_view filename,
                      std::string_view etag, Lifetime lifetime, bool is_private) {
  constexpr std::size_t kUsualBytes = 768;
  std::string_view cache_control;
  if (lifetime == Lifetime::kImmutable) {
    cache_control = is_private ? "private, max-age=31536000, immutable" : "public, max-age=31536000, immutable";
  } else {
    cache_control = is_private ? "private, no-cache" : "public, no-cache";
  }
  response.fields.reserve(kUsualBytes);
  response.with("Content-Type", content_type)
      .with("Content-Disposition", http::content_disposition(is_inline_type(content_type), filename))
      .with("ETag", etag)
      .with("Cache-Control", cache_control)
      .fields.add(fields_of_all_media());
}

}  // namespace sluice::api
