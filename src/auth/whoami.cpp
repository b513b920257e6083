// SPDX-License-Identifier: Apache-2.0
#include "auth/whoami.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>
#include <charconv>
#include <chrono>
#include <cmath>
#include <optional>
#include <string>

#include "base/mxc.h"
#include "base/text.h"

namespace sluice::auth {
namespace {

namespace json = boost::json;
using std::chrono::milliseconds;

// An answer is one flat object; the depth is for fields that we do not know.
constexpr std::size_t kMaxJsonDepth = 8;
// Of a text that the homeserver wrote and our client is shown.
constexpr std::size_t kMaxMessageBytes = 300;
// Longer than any code in the specification; namespaced codes have room as well.
constexpr std::size_t kMaxErrcodeBytes = 64;
// Browsers' are about 150 bytes long.
constexpr std::size_t kMaxUserAgentBytes = 512;
// When to come back to a homeserver that is down.
constexpr milliseconds kUnavailableRetry = std::chrono::seconds(5);
// Bounds on what a rate-limiting homeserver may tell our clients, and what they are told when it names no time.
constexpr milliseconds kMinRetry = std::chrono::seconds(1);
constexpr milliseconds kMaxRetry = std::chrono::seconds(60);
constexpr milliseconds kDefaultRetry = std::chrono::seconds(5);

std::optional<json::object> parse_object(std::string_view text) {
  json::parse_options options;
  options.max_depth = kMaxJsonDepth;
  boost::system::error_code error;
  json::value value = json::parse(text, error, {}, options);
  if (error || !value.is_object()) return std::nullopt;
  return std::move(value.get_object());
}

// The text under `key`; empty if there is none.
std::string_view text_of(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  const json::string* text = value != nullptr ? value->if_string() : nullptr;
  return text != nullptr ? std::string_view(text->data(), text->size()) : std::string_view();
}

bool is_true(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value != nullptr && value->is_bool() && value->get_bool();
}

Failure bad_gateway(std::string_view what) {
  return fail::with(502, "M_UNKNOWN",
                    fmt::format("{}; the administrator should check client_api in the configuration", what));
}

std::string errcode_of(const json::object& body, std::string_view otherwise) {
  const std::string_view errcode = text_of(body, "errcode");
  const bool sound = !errcode.empty() && errcode.size() <= kMaxErrcodeBytes && std::ranges::all_of(errcode, [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.' ||
           c == '-';
  });
  return std::string(sound ? errcode : otherwise);
}

std::string message_of(const json::object& body, std::string_view otherwise) {
  std::string message;
  for (const char c : text_of(body, "error")) {
    if (!has_control_characters({&c, 1})) message.push_back(c);
  }
  if (message.empty()) return std::string(otherwise);
  if (message.size() > kMaxMessageBytes) {
    std::size_t end = kMaxMessageBytes;
    const auto continues = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; };
    while (end > 0 && continues(message[end])) --end;  // not into the middle of a character
    message.resize(end);
  }
  return message;
}

std::optional<milliseconds> retry_from_header(std::string_view header) {
  const std::string_view digits = trim(header);
  if (digits.empty() || !std::ranges::all_of(digits, [](char c) { return c >= '0' && c <= '9'; })) return std::nullopt;
  std::uint32_t seconds = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), seconds);
  return error == std::errc() ? milliseconds(std::chrono::seconds(seconds)) : kMaxRetry;
}

std::optional<milliseconds> retry_from_body(const std::optional<json::object>& body) {
  const json::value* value = body ? body->if_contains("retry_after_ms") : nullptr;
  if (value == nullptr || !value->is_number()) return std::nullopt;
  const double time = value->to_number<double>();
  if (std::isnan(time)) return std::nullopt;  // how Boost.JSON reads 0e999
  return milliseconds(static_cast<std::int64_t>(std::clamp(time, 0.0, static_cast<double>(kMaxRetry.count()))));
}

Result<Requester> read_user(const json::object& body, std::string_view server_name) {
  const std::string_view user = text_of(body, "user_id");
  if (!is_user_id(user)) return bad_gateway("The homeserver's whoami names no user");
  if (user.substr(user.find(':') + 1) != server_name) {
    return bad_gateway(fmt::format("The homeserver's users are not users of {}", server_name));
  }
  const json::value* guest = body.if_contains("is_guest");
  if (guest != nullptr && !guest->is_bool()) return bad_gateway("The homeserver's whoami has an is_guest of no sense");
  return Requester{.user = std::string(user), .admin = false, .guest = is_true(body, "is_guest")};
}

Failure pass_on(int status, const json::object& body) {
  Error error;
  error.http_status = status;
  error.errcode = errcode_of(body, status == 401 ? "M_UNKNOWN_TOKEN" : "M_FORBIDDEN");
  // A token was given, whatever became of it on its way.
  if (error.errcode == "M_MISSING_TOKEN") error.errcode = "M_UNKNOWN_TOKEN";
  error.message = message_of(
      body, status == 401 ? "The homeserver does not know this access token" : "The homeserver does not allow this");
  error.soft_logout = is_true(body, "soft_logout");
  return Failure(error);
}

bool is_fit_to_pass_on(std::string_view user_agent) {
  return !user_agent.empty() && user_agent.size() <= kMaxUserAgentBytes && is_utf8(user_agent) &&
         !has_control_characters(user_agent);
}

}  // namespace

outbound::Request whoami_request(std::string_view client_api, milliseconds timeout, const Credentials& credentials) {
  outbound::Request request;
  request.url = fmt::format("{}/_matrix/client/v3/account/whoami", client_api);
  if (!credentials.user_id.empty()) request.url += "?user_id=" + percent_encode(credentials.user_id);
  request.timeout = timeout;
  request.headers = {{"Authorization", "Bearer " + credentials.token}, {"Accept", "application/json"}};
  if (!credentials.client_address.empty()) {
    request.headers.emplace_back("X-Forwarded-For", credentials.client_address);
    request.headers.emplace_back("X-Forwarded-Proto", "https");  // Synapse warns in its log when one comes alone
  }
  if (is_fit_to_pass_on(credentials.user_agent)) request.headers.emplace_back("User-Agent", credentials.user_agent);
  return request;
}

Result<Requester> read_whoami(const std::expected<outbound::Response, outbound::Failure>& outcome,
                              std::string_view server_name) {
  if (!outcome) return fail::unavailable("The homeserver cannot be reached", kUnavailableRetry);
  const int status = outcome->status;
  if (status >= 500) {
    return fail::unavailable(fmt::format("The homeserver answers with status {}", status), kUnavailableRetry);
  }
  const std::optional<json::object> body = parse_object(outcome->body);
  if (status == 429) {
    // A proxy that limits rates may send any body.
    const milliseconds retry =
        retry_from_header(outcome->retry_after).or_else([&] { return retry_from_body(body); }).value_or(kDefaultRetry);
    return fail::limit_exceeded(message_of(body.value_or(json::object()), "The homeserver asks to wait"),
                                std::clamp(retry, kMinRetry, kMaxRetry));
  }
  if (status != 200 && status != 401 && status != 403) {
    return bad_gateway(fmt::format("The homeserver answers whoami with status {}", status));
  }
  // Clients throw their keys away on a 401: it must be the homeserver's own, not that of a proxy before it.
  if (!body) return bad_gateway(fmt::format("The homeserver answers whoami with status {} and no JSON object", status));
  if (status == 200) return read_user(*body, server_name);
  return pass_on(status, *body);
}

}  // namespace sluice::auth
