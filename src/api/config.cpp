// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "api/api.h"
#include "api/responses.h"

namespace sluice::api {

Api::Answer Api::media_config(Call call) {
  call.exchange.notes().operation = "config";
  if (const auto requester = co_await identify(call); !requester) co_return refuse(call.exchange, requester.error());
  co_return json_response(
      fmt::format("{{\"m.upload.size\":{}}}", repository_.policy_of(call.site.server_name).uploads.max_size));
}

Api::Answer Api::health(Call call) {
  call.exchange.notes().operation = "health";
  const Result<> health = co_await repository_.check();
  if (!health) {
    co_return refuse(call.exchange, fail::unavailable(health.error().message, std::chrono::seconds(5)).error());
  }
  co_return json_response("{\"status\":\"ok\"}");
}

}  // namespace sluice::api
