// SPDX-License-Identifier: Apache-2.0
#include "repository/upload.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string>
#include <vector>

#include "api/api.h"
#include "api/responses.h"

namespace sluice::api {
namespace {

class UploadSink final : public http::BodySink {
 public:
  explicit UploadSink(repository::Upload& upload) : upload_(upload) {}
  Result<> write(std::span<const std::byte> data) override { return upload_.write(data); }

 private:
  repository::Upload& upload_;
};

}  // namespace

/// Which id an upload is to fill, and how the path that it came on wants to hear of it.
struct Api::Filling {
  std::string_view server_name;
  std::string_view media_id;            // empty: a new one
  bool is_new = false;                  // its URI is the answer
  bool uses_names_of_the_seed = false;  // the proposal's first form named the conflict otherwise
};

Api::Answer Api::upload(Call call) {
  const Filling filling{.server_name = call.site.server_name, .is_new = true};
  return receive(std::move(call), filling);
}

Api::Answer Api::fill(Call call) {
  const Filling filling{.server_name = call.path[0], .media_id = call.path[1]};
  return receive(std::move(call), filling);
}

Api::Answer Api::fill_r0(Call call) {
  const Filling filling{.server_name = call.site.server_name, .media_id = call.path[0], .uses_names_of_the_seed = true};
  return receive(std::move(call), filling);
}

Api::Answer Api::receive(Call call, Filling filling) {
  http::Exchange& exchange = call.exchange;
  http::Notes& notes = exchange.notes();
  notes.operation = "upload";
  notes.outcome = "refused";
  const auto refuse_it = [&exchange, &filling](Error error) {
    if (filling.uses_names_of_the_seed && error.errcode == "M_CANNOT_OVERWRITE_MEDIA") {
      error.errcode = "M_CANNOT_OVERRIDE_MEDIA";
    }
    return refuse(exchange, error);
  };
  const http::RequestHead& head = exchange.head();
  const Result<auth::Requester> requester = co_await identify(call);
  if (!requester) co_return refuse_it(requester.error());
  if (const auto mxc = Mxc::of(filling.server_name, filling.media_id)) notes.media = mxc->to_uri();
  // An id of another homeserver is unknown to this one, even if both are served here.
  if (filling.server_name != call.site.server_name || (!filling.is_new && filling.media_id.empty())) {
    co_return refuse_it(fail::not_found("Unknown media ID").error());
  }

  repository::UploadRequest request{.server_name = std::string(filling.server_name),
                                    .media_id = std::string(filling.media_id)};
  request.content_type = head.field("Content-Type").value_or("");
  request.filename = call.target.parameter("filename").value_or("");
  if (!head.is_chunked()) request.content_length = head.content_length().value_or(0);
  Result<std::unique_ptr<repository::Upload>> upload = co_await repository_.begin_upload(*requester, request);
  if (!upload) co_return refuse_it(upload.error());
  notes.media = (*upload)->mxc().to_uri();

  notes.outcome = "broken";
  UploadSink sink(**upload);
  if (Result<> received = co_await exchange.receive_body(sink); !received) co_return refuse_it(received.error());
  if (Result<> sealed = co_await (*upload)->seal(); !sealed) co_return refuse_it(sealed.error());
  notes.outcome = "stored";
  const Mxc mxc = (*upload)->mxc();
  std::vector<std::string> members;
  if (filling.is_new) members.push_back(fmt::format("\"content_uri\":{}", json_string(mxc.to_uri())));
  if (call.target.parameter("xyz.amorgan.generate_blurhash") == "true") {  // MSC2448
    const Result<thumbnails::Description> seen = co_await repository_.describe(mxc);
    if (seen && !seen->blurhash.empty()) {
      members.push_back(fmt::format("\"xyz.amorgan.blurhash\":{}", json_string(seen->blurhash)));
    }
  }
  co_return json_response(fmt::format("{{{}}}", fmt::join(members, ",")));
}

}  // namespace sluice::api
