// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "api/api.h"
#include "api/responses.h"

namespace sluice::api {

Api::Answer Api::media_config(Call call) {
  call.exchange.notes().operation = "config";
  const auto requester = co_await identify(call);
  if (!requester) co_return refuse(call.exchange, requester.error());
  std::string json =
      fmt::format("{{\"m.upload.size\":{}", repository_.policy_of(call.site.server_name).uploads.max_size);
  if (const std::optional<catalog::Allowance> allowance = repository_.allowance_of(requester->user)) {  // MSC4034
    const auto add = [&json](std::string_view key, std::optional<std::uint64_t> value) {
      if (value) json += fmt::format(",\"org.matrix.msc4034.storage.{}\":{}", key, *value);
    };
    add("size", allowance->max_bytes);
    add("max_files", allowance->max_files);
  }
  co_return json_response(json + "}");
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
