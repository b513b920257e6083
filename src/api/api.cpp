// SPDX-License-Identifier: Apache-2.0
#include "api/api.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "api/responses.h"
#include "base/text.h"
#include "http/client_address.h"

namespace sluice::api {
Api::Api(std::vector<Site> sites, repository::Repository& repository, const Clock& clock, bool offers_demo)
    : sites_(std::move(sites)), repository_(repository), clock_(clock) {
  // The most frequent first, as they are tried in turn.
  router_.add("GET HEAD", "/_matrix/media/{v}/download/{serverName}/{mediaId}", &Api::download);
  router_.add("GET HEAD", "/_matrix/media/{v}/download/{serverName}/{mediaId}/{fileName}", &Api::download);
  router_.add("GET HEAD", "/_matrix/client/v1/media/download/{serverName}/{mediaId}", &Api::download_authenticated);
  router_.add("GET HEAD", "/_matrix/client/v1/media/download/{serverName}/{mediaId}/{fileName}",
              &Api::download_authenticated);

  router_.add("GET HEAD", "/_matrix/client/v1/media/thumbnail/{serverName}/{mediaId}", &Api::thumbnail_authenticated);
  router_.add("GET HEAD", "/_matrix/media/{v}/thumbnail/{serverName}/{mediaId}", &Api::thumbnail);

  router_.add("POST", "/_matrix/media/v1/create", &Api::create);
  router_.add("POST", "/_matrix/media/r0/create", &Api::create_r0);
  router_.add("POST", "/_matrix/media/unstable/fi.mau.msc2246/create", &Api::create);

  router_.add("PUT", "/_matrix/media/v3/upload/{serverName}/{mediaId}", &Api::fill);
  router_.add("PUT", "/_matrix/media/unstable/fi.mau.msc2246/upload/{serverName}/{mediaId}", &Api::fill);
  router_.add("PUT", "/_matrix/media/r0/upload/{mediaId}", &Api::fill_r0);
  router_.add("POST", "/_matrix/media/{v}/upload", &Api::upload);

  router_.add("GET HEAD", "/_matrix/media/{v}/config", &Api::media_config);
  router_.add("GET HEAD", "/_matrix/client/v1/media/config", &Api::media_config);
  router_.add("GET HEAD", "/health", &Api::health);

  router_.add("GET HEAD", "/_matrix/media/unstable/org.matrix.msc4034/usage", &Api::usage);
  router_.add("GET HEAD", "/_matrix/media/unstable/info/{serverName}/{mediaId}", &Api::info);
  router_.add("DELETE", "/_matrix/media/unstable/download/{serverName}/{mediaId}", &Api::remove);
  router_.add("POST DELETE", "/_matrix/media/unstable/admin/quarantine/user/{userId}", &Api::quarantine_user);
  router_.add("POST DELETE", "/_matrix/media/unstable/admin/quarantine/hash/{sha256}", &Api::quarantine_hash);
  router_.add("POST DELETE", "/_matrix/media/unstable/admin/quarantine/{serverName}/{mediaId}", &Api::quarantine_media);

  if (offers_demo) {
    router_.add("GET HEAD", "/_sluice/demo", &Api::demo_asset);
    router_.add("GET HEAD", "/_sluice/demo/{file}", &Api::demo_asset);
    router_.add("GET HEAD", "/_sluice/demo/progress/{serverName}/{mediaId}", &Api::demo_arrival);
  }
}

Task<http::Response> Api::handle(http::Exchange& exchange) {
  const http::RequestHead& head = exchange.head();
  if (head.method() == "OPTIONS") return at_once({.status = 204});  // preflight: the common fields answer it
  Result<Target> target = Target::parse(head.target());
  if (!target) return at_once(refuse(exchange, target.error()));
  auto match = router_.find(head.method(), target->segments());
  if (match.handler == nullptr && match.allowed_methods.empty()) {
    return at_once(refuse(exchange, {404, "M_UNRECOGNIZED", "Unrecognized request"}));
  }
  if (match.handler == nullptr) {
    http::Response response = refuse(exchange, {405, "M_UNRECOGNIZED", "This path does not know this method"});
    response.with("Allow", fmt::format("{}, OPTIONS", fmt::join(match.allowed_methods, ", ")));
    return at_once(std::move(response));
  }
  return (this->**match.handler)(Call{exchange, site_of(head.host()), *std::move(target), match.captured});
}

Api::Answer Api::at_once(http::Response response) { co_return response; }

http::Response Api::refuse(http::Exchange& exchange, const Error& error) {
  exchange.notes().errcode = error.errcode;
  return error_response(error);
}

const Site& Api::site_of(std::string_view host) const {
  const auto is_meant = [host](const Site& site) {
    const auto same = [host](std::string_view name) { return equals_ignoring_case(name, host); };
    const std::string_view server_name = site.server_name;
    // A server name may have a port, which the host that was asked for comes without.
    const std::size_t port = server_name.ends_with(']') ? std::string_view::npos : server_name.rfind(':');
    return same(server_name.substr(0, port)) || std::ranges::any_of(site.hosts, same);
  };
  const auto found = std::ranges::find_if(sites_, is_meant);
  return found == sites_.end() ? sites_.front() : *found;
}

std::string_view Api::token_of(const Call& call) {
  constexpr std::string_view kScheme = "Bearer ";
  const auto authorization = call.exchange.head().field("Authorization");
  if (authorization && authorization->size() > kScheme.size() &&
      equals_ignoring_case(authorization->substr(0, kScheme.size()), kScheme)) {
    return trim(authorization->substr(kScheme.size()));
  }
  return call.target.parameter("access_token").value_or("");
}

std::optional<Result<auth::Requester>> Api::recall(const Call& call) {
  auto requester = call.site.authenticator->recall(token_of(call), call.target.parameter("user_id").value_or(""));
  if (requester && *requester) note(call.exchange, **requester);
  return requester;
}

Task<Result<auth::Requester>> Api::identify(Call& call) {
  if (auto known = recall(call)) co_return *std::move(known);
  auth::Credentials credentials;
  credentials.token = token_of(call);
  credentials.user_id = call.target.parameter("user_id").value_or("");
  credentials.client_address = call.exchange.client_address();
  credentials.client_network = http::network_of(credentials.client_address);
  credentials.user_agent = call.exchange.head().field("User-Agent").value_or("");
  Result<auth::Requester> requester = co_await call.site.authenticator->identify(std::move(credentials));
  if (requester) note(call.exchange, *requester);
  co_return requester;
}

void Api::replace_known(const std::vector<config::Homeserver>& homeservers, std::span<Loop* const> loops) {
  for (std::size_t i = 0; i < sites_.size(); ++i) sites_[i].authenticator->replace_known(homeservers[i], loops);
}

void Api::note(http::Exchange& exchange, const auth::Requester& requester) {
  exchange.notes().user = requester.user;
  exchange.notes().admin = requester.admin;
}

Result<Mxc> Api::own_mxc(const Call& call) {
  const auto mxc = Mxc::of(call.path[0], call.path[1]);
  if (!mxc || mxc->server_name() != call.site.server_name) return fail::not_found("Unknown media ID");
  call.exchange.notes().media = mxc->to_uri();
  return *mxc;
}

}  // namespace sluice::api
