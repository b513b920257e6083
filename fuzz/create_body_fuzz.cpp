// SPDX-License-Identifier: Apache-2.0
// Input: a byte for an HTTP status, then JSON that strangers send: the body of a create request, and a homeserver's
// answer to whoami. It becomes sound texts or an error that can be shown.
#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "api/create_body.h"
#include "auth/whoami.h"
#include "base/mxc.h"
#include "base/text.h"
#include "require.h"

namespace {

using namespace sluice;
using namespace sluice::fuzz;

bool is_showable(const Error& error) {
  return !error.errcode.empty() && is_utf8(error.message) && !has_control_characters(error.message) &&
         !has_control_characters(error.errcode);
}

void check_create_body(std::string_view text) {
  const auto body = api::parse_create_body(text);
  if (body) {
    require(is_utf8(body->content_type) && is_utf8(body->filename));
  } else {
    require(body.error().http_status == 400 && is_showable(body.error()));
    require(body.error().errcode == "M_NOT_JSON" || body.error().errcode == "M_BAD_JSON");
  }
}

void check_whoami(int status, std::string_view text) {
  constexpr std::string_view kServerName = "example.org";
  outbound::Response response;
  response.status = status;
  response.body = text;
  response.retry_after = text.substr(0, 10);
  const auto requester = auth::read_whoami(response, kServerName);
  if (requester) {
    require(status == 200 && !requester->admin && is_user_id(requester->user));
    require(requester->user.ends_with(":" + std::string(kServerName)));
    return;
  }
  const Error& error = requester.error();
  require(is_showable(error));
  constexpr std::array kStatuses = {401, 403, 429, 502, 503};
  require(std::ranges::find(kStatuses, error.http_status) != kStatuses.end());
  require((error.http_status != 401 && error.http_status != 403) || error.http_status == status);
  require((error.http_status == 429) == (status == 429));
  if (error.retry_after) require(error.retry_after->count() > 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::array kStatuses = {200, 401, 403, 429, 404, 500};
  if (size == 0) return 0;
  const std::string_view text = text_of(data + 1, size - 1);
  check_create_body(text);
  check_whoami(kStatuses[data[0] % kStatuses.size()], text);
  return 0;
}
