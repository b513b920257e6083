// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <charconv>
#include <optional>
#include <string_view>
#include <utility>

#include "api/api.h"
#include "api/media_headers.h"
#include "api/served_file.h"
#include "http/client_address.h"
#include "thumbnails/format.h"
#include "thumbnails/thumbnails.h"

namespace sluice::api {
namespace {

/// 400 as the client-server API has it for what makes no sense: M_UNKNOWN.
Failure senseless(std::string_view message) { return fail::with(400, "M_UNKNOWN", message); }

Result<std::uint32_t> side(const Target& target, std::string_view name) {
  const auto text = target.parameter(name);
  if (!text) return fail::with(400, "M_MISSING_PARAM", fmt::format("{} is missing", name));
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc() || end != text->data() + text->size() || value == 0 || value > thumbnails::kMaxSide) {
    return senseless(fmt::format("{} is not a number from 1 to {}", name, thumbnails::kMaxSide));
  }
  return value;
}

Result<thumbnails::Variant> variant_of(const Target& target) {
  thumbnails::Variant variant;
  const Result<std::uint32_t> width = side(target, "width");
  if (!width) return std::unexpected(width.error());
  const Result<std::uint32_t> height = side(target, "height");
  if (!height) return std::unexpected(height.error());
  variant.size = {.width = *width, .height = *height};

  const std::string_view method = target.parameter("method").value_or("scale");
  if (method != "scale" && method != "crop") return senseless("method is neither crop nor scale");
  if (method == "crop") variant.size.method = thumbnails::Method::kCrop;

  const std::string_view animated = target.parameter("animated").value_or("false");
  if (animated != "true" && animated != "false") return senseless("animated is neither true nor false");
  variant.animated = animated == "true";
  return variant;
}

}  // namespace

http::Response Api::serve_found(http::Exchange& exchange, const repository::FoundThumbnail& found, bool is_private) {
  exchange.notes().outcome = "stored";
  const catalog::StoredMedia& media = found.source->media;
  const thumbnails::Thumbnail& thumbnail = *found.thumbnail;
  const std::string filename = fmt::format("thumbnail.{}", thumbnails::extension_of(thumbnail.format));
  const std::string name = fmt::format("{}.{}", media.mxc.media_id(), found.variant.name());
  http::Response response = serve_file(exchange.head(), {.file = thumbnail.file ? thumbnail.file : found.source->file,
                                                         .size = thumbnail.file ? thumbnail.size : media.size,
                                                         .content_type = thumbnails::content_type_of(thumbnail.format),
                                                         .filename = filename,
                                                         .etag = entity_tag(name, media.attempt),
                                                         .is_private = is_private});
  charge(repository_.policy_of(media.mxc.server_name()).downloads.rate, exchange, response);
  return response;
}

Api::Answer Api::thumbnail(Call call) {
  call.exchange.notes().operation = "thumbnail";
  return serve_public(std::move(call), &Api::serve_thumbnail);
}

Api::Answer Api::thumbnail_authenticated(Call call) {
  call.exchange.notes().operation = "thumbnail";
  return identify_and_serve(std::move(call), true, &Api::serve_thumbnail);
}

Api::Answer Api::serve_thumbnail(const Call& call, bool has_token) {
  Result<repository::DownloadRequest> request = download_request(call, has_token);
  if (!request) return refuse_at_once(call, request.error());
  const Result<thumbnails::Variant> asked = variant_of(call.target);
  if (!asked) return refuse_at_once(call, asked.error());
  if (const auto hot = repository_.open_hot_thumbnail(*request, *asked)) {
    return at_once(serve_found(call.exchange, *hot, has_token));
  }
  request->client_network = http::network_of(call.exchange.client_address());
  return open_and_serve_thumbnail(call.exchange, *std::move(request), *asked);
}

Api::Answer Api::open_and_serve_thumbnail(http::Exchange& exchange, repository::DownloadRequest request,
                                          thumbnails::Variant asked) {
  repository::WaitReport report;
  const auto found = co_await repository_.open_thumbnail(request, asked, exchange, report);
  exchange.notes().was_stalled = report.was_stalled;
  exchange.notes().waited = report.waited;
  if (!found) co_return refuse(exchange, found.error());
  co_return serve_found(exchange, *found, request.has_token);
}

}  // namespace sluice::api
