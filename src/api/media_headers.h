// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "http/message.h"

namespace sluice::api {

/// Whether a content type may be shown inline (client-server API, "Serving inline content"). Parameters and case do
/// not matter.
bool is_inline_type(std::string_view content_type);

/// The entity tag of one attempt to fill an id: the same while it is being filled and when it is stored, so that a
/// reader can resume, and never that of another attempt.
std::string entity_tag(std::string_view media_id, std::uint64_t attempt);

enum class Lifetime {
  kImmutable,  // stored: will never change
  kGrowing,    // still being uploaded: may be kept, but has to be asked about again
};

/// Everything about media but its bytes: type, disposition, entity tag, caching, and what keeps it from doing harm in a
/// browser. `is_private`: only for the one who asked, not for shared caches.
void add_media_fields(http::Response& response, std::string_view content_type, std::string_view filename,
                      std::string_view etag, Lifetime lifetime, bool is_private);

}  // namespace sluice::api
