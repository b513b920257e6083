// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <utility>

#include "api/api.h"
#include "api/media_headers.h"
#include "api/responses.h"
#include "api/served_file.h"
#include "api/wait_time.h"
#include "base/text.h"
#include "http/client_address.h"
#include "http/range.h"

namespace sluice::api {
namespace {

/// Whether a browser asks in order to run what comes as a part of a page, which media of strangers must never be: their
/// origin may be the homeserver's own. The client-server API lets them keep their content type, text/javascript too.
/// Values that nobody knows are no reason to refuse (Fetch Metadata Request Headers, section 2.1).
bool would_be_run(const http::RequestHead& head) {
  // Fetch's script-like destinations and xslt; style, which rules what a page shows and can tell others what it holds;
  // embed and object, which are for plugins.
  constexpr std::array<std::string_view, 10> kRunning = {
      "script",       "worker", "sharedworker", "serviceworker", "audioworklet",
      "paintworklet", "xslt",   "style",        "embed",         "object"};
  if (head.field("Service-Worker") == "script") return true;  // also from browsers that send no Sec-Fetch-Dest
  const auto destination = head.field("Sec-Fetch-Dest");
  return destination && std::ranges::find(kRunning, *destination) != kRunning.end();
}

/// A transfer, as a response body sees it.
class FollowedTransfer final : public http::GrowingFile {
 public:
  explicit FollowedTransfer(std::unique_ptr<transfer::Follower> follower) : follower_(std::move(follower)) {}

  int descriptor() const override { return follower_->transfer().file()->get(); }
  Growth growth() const override {
    const transfer::Progress progress = follower_->progress();
    switch (progress.state) {
      case transfer::State::kRunning:
        return {progress.readable, Ending::kNone};
      case transfer::State::kWhole:
        return {progress.readable, Ending::kWhole};
      case transfer::State::kBroken:
        return {progress.readable, Ending::kBroken};
    }
    std::unreachable();
  }
  void wake_beyond(std::uint64_t offset) override { follower_->wake_beyond(offset); }

 private:
  std::unique_ptr<transfer::Follower> follower_;
};

}  // namespace

Api::Answer Api::download(Call call) {
  call.exchange.notes().operation = "download";
  return serve_public(std::move(call), &Api::serve);
}

Api::Answer Api::download_authenticated(Call call) {
  call.exchange.notes().operation = "download";
  return identify_and_serve(std::move(call), true, &Api::serve);
}

Api::Answer Api::serve_public(Call call, Serve serve) {
  // Where everybody may read, nobody is asked who they are.
  const config::Config::Downloads& rules = repository_.policy_of(call.path[0]).downloads;
  const bool asks_who = rules.unauthenticated != config::UnauthenticatedAccess::kAllow && !token_of(call).empty();
  return identify_and_serve(std::move(call), asks_who, serve);
}

Api::Answer Api::identify_and_serve(Call call, bool asks_who, Serve serve) {
  if (would_be_run(call.exchange.head())) {  // before anybody is asked whose token it is
    return refuse_at_once(call, fail::forbidden("Media is not run, and is no style sheet").error());
  }
  if (!asks_who) return (this->*serve)(call, false);
  const auto requester = recall(call);
  if (!requester) return serve_when_known(std::move(call), serve);
  return *requester ? (this->*serve)(call, true) : refuse_at_once(call, requester->error());
}

Api::Answer Api::serve_when_known(Call call, Serve serve) {
  const auto requester = co_await identify(call);
  if (!requester) co_return refuse(call.exchange, requester.error());
  co_return co_await (this->*serve)(call, true);
}

Result<repository::DownloadRequest> Api::download_request(const Call& call, bool has_token) {
  auto mxc = Mxc::of(call.path[0], call.path[1]);
  if (!mxc) return fail::not_found("This is not a media ID");
  call.exchange.notes().media = mxc->to_uri();
  const config::Config::Downloads& limits = repository_.policy_of(mxc->server_name()).downloads;
  const Result<Milliseconds> wait = wait_time(call.target, limits.default_wait, limits.max_wait);
  if (!wait) return std::unexpected(wait.error());
  if (Result<> may = check_download_rate(limits.rate, call.exchange); !may) return std::unexpected(may.error());
  return repository::DownloadRequest{*std::move(mxc), has_token, clock_.steady() + *wait};
}

// Not a coroutine, and what is hot is answered here. What has to wait takes along only what it needs.
Api::Answer Api::serve(const Call& call, bool has_token) {
  http::Exchange& exchange = call.exchange;
  const std::string_view override_name = call.path.size() > 2 ? call.path[2] : "";
  if (!is_utf8(override_name) || has_control_characters(override_name)) {
    return refuse_at_once(call, fail::invalid_param("The file name is not UTF-8, or holds control characters").error());
  }
  Result<repository::DownloadRequest> asked = download_request(call, has_token);
  if (!asked) return refuse_at_once(call, asked.error());

  repository::DownloadRequest& request = *asked;
  if (const auto hot = repository_.open_hot(request)) {
    return at_once(serve_stored(exchange, *hot, override_name, has_token));
  }
  request.client_network = http::network_of(exchange.client_address());
  return open_and_serve(exchange, std::move(request), std::string(override_name));
}

// A stalled download sleeps inside: what it holds is held by thousands.
Api::Answer Api::open_and_serve(http::Exchange& exchange, repository::DownloadRequest request,
                                std::string override_name) {
  repository::WaitReport report;
  Result<repository::Download> opened = co_await repository_.open(request, exchange, report);
  exchange.notes().was_stalled = report.was_stalled;
  exchange.notes().waited = report.waited;
  co_return co_await serve_opened(exchange, opened, request, override_name);
}

Api::Answer Api::serve_opened(http::Exchange& exchange, const Result<repository::Download>& opened,
                              const repository::DownloadRequest& request, std::string_view override_name) {
  if (!opened) return at_once(refuse(exchange, opened.error()));
  if (const auto* stored = std::get_if<repository::Download::Stored>(&opened->content)) {
    return at_once(serve_stored(exchange, **stored, override_name, request.has_token));
  }
  exchange.notes().outcome = "live";
  return serve_live(exchange, std::get<repository::Download::Live>(opened->content), request, override_name);
}

http::Response Api::serve_stored(http::Exchange& exchange, const repository::StoredFile& stored,
                                 std::string_view override_name, bool is_private) {
  exchange.notes().outcome = "stored";
  const catalog::StoredMedia& media = stored.media;
  http::Response response =
      serve_file(exchange.head(), {.file = stored.file,
                                   .size = media.size,
                                   .content_type = media.content_type,
                                   .filename = override_name.empty() ? media.filename : override_name,
                                   .etag = entity_tag(media.mxc.media_id(), media.attempt),
                                   .is_private = is_private});
  charge(repository_.policy_of(media.mxc.server_name()).downloads.rate, exchange, response);
  return response;
}

Api::Answer Api::serve_live(http::Exchange& exchange, repository::Download::Live transfer,
                            const repository::DownloadRequest& request, std::string_view override_name) {
  const transfer::Description& description = transfer->description();
  const std::string etag = entity_tag(request.mxc.media_id(), description.attempt);
  const Conditions conditions(exchange.head(), etag);
  std::optional<std::uint64_t> size = description.size;
  auto follower = repository_.follow(transfer, exchange.signal());

  std::optional<http::Span> span;
  if (const auto& range = conditions.range; range && !conditions.not_modified) {
    if (!size && range->first && range->last) {
      // Of a whole whose size nobody knows, only a range with both ends can be named, and only once it is there.
      co_await repository_.wait_for_byte(*follower, *range->last, request, exchange);
      if (Result<> may = repository_.check_may_read(request, clock_.now()); !may)
        co_return refuse(exchange, may.error());
      const transfer::Progress progress = follower->progress();
      if (progress.state == transfer::State::kBroken) co_return refuse(exchange, fail::not_yet_uploaded().error());
      if (progress.state == transfer::State::kWhole) {
        size = progress.readable;
      } else {
        span = http::resolve(*range, progress.readable);
        if (!span) co_return refuse(exchange, fail::not_yet_uploaded().error());
      }
    }
    if (size) {
      const Placement placement = place(range, *size);
      if (placement.is_unsatisfiable) co_return range_not_satisfiable(*size);
      span = placement.span;
    }
  }

  http::Response response;
  const std::string_view filename = override_name.empty() ? description.filename : override_name;
  add_media_fields(response, description.content_type, filename, etag, Lifetime::kGrowing, request.has_token);
  if (conditions.not_modified) {
    response.status = 304;
    co_return response;
  }
  http::FollowBody body{std::make_unique<FollowedTransfer>(std::move(follower)), 0, size};
  if (span) {
    response.status = 206;
    response.with("Content-Range", http::content_range(*span, size));
    body.offset = span->offset;
    body.length = span->length;
  }
  response.body = std::move(body);
  charge(repository_.policy_of(request.mxc.server_name()).downloads.rate, exchange, response);
  co_return response;
}

}  // namespace sluice::api
