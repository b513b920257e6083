// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

#include "api/api.h"
#include "api/responses.h"

namespace sluice::api {

Api::Answer Api::quarantine_media(Call call) { return set_visibility(std::move(call), &Api::set_visibility_of_media); }
Api::Answer Api::quarantine_user(Call call) { return set_visibility(std::move(call), &Api::set_visibility_of_user); }
Api::Answer Api::quarantine_hash(Call call) { return set_visibility(std::move(call), &Api::set_visibility_of_hash); }

Api::Answer Api::set_visibility(Call call, SetVisibility set) {
  call.exchange.notes().operation = "quarantine";
  const Result<auth::Requester> requester = co_await identify(call);
  if (!requester) co_return refuse(call.exchange, requester.error());
  if (!requester->admin) co_return refuse(call.exchange, fail::forbidden("Only administrators may do this").error());
  const bool releases = call.exchange.head().method() == "DELETE";
  const Result<std::size_t> changed = co_await (this->*set)(call, releases ? Visibility::kShown : Visibility::kHidden);
  if (!changed) co_return refuse(call.exchange, changed.error());
  co_return json_response(fmt::format("{{\"num_{}\":{}}}", releases ? "released" : "quarantined", *changed));
}

Task<Result<std::size_t>> Api::set_visibility_of_media(const Call& call, Visibility visibility) {
  const Result<Mxc> mxc = own_mxc(call);
  if (!mxc) co_return std::unexpected(mxc.error());
  co_return co_await repository_.set_visibility(*mxc, visibility);
}

Task<Result<std::size_t>> Api::set_visibility_of_user(const Call& call, Visibility visibility) {
  const std::string user(call.path[0]);
  if (!is_user_id(user) || user.substr(user.find(':') + 1) != call.site.server_name) {
    co_return fail::invalid_param("This is not a user of this homeserver");
  }
  co_return co_await repository_.set_visibility_of_user(user, visibility);
}

Task<Result<std::size_t>> Api::set_visibility_of_hash(const Call& call, Visibility visibility) {
  Sha256Digest sha256;
  if (!Sha256Digest::from_hex(call.path[0], sha256))
    co_return fail::invalid_param("This is not a SHA-256 in hexadecimal");
  co_return co_await repository_.set_visibility(std::vector{sha256}, visibility);
}

}  // namespace sluice::api
