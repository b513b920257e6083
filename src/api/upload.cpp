// SPDX-License-Identifier: Apache-2.0
#include "repository/upload.h"

#include <fmt/format.h>

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

Api::Answer Api::upload(Call& call) { return receive(call, call.site.server_name, "", true); }

Api::Answer Api::fill(Call& call) { return receive(call, call.path[0], call.path[1], false); }

Api::Answer Api::fill_r0(Call& call) {
  Result<http::Response> answer = co_await receive(call, call.site.server_name, call.path[0], false);
  // The seed's name for it; the specification settled on another.
  if (!answer && answer.error().errcode == "M_CANNOT_OVERWRITE_MEDIA") {
    answer.error().errcode = "M_CANNOT_OVERRIDE_MEDIA";
  }
  co_return answer;
}

Api::Answer Api::receive(Call& call, std::string server_name, std::string media_id, bool tells_uri) {
  http::Notes& notes = call.exchange.notes();
  notes.operation = "upload";
  notes.outcome = "refused";
  const http::RequestHead& head = call.exchange.head();
  const Result<auth::Requester> requester = co_await identify(call);
  if (!requester) co_return std::unexpected(requester.error());
  if (const auto mxc = Mxc::of(server_name, media_id)) notes.media = mxc->to_uri();
  // An id of another homeserver is unknown to this one, even if both are served here.
  if (server_name != call.site.server_name || (!tells_uri && media_id.empty())) {
    co_return fail::not_found("Unknown media ID");
  }

  repository::UploadRequest request{.server_name = std::move(server_name), .media_id = std::move(media_id)};
  request.content_type = head.field("Content-Type").value_or("");
  request.filename = call.target.parameter("filename").value_or("");
  if (!head.is_chunked()) request.content_length = head.content_length().value_or(0);
  Result<std::unique_ptr<repository::Upload>> upload = co_await repository_.begin_upload(*requester, request);
  if (!upload) co_return std::unexpected(upload.error());
  notes.media = (*upload)->mxc().to_uri();

  notes.outcome = "broken";
  UploadSink sink(**upload);
  if (Result<> received = co_await call.exchange.receive_body(sink); !received) {
    co_return std::unexpected(received.error());
  }
  if (Result<> sealed = co_await (*upload)->seal(); !sealed) co_return std::unexpected(sealed.error());
  notes.outcome = "stored";
  if (!tells_uri) co_return json_response("{}");
  co_return json_response(fmt::format("{{\"content_uri\":{}}}", json_string((*upload)->mxc().to_uri())));
}

}  // namespace sluice::api
