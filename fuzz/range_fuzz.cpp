// SPDX-License-Identifier: Apache-2.0
// Input: a size in eight bytes, then a field value. A range that can be laid on a representation lies inside it, and
// conditions hold for what they name alone.
#include <cstring>
#include <string>
#include <string_view>

#include "base/text.h"
#include "http/range.h"
#include "require.h"

namespace {

using namespace sluice;
using namespace sluice::fuzz;

void check_range(std::string_view field, std::uint64_t size) {
  const auto range = http::parse_range(field);
  if (!range) return;
  require(range->first || range->last);
  require(!range->first || !range->last || *range->first <= *range->last);
  require(range->is_suffix() == !range->first);
  require(field.find(',') == std::string_view::npos);
  const auto span = http::resolve(*range, size);
  if (!span) {
    require(size == 0 || (range->is_suffix() ? *range->last == 0 : *range->first >= size));
    return;
  }
  require(span->length > 0 && span->length <= size && span->offset <= size - span->length);
  require(range->is_suffix() ? span->offset + span->length == size : span->offset == *range->first);
  if (!range->is_suffix() && range->last) require(span->offset + (span->length - 1) <= *range->last);
  // The numbers of Content-Range are again a range, of the same bytes.
  const std::string written = http::content_range(*span, size);
  require(written.starts_with("bytes ") && written.ends_with("/" + std::to_string(size)));
  const auto again = http::parse_range("bytes=" + written.substr(6, written.find('/') - 6));
  require(again.has_value());
  const auto same = http::resolve(*again, size);
  require(same && same->offset == span->offset && same->length == span->length);
  require(http::content_range(*span, std::nullopt).ends_with("/*"));
}

void check_conditions(std::string_view field) {
  constexpr std::string_view kEtag = "\"AQwaf.1\"";
  const bool names_it = field.find(kEtag) != std::string_view::npos;
  if (http::matches_if_range(field, kEtag)) require(trim(field) == kEtag);
  if (http::matches_any_etag(field, kEtag)) require(names_it || trim(field) == "*");
  const std::string list(field);
  require(http::matches_any_etag(list + "," + std::string(kEtag), kEtag));
  require(http::matches_any_etag("W/" + std::string(kEtag) + " ," + list, kEtag));
  require(!http::matches_if_range("W/" + std::string(kEtag), kEtag));
  require(!http::matches_if_range(field, "W/" + list));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::uint64_t file_size = 0;
  if (size < sizeof file_size) return 0;
  std::memcpy(&file_size, data, sizeof file_size);
  const std::string_view field = text_of(data + sizeof file_size, size - sizeof file_size);
  check_range(field, file_size);
  check_range(field, file_size % 1000);
  check_range("bytes=" + std::string(field), file_size);
  check_conditions(field);
  return 0;
}
