// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>

#include "api/api.h"
#include "api/create_body.h"
#include "api/responses.h"

namespace sluice::api {
namespace {

constexpr std::size_t kMaxBodyBytes = 16 * 1024;  // two short strings; the rest is for what clients may add

class TextSink final : public http::BodySink {
 public:
  Result<> write(std::span<const std::byte> data) override {
    if (text.size() + data.size() > kMaxBodyBytes) return fail::too_large("The request body is too large");
    text.append(reinterpret_cast<const char*>(data.data()), data.size());
    return {};
  }
  std::string text;
};

}  // namespace

Result<CreateBody> parse_create_body(std::string_view text) {
  CreateBody body;
  if (text.empty()) return body;
  boost::system::error_code error;
  const boost::json::value json = boost::json::parse(text, error);
  if (error) return fail::with(400, "M_NOT_JSON", "The request body is not JSON");
  const boost::json::object* object = json.if_object();
  if (object == nullptr) return fail::with(400, "M_BAD_JSON", "The request body is not a JSON object");
  const auto read = [object](std::string_view key, std::string& into) -> bool {
    const boost::json::value* value = object->if_contains(key);
    if (value == nullptr || value->is_null()) return true;
    if (!value->is_string()) return false;
    into = std::string_view(value->get_string());
    return true;
  };
  if (!read("content_type", body.content_type) || !read("filename", body.filename)) {
    return fail::with(400, "M_BAD_JSON", "content_type and filename are strings");
  }
  return body;
}

Task<Result<repository::Created>> Api::create_media(Call& call) {
  call.exchange.notes().operation = "create";
  const Result<auth::Requester> requester = co_await identify(call);
  if (!requester) co_return std::unexpected(requester.error());
  TextSink sink;
  if (Result<> received = co_await call.exchange.receive_body(sink); !received) {
    co_return std::unexpected(received.error());
  }
  const Result<CreateBody> body = parse_create_body(sink.text);
  if (!body) co_return std::unexpected(body.error());
  Result<repository::Created> created =
      co_await repository_.create(*requester, call.site.server_name, body->content_type, body->filename);
  if (created) call.exchange.notes().media = created->mxc.to_uri();
  co_return created;
}

Api::Answer Api::create(Call call) {
  const Result<repository::Created> created = co_await create_media(call);
  if (!created) co_return refuse(call.exchange, created.error());
  co_return json_response(fmt::format("{{\"content_uri\":{},\"unused_expires_at\":{}}}",
                                      json_string(created->mxc.to_uri()),
                                      created->unused_expires_at.time_since_epoch().count()));
}

Api::Answer Api::create_r0(Call call) {
  const Result<repository::Created> created = co_await create_media(call);
  if (!created) co_return refuse(call.exchange, created.error());
  co_return json_response(fmt::format("{{\"content_uri\":{},\"media_id\":{},\"unused_expires_at\":{}}}",
                                      json_string(created->mxc.to_uri()), json_string(created->mxc.media_id()),
                                      created->unused_expires_at.time_since_epoch().count()));
}

}  // namespace sluice::api
