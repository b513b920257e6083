// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <utility>

#include "api/api.h"
#include "api/responses.h"
#include "demo/assets.h"

namespace sluice::api {
namespace {

std::string_view name_of(repository::Arrival::State state) {
  switch (state) {
    case repository::Arrival::State::kPending:
      return "pending";
    case repository::Arrival::State::kReceiving:
      return "receiving";
    case repository::Arrival::State::kStored:
      return "stored";
  }
  std::unreachable();
}

}  // namespace

Api::Answer Api::demo_asset(Call call) {
  call.exchange.notes().operation = "demo";
  const std::string name = std::string(call.path.empty() ? "" : call.path[0]);
  const auto if_none_match = call.exchange.head().combined_field("If-None-Match");
  auto response = demo::respond(name, if_none_match.value_or(""));
  if (!response) co_return refuse(call.exchange, {404, "M_UNRECOGNIZED", "Unrecognized request"});
  co_return *std::move(response);
}

Api::Answer Api::demo_arrival(Call call) {
  call.exchange.notes().operation = "progress";
  if (const auto requester = co_await identify(call); !requester) co_return refuse(call.exchange, requester.error());
  const auto mxc = Mxc::of(call.path[0], call.path[1]);
  if (!mxc) co_return refuse(call.exchange, fail::not_found("This is not a media ID").error());
  const Result<repository::Arrival> arrival = co_await repository_.arrival(*mxc);
  if (!arrival) co_return refuse(call.exchange, arrival.error());
  std::string json = fmt::format("{{\"state\":\"{}\",\"received\":{}", name_of(arrival->state), arrival->received);
  if (arrival->size) json += fmt::format(",\"size\":{}", *arrival->size);
  co_return json_response(json + "}");
}

}  // namespace sluice::api
