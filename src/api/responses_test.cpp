// SPDX-License-Identifier: Apache-2.0
#include "api/responses.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "base/text.h"

namespace sluice::api {
namespace {

using std::chrono::milliseconds;

std::string body_of(const http::Response& response) { return std::get<std::string>(response.body); }

std::optional<std::string> field(const http::Response& response, std::string_view name) {
  for (const auto& [key, value] : response.fields) {
    if (equals_ignoring_case(key, name)) return std::string(value);
  }
  return std::nullopt;
}

// ---- errors ----

TEST(ErrorResponse, IsJsonWithErrcodeAndError) {
  const http::Response response = error_response({404, "M_NOT_FOUND", "Unknown media ID", {}, false});
  EXPECT_EQ(response.status, 404);
  EXPECT_EQ(body_of(response), R"({"errcode":"M_NOT_FOUND","error":"Unknown media ID"})");
  EXPECT_EQ(field(response, "Content-Type"), "application/json");
  EXPECT_EQ(field(response, "Cache-Control"), "no-store");
  EXPECT_EQ(field(response, "Retry-After"), std::nullopt);
}

TEST(ErrorResponse, TellsWhenToTryAgainInBothForms) {
  const auto retry_after = [](milliseconds time) {
    return error_response({429, "M_LIMIT_EXCEEDED", "Slow down", time, false});
  };
  EXPECT_EQ(body_of(retry_after(milliseconds(1500))),
            R"({"errcode":"M_LIMIT_EXCEEDED","error":"Slow down","retry_after_ms":1500})");
  EXPECT_EQ(field(retry_after(milliseconds(1500)), "Retry-After"), "2") << "rounded up: earlier would be too early";
  EXPECT_EQ(field(retry_after(milliseconds(1)), "Retry-After"), "1");
  EXPECT_EQ(field(retry_after(milliseconds(1000)), "Retry-After"), "1");
  EXPECT_EQ(field(retry_after(milliseconds(1001)), "Retry-After"), "2");
  EXPECT_EQ(field(retry_after(milliseconds(0)), "Retry-After"), "0");
}

TEST(ErrorResponse, PassesSoftLogoutOn) {
  EXPECT_EQ(body_of(error_response({401, "M_UNKNOWN_TOKEN", "Expired", {}, true})),
            R"({"errcode":"M_UNKNOWN_TOKEN","error":"Expired","soft_logout":true})");
}

TEST(ErrorResponse, EscapesWhatOthersSay) {
  EXPECT_EQ(body_of(error_response({403, "M_A\"B", "a\"b\\c\n", {}, false})),
            R"({"errcode":"M_A\"B","error":"a\"b\\c\n"})");
  EXPECT_EQ(body_of(error_response({403, "M_FORBIDDEN", "\xff\xfe", {}, false})),
            "{\"errcode\":\"M_FORBIDDEN\",\"error\":\"(not UTF-8)\"}");
}

// ---- the rest ----

TEST(JsonResponse, Is200AndNotKept) {
  const http::Response response = json_response("{}");
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(body_of(response), "{}");
  EXPECT_EQ(field(response, "Content-Type"), "application/json");
  EXPECT_EQ(field(response, "Cache-Control"), "no-store");
}

TEST(JsonString, IsQuotedAndEscaped) {
  EXPECT_EQ(json_string("mxc://example.org/id"), R"("mxc://example.org/id")");
  EXPECT_EQ(json_string("a\"b\\c\x01\n"), R"("a\"b\\c\u0001\n")");
  EXPECT_EQ(json_string("grüße"), "\"grüße\"");
  EXPECT_EQ(json_string(""), "\"\"");
}

TEST(CommonFields, LetBrowsersIn) {
  http::Response response;
  response.fields = common_fields();
  EXPECT_EQ(field(response, "Access-Control-Allow-Origin"), "*");
  EXPECT_EQ(field(response, "X-Content-Type-Options"), "nosniff");
  const std::string methods = field(response, "Access-Control-Allow-Methods").value();
  for (const std::string_view method : {"GET", "POST", "PUT", "DELETE", "OPTIONS"}) {
    EXPECT_NE(methods.find(method), std::string::npos) << method;
  }
  const std::string headers = field(response, "Access-Control-Allow-Headers").value();
  for (const std::string_view header : {"X-Requested-With", "Content-Type", "Authorization"}) {
    EXPECT_NE(headers.find(header), std::string::npos) << header;
  }
}

}  // namespace
}  // namespace sluice::api
