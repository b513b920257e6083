// SPDX-License-Identifier: Apache-2.0
#include "api/responses.h"

#include <fmt/format.h>

#include <boost/json/serialize.hpp>
#include <boost/json/string.hpp>
#include <boost/json/value.hpp>

#include "base/text.h"

namespace sluice::api {

std::string json_string(std::string_view text) {
  // What came from outside may not be UTF-8, which no JSON text may hold (RFC 8259, section 8.1).
  return boost::json::serialize(boost::json::value(is_utf8(text) ? text : "(not UTF-8)"));
}

http::Response error_response(const Error& error) {
  http::Response response;
  response.status = error.http_status;
  response.with("Content-Type", "application/json").with("Cache-Control", "no-store");
  std::string json =
      fmt::format("{{\"errcode\":{},\"error\":{}", json_string(error.errcode), json_string(error.message));
  if (error.soft_logout) json += ",\"soft_logout\":true";
  if (error.retry_after) {
    const auto milliseconds = error.retry_after->count();
    // Newer clients read the header, older ones the field (client-server API, "Rate limiting").
    response.with("Retry-After", std::to_string((milliseconds + 999) / 1000));
    json += fmt::format(",\"retry_after_ms\":{}", milliseconds);
  }
  json += '}';
  response.body = std::move(json);
  return response;
}

http::Response json_response(std::string json) {
  http::Response response;
  response.with("Content-Type", "application/json").with("Cache-Control", "no-store");
  response.body = std::move(json);
  return response;
}

http::Fields common_fields() {
  http::Fields fields;
  fields.add("Access-Control-Allow-Origin", "*");
  fields.add("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, DELETE, OPTIONS");
  fields.add("Access-Control-Allow-Headers",
             "X-Requested-With, Content-Type, Authorization, Range, If-Range, If-None-Match");
  fields.add("Access-Control-Expose-Headers",
             "Content-Length, Content-Range, Content-Disposition, Accept-Ranges, ETag, Retry-After");
  fields.add("X-Content-Type-Options", "nosniff");
  return fields;
}

}  // namespace sluice::api
