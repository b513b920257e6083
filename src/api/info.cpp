// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "api/api.h"
#include "api/responses.h"

namespace sluice::api {

Api::Answer Api::info(Call call) {
  call.exchange.notes().operation = "info";
  const Result<auth::Requester> requester = co_await identify(call);
  if (!requester) co_return refuse(call.exchange, requester.error());
  const auto mxc = Mxc::of(call.path[0], call.path[1]);
  if (!mxc) co_return refuse(call.exchange, fail::not_found("This is not a media ID").error());
  call.exchange.notes().media = mxc->to_uri();
  const Result<catalog::Record> record = co_await repository_.look_up(*mxc, requester->admin);
  if (!record) co_return refuse(call.exchange, record.error());
  const catalog::StoredMedia& media = *record->stored;
  std::string json =
      fmt::format("{{\"content_uri\":{},\"content_type\":{},\"size\":{},\"hashes\":{{\"sha256\":\"{}\"}}",
                  json_string(mxc->to_uri()), json_string(media.content_type), media.size, media.sha256.to_hex());
  if (!record->is_quarantined) {
    if (const Result<thumbnails::Description> seen = co_await repository_.describe(*mxc)) {
      if (seen->width > 0) json += fmt::format(",\"width\":{},\"height\":{}", seen->width, seen->height);
      if (seen->duration > Milliseconds(0)) {
        json += fmt::format(",\"duration\":{}", std::chrono::duration<double>(seen->duration).count());
      }
    }
  }
  if (requester->admin) {
    json += fmt::format(",\"user_id\":{},\"quarantined\":{}", json_string(media.user), record->is_quarantined);
  }
  co_return json_response(json + "}");
}

}  // namespace sluice::api
