// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "api/api.h"
#include "api/responses.h"

namespace sluice::api {

// MSC4034.
Api::Answer Api::usage(Call call) {
  call.exchange.notes().operation = "usage";
  const Result<auth::Requester> requester = co_await identify(call);
  if (!requester) co_return refuse(call.exchange, requester.error());
  const Result<catalog::Usage> used = co_await repository_.usage(requester->user);
  if (!used) co_return refuse(call.exchange, used.error());
  co_return json_response(fmt::format(
      "{{\"org.matrix.msc4034.storage.used\":{},\"org.matrix.msc4034.storage.files\":{}}}", used->bytes, used->files));
}

}  // namespace sluice::api
