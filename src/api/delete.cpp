// SPDX-License-Identifier: Apache-2.0
#include "api/api.h"
#include "api/responses.h"

namespace sluice::api {

Api::Answer Api::remove(Call call) {
  call.exchange.notes().operation = "delete";
  const Result<auth::Requester> requester = co_await identify(call);
  if (!requester) co_return refuse(call.exchange, requester.error());
  const Result<Mxc> mxc = own_mxc(call);
  if (!mxc) co_return refuse(call.exchange, mxc.error());
  const Result<> removed = co_await repository_.remove(*requester, *mxc);
  if (!removed) co_return refuse(call.exchange, removed.error());
  co_return json_response("{\"purged\":true}");
}

}  // namespace sluice::api
