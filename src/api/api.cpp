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
  router_.add("POST", "/_matrix/media/v1/create", &Api::create);
  router_.add("POST", "/_matrix/media/r0/create", &Api::create_r0);
  router_.add("POST", "/_matrix/media/unstable/fi.mau.msc2246/create", &Api::create);

  router_.add("PUT", "/_matrix/media/v3/upload/{serverName}/{mediaId}", &Api::fill);
  router_.add("PUT", "/_matrix/media/unstable/fi.mau.msc2246/upload/{serverName}/{mediaId}", &Api::fill);
  router_.add("PUT", "/_matrix/media/r0/upload/{mediaId}", &Api::fill_r0);
  router_.add("POST", "/_matrix/media/{v}/upload", &Api::upload);

  router_.add("GET HEAD", "/_matrix/media/{v}/download/{serverName}/{mediaId}", &Api::download);
  router_.add("GET HEAD", "/_matrix/media/{v}/download/{serverName}/{mediaId}/{fileName}", &Api::download);
  router_.add("GET HEAD", "/_matrix/client/v1/media/download/{serverName}/{mediaId}", &Api::download_authenticated);
  router_.add("GET HEAD", "/_matrix/client/v1/media/download/{serverName}/{mediaId}/{fileName}",
              &Api::download_authenticated);

  router_.add("GET HEAD", "/_matrix/media/{v}/config", &Api::media_config);
  router_.add("GET HEAD", "/_matrix/client/v1/media/config", &Api::media_config);
  router_.add("GET HEAD", "/health", &Api::health);

  if (offers_demo) {
    router_.add("GET HEAD", "/_sluice/demo", &Api::demo_asset);
    router_.add("GET HEAD", "/_sluice/demo/{file}", &Api::demo_asset);
    router_.add("GET HEAD", "/_sluice/demo/progress/{serverName}/{mediaId}", &Api::demo_arrival);
  }
}

Task<http::Response> Api::handle(http::Exchange& exchange) {
  const http::RequestHead& head = exchange.head();
  if (head.method() == "OPTIONS") co_return http::Response{.status = 204};  // preflight: the common fields answer it
  const auto refuse = [&exchange](const Error& error) {
    exchange.notes().errcode = error.errcode;
    return error_response(error);
  };
  const Result<Target> target = Target::parse(head.target());
  if (!target) co_return refuse(target.error());
  auto match = router_.find(head.method(), target->segments());
  if (match.handler == nullptr && match.allowed_methods.empty()) {
    co_return refuse({404, "M_UNRECOGNIZED", "Unrecognized request"});
  }
  if (match.handler == nullptr) {
    http::Response response = refuse({405, "M_UNRECOGNIZED", "This path does not know this method"});
    response.with("Allow", fmt::format("{}, OPTIONS", fmt::join(match.allowed_methods, ", ")));
    co_return response;
  }
  Call call{exchange, site_of(head.host()), *target, std::move(match.captured)};
  Result<http::Response> answer = co_await (this->**match.handler)(call);
  if (!answer) co_return refuse(answer.error());
  co_return *std::move(answer);
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

std::string Api::token_of(const Call& call) {
  constexpr std::string_view kScheme = "Bearer ";
  const auto authorization = call.exchange.head().field("Authorization");
  if (authorization && authorization->size() > kScheme.size() &&
      equals_ignoring_case(authorization->substr(0, kScheme.size()), kScheme)) {
    return std::string(trim(authorization->substr(kScheme.size())));
  }
  return std::string(call.target.parameter("access_token").value_or(""));
}

auth::Credentials Api::credentials_of(const Call& call) {
  auth::Credentials credentials;
  credentials.token = token_of(call);
  credentials.user_id = call.target.parameter("user_id").value_or("");
  credentials.client_address = call.exchange.client_address();
  credentials.client_network = http::network_of(credentials.client_address);
  credentials.user_agent = call.exchange.head().field("User-Agent").value_or("");
  return credentials;
}

Task<Result<auth::Requester>> Api::identify(Call& call) {
  Result<auth::Requester> requester = co_await call.site.authenticator->identify(credentials_of(call));
  if (requester) {
    call.exchange.notes().user = requester->user;
    call.exchange.notes().admin = requester->admin;
  }
  co_return requester;
}

}  // namespace sluice::api
