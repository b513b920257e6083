// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "api/router.h"
#include "api/target.h"
#include "auth/authenticator.h"
#include "http/server.h"
#include "repository/download_meter.h"
#include "repository/repository.h"

namespace sluice::api {

/// One homeserver that Sluice serves the media of.
struct Site {
  std::string server_name;
  std::vector<std::string> hosts;  // Host values that mean it, besides the server name
  std::unique_ptr<auth::Authenticator> authenticator;
};

/// Matrix's paths. Reads a request, asks the repository, writes the answer. From any loop.
class Api {
 public:
  /// The first site is the default for hosts that nobody claims. `repository` must outlive the Api. Without
  /// `offers_demo` the demo's paths are as unknown as any other.
  Api(std::vector<Site> sites, repository::Repository& repository, const Clock& clock, bool offers_demo = false);

  /// The handler of an http::Server.
  Task<http::Response> handle(http::Exchange& exchange);

  /// Takes over the tokens and administrators of each homeserver, of the same ones in the same order. `loops` are all
  /// that handle requests. One thread at a time.
  void replace_known(const std::vector<config::Homeserver>& homeservers, std::span<Loop* const> loops);

  /// To be told of every exchange of that server when it is over. From any loop.
  void settle(const http::ExchangeReport& report);

 private:
  /// One request on its way through an endpoint, whose coroutine owns it.
  struct Call {
    http::Exchange& exchange;
    const Site& site;
    Target target;
    Captured path;  // the captured segments; they refer to the target
  };
  using Answer = Task<http::Response>;
  using Endpoint = Answer (Api::*)(Call);

  // create.cpp
  Answer create(Call call);
  Answer create_r0(Call call);
  Task<Result<repository::Created>> create_media(Call& call);
  // upload.cpp
  struct Filling;
  Answer upload(Call call);
  Answer fill(Call call);
  Answer fill_r0(Call call);
  Answer receive(Call call, Filling filling);
  // download.cpp
  Answer download(Call call);
  Answer download_authenticated(Call call);
  using Serve = Answer (Api::*)(const Call& call, bool has_token);
  Answer serve_public(Call call, Serve serve);
  Answer identify_and_serve(Call call, bool asks_who, Serve serve);
  Answer serve_when_known(Call call, Serve serve);
  Result<repository::DownloadRequest> download_request(const Call& call, bool has_token);
  Answer serve(const Call& call, bool has_token);
  Answer open_and_serve(http::Exchange& exchange, repository::DownloadRequest request, std::string override_name);
  Answer serve_opened(http::Exchange& exchange, const Result<repository::Download>& opened,
                      const repository::DownloadRequest& request, std::string_view override_name);
  http::Response serve_stored(http::Exchange& exchange, const repository::StoredFile& stored,
                              std::string_view override_name, bool is_private);
  Answer serve_live(http::Exchange& exchange, repository::Download::Live transfer,
                    const repository::DownloadRequest& request, std::string_view override_name);
  // thumbnail.cpp
  Answer thumbnail(Call call);
  Answer thumbnail_authenticated(Call call);
  Answer serve_thumbnail(const Call& call, bool has_token);
  Answer open_and_serve_thumbnail(http::Exchange& exchange, repository::DownloadRequest request,
                                  thumbnails::Variant asked);
  http::Response serve_found(http::Exchange& exchange, const repository::FoundThumbnail& found, bool is_private);
  // download_rate.cpp: what sends content checks before it looks for it, and charges for its response, by the rates
  // that the policy of the content's homeserver has.
  Result<> check_download_rate(const config::DownloadRate& rates, http::Exchange& exchange);
  void charge(const config::DownloadRate& rates, http::Exchange& exchange, const http::Response& response);
  // config.cpp
  Answer media_config(Call call);
  Answer health(Call call);
  // delete.cpp
  Answer remove(Call call);
  // info.cpp
  Answer info(Call call);
  // usage.cpp
  Answer usage(Call call);
  // quarantine.cpp
  Answer quarantine_media(Call call);
  Answer quarantine_user(Call call);
  Answer quarantine_hash(Call call);
  using Visibility = repository::Repository::Visibility;
  using SetVisibility = Task<Result<std::size_t>> (Api::*)(const Call&, Visibility);
  Answer set_visibility(Call call, SetVisibility set);
  Task<Result<std::size_t>> set_visibility_of_media(const Call& call, Visibility visibility);
  Task<Result<std::size_t>> set_visibility_of_user(const Call& call, Visibility visibility);
  Task<Result<std::size_t>> set_visibility_of_hash(const Call& call, Visibility visibility);
  // demo.cpp
  Answer demo_asset(Call call);
  Answer demo_arrival(Call call);

  static Answer at_once(http::Response response);
  /// The answer to a request that is refused; it is noted.
  static http::Response refuse(http::Exchange& exchange, const Error& error);
  static Answer refuse_at_once(const Call& call, const Error& error) { return at_once(refuse(call.exchange, error)); }
  const Site& site_of(std::string_view host) const;
  Task<Result<auth::Requester>> identify(Call& call);
  /// Who is asking, if that is known already.
  static std::optional<Result<auth::Requester>> recall(const Call& call);
  static std::string_view token_of(const Call& call);  // empty if there is none
  static void note(http::Exchange& exchange, const auth::Requester& requester);
  /// The media that the first two captured segments name, which is noted. 404 for one of another homeserver: whoever
  /// owns or administers something here does so on one homeserver, even if several are served.
  static Result<Mxc> own_mxc(const Call& call);

  const std::vector<Site> sites_;
  repository::Repository& repository_;
  const Clock& clock_;
  repository::DownloadMeter meter_;
  Router<Endpoint> router_;
};

}  // namespace sluice::api
