// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <expected>
#include <string_view>

#include "auth/authenticator.h"
#include "base/error.h"
#include "outbound/client.h"

namespace sluice::auth {

/// The request that asks the homeserver at `client_api` whose token this is.
/// Source: client-server API, `GET /_matrix/client/v3/account/whoami`; `user_id` as in "Identity assertion" of the
/// application service API.
outbound::Request whoami_request(std::string_view client_api, std::chrono::milliseconds timeout,
                                 const Credentials& credentials);

/// What its outcome means to the client that presented the token. `server_name` is the homeserver's own: a user of
/// another server is a mistake in the configuration, never a requester.
Result<Requester> read_whoami(const std::expected<outbound::Response, outbound::Failure>& outcome,
                              std::string_view server_name);

}  // namespace sluice::auth
