// SPDX-License-Identifier: Apache-2.0
#include "api/served_file.h"

#include "api/media_headers.h"
#include "api/responses.h"

namespace sluice::api {

Conditions::Conditions(const http::RequestHead& head, std::string_view etag) {
  if (const auto field = head.field("If-None-Match")) not_modified = http::matches_any_etag(*field, etag);
  if (head.is_head()) return;  // ranges are defined for GET only (RFC 9110, section 14.2)
  const auto range_field = head.field("Range");
  const auto if_range = head.field("If-Range");
  if (range_field && (!if_range || http::matches_if_range(*if_range, etag))) {
    range = http::parse_range(*range_field);
  }
}

Placement place(const std::optional<http::ByteRange>& range, std::uint64_t size) {
  if (!range || (range->is_suffix() && size == 0 && *range->last > 0)) return {};
  const auto span = http::resolve(*range, size);
  return {span, !span};
}

http::Response range_not_satisfiable(std::uint64_t size) {
  http::Response response = error_response({416, "M_UNKNOWN", "The range lies outside the content"});
  response.with("Content-Range", http::unsatisfied_content_range(size));
  return response;
}

http::Response serve_file(const http::RequestHead& head, const ServedFile& served) {
  const Conditions conditions(head, served.etag);
  const Placement placement = place(conditions.range, served.size);
  if (!conditions.not_modified && placement.is_unsatisfiable) return range_not_satisfiable(served.size);

  http::Response response;
  add_media_fields(response, served.content_type, served.filename, served.etag, Lifetime::kImmutable,
                   served.is_private);
  if (conditions.not_modified) {
    response.status = 304;
    return response;
  }
  const http::Span span = placement.span.value_or(http::Span{0, served.size});
  if (placement.span) {
    response.status = 206;
    response.with("Content-Range", http::content_range(span, served.size));
  }
  response.body = http::FileBody{served.file, span.offset, span.length};
  return response;
}

}  // namespace sluice::api
