// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "http/message.h"

namespace sluice::api {

/// The one place that turns an Error into a response: JSON with `errcode` and `error`, and Retry-After.
http::Response error_response(const Error& error);

/// 200 with a JSON text.
http::Response json_response(std::string json);

/// `text` as a JSON string, with its quotes.
std::string json_string(std::string_view text);

/// What goes on every response: CORS as the client-server API asks of servers ("Web Browser Clients"), and nosniff.
http::Fields common_fields();

}  // namespace sluice::api
