// SPDX-License-Identifier: Apache-2.0
#include "auth/whoami.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>

namespace sluice::auth {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::Not;

Result<Requester> read(int status, std::string body, std::string retry_after = "") {
  return read_whoami(outbound::Response{status, std::move(body), std::move(retry_after)}, "example.org");
}

Error refusal(int status, std::string body, std::string retry_after = "") {
  const Result<Requester> answer = read(status, std::move(body), std::move(retry_after));
  EXPECT_FALSE(answer.has_value());
  return answer ? Error{} : answer.error();
}

void expect_bad_gateway(int status, const std::string& body) {
  const Error error = refusal(status, body);
  EXPECT_EQ(error.http_status, 502) << status << " " << body;
  EXPECT_EQ(error.errcode, "M_UNKNOWN");
  EXPECT_THAT(error.message, HasSubstr("client_api")) << "an administrator must know where to look";
}

TEST(WhoamiRequest, AsksTheClientApi) {
  const outbound::Request request = whoami_request("https://hs.example.org/base", seconds(3), {"t0k", ""});
  EXPECT_EQ(request.url, "https://hs.example.org/base/_matrix/client/v3/account/whoami");
  EXPECT_EQ(request.timeout, seconds(3));
  EXPECT_THAT(request.headers, testing::Contains(testing::Pair("Authorization", "Bearer t0k")));
}

TEST(WhoamiRequest, TellsForWhomItAsks) {
  const auto headers_for = [](std::string address, std::string user_agent) {
    return whoami_request("http://hs", seconds(3), {"t", "", std::move(address), std::move(user_agent)}).headers;
  };
  EXPECT_THAT(headers_for("2001:db8::7", "Element/1.12 (ünï)"),
              testing::IsSupersetOf({testing::Pair("X-Forwarded-For", "2001:db8::7"),
                                     testing::Pair("X-Forwarded-Proto", "https"),
                                     testing::Pair("User-Agent", "Element/1.12 (ünï)")}));
  for (const std::string& unfit : {std::string(), std::string("a\tb"), std::string("\xff"), std::string(513, 'x')}) {
    EXPECT_THAT(headers_for("", unfit), testing::Each(testing::Key(testing::AnyOf("Authorization", "Accept"))))
        << unfit;
  }
}

TEST(WhoamiRequest, EncodesTheUserAsked) {
  const outbound::Request request = whoami_request("http://hs", seconds(3), {"t", "@a&b=c/ü:example.org"});
  EXPECT_EQ(request.url, "http://hs/_matrix/client/v3/account/whoami?user_id=%40a%26b%3Dc%2F%C3%BC%3Aexample.org");
}

TEST(Whoami, NamesTheUser) {
  const Result<Requester> answer =
      read(200, R"({"user_id": "@alice:example.org", "device_id": "ABC", "org.other": {"x": [1, 2]}})");
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->user, "@alice:example.org");
  EXPECT_FALSE(answer->guest);
  EXPECT_FALSE(answer->admin);
}

TEST(Whoami, TellsGuestsButNeverAdmins) {
  const Result<Requester> answer =
      read(200, R"({"user_id": "@17:example.org", "is_guest": true, "admin": true, "is_admin": true})");
  ASSERT_TRUE(answer.has_value());
  EXPECT_TRUE(answer->guest);
  EXPECT_FALSE(answer->admin);
}

TEST(Whoami, ServerNamesMayHavePorts) {
  const auto answer = read_whoami(outbound::Response{200, R"({"user_id": "@a:[::1]:8448"})", ""}, "[::1]:8448");
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->user, "@a:[::1]:8448");
}

TEST(Whoami, UserOfAnotherServerIsAMistakeInTheConfiguration) {
  for (const char* user :
       {"@alice:example.com", "@alice:example.org:8448", "@alice:evil.example.org", "@alice:EXAMPLE.ORG"}) {
    expect_bad_gateway(200, std::string(R"({"user_id": ")") + user + "\"}");
  }
}

TEST(Whoami, NonsenseIsABadGatewayWhateverItsStatus) {
  for (const char* body :
       {"", "OK", "<html></html>", "[]", "null", "\"@alice:example.org\"", "{", "{} {}", "{\"a\": \xff}"}) {
    expect_bad_gateway(200, body);
    expect_bad_gateway(401, body);
    expect_bad_gateway(403, body);
  }
  for (const char* body : {"{}", R"({"user_id": 7})", R"({"user_id": ""})", R"({"user_id": "alice"})",
                           R"({"user_id": "@alice:"})", R"({"user_id": "@alice:example.org", "is_guest": "no"})"}) {
    expect_bad_gateway(200, body);
  }
}

TEST(Whoami, DeepJsonIsRefused) {
  expect_bad_gateway(
      200, R"({"user_id": "@alice:example.org", "a": )" + std::string(1000, '[') + std::string(1000, ']') + "}");
}

TEST(Whoami, OtherStatusesAreABadGateway) {
  for (const int status : {100, 201, 204, 301, 302, 304, 400, 404, 405, 410, 418}) {
    expect_bad_gateway(status, R"({"errcode": "M_UNRECOGNIZED", "error": "Unrecognized request"})");
  }
}

TEST(Whoami, UnknownTokenIsPassedOn) {
  const Error error =
      refusal(401, R"({"errcode": "M_UNKNOWN_TOKEN", "error": "Token has expired", "soft_logout": true})");
  EXPECT_EQ(error, (Error{401, "M_UNKNOWN_TOKEN", "Token has expired", {}, true}));
  EXPECT_FALSE(refusal(401, R"({"errcode": "M_UNKNOWN_TOKEN"})").soft_logout);
  EXPECT_FALSE(refusal(401, R"({"errcode": "M_UNKNOWN_TOKEN", "soft_logout": "yes"})").soft_logout);
}

TEST(Whoami, LockedUserIsPassedOn) {
  const Error error = refusal(401, R"({"errcode": "M_USER_LOCKED", "error": "Locked", "soft_logout": true})");
  EXPECT_EQ(error, (Error{401, "M_USER_LOCKED", "Locked", {}, true}));
}

TEST(Whoami, RefusalWithoutACodeGetsOne) {
  EXPECT_EQ(refusal(401, "{}").errcode, "M_UNKNOWN_TOKEN");
  EXPECT_EQ(refusal(403, "{}").errcode, "M_FORBIDDEN");
  EXPECT_FALSE(refusal(401, "{}").message.empty());
  EXPECT_EQ(refusal(401, R"({"errcode": "not a code\n"})").errcode, "M_UNKNOWN_TOKEN");
  EXPECT_EQ(refusal(403, R"({"errcode": ")" + std::string(65, 'A') + "\"}").errcode, "M_FORBIDDEN");
}

TEST(Whoami, TokenWasGivenSoItIsNotMissing) {
  EXPECT_EQ(refusal(401, R"({"errcode": "M_MISSING_TOKEN", "error": "Missing"})").errcode, "M_UNKNOWN_TOKEN");
}

TEST(Whoami, ForbiddenIsPassedOn) {
  for (const char* code : {"M_FORBIDDEN", "M_USER_DEACTIVATED", "M_EXCLUSIVE", "M_USER_SUSPENDED", "ORG.EXAMPLE.NO"}) {
    const Error error = refusal(403, std::string(R"({"errcode": ")") + code + R"(", "error": "why"})");
    EXPECT_EQ(error, (Error{403, code, "why", {}, false}));
  }
}

TEST(Whoami, MessageIsBoundedAndClean) {
  const Error clean = refusal(403, R"({"error": "one\ntwo\u0000three\u007f\u001b[31m"})");
  EXPECT_EQ(clean.message, "onetwothree[31m");

  std::string umlauts = "a";  // so that the limit falls into the middle of a character
  for (int i = 0; i < 1000; ++i) umlauts += "ü";
  const Error bounded = refusal(403, "{\"error\": \"" + umlauts + "\"}");
  EXPECT_EQ(bounded.message, umlauts.substr(0, 299));
}

TEST(Whoami, RateLimitIsPassedOnWithItsTime) {
  const std::string body = R"({"errcode": "M_LIMIT_EXCEEDED", "error": "Slow down", "retry_after_ms": 2500})";
  EXPECT_EQ(refusal(429, body), (Error{429, "M_LIMIT_EXCEEDED", "Slow down", milliseconds(2500), false}));
  EXPECT_EQ(refusal(429, body, "7").retry_after, seconds(7)) << "the header comes first";
  EXPECT_EQ(refusal(429, body, "Wed, 21 Oct 2015 07:28:00 GMT").retry_after, milliseconds(2500));
}

TEST(Whoami, RateLimitsTimeIsBounded) {
  EXPECT_EQ(refusal(429, "{}", "0").retry_after, seconds(1));
  EXPECT_EQ(refusal(429, "{}", "3600").retry_after, seconds(60));
  EXPECT_EQ(refusal(429, "{}", "99999999999999999999").retry_after, seconds(60));
  EXPECT_EQ(refusal(429, R"({"retry_after_ms": 3})").retry_after, seconds(1));
  EXPECT_EQ(refusal(429, R"({"retry_after_ms": -3})").retry_after, seconds(1));
  EXPECT_EQ(refusal(429, R"({"retry_after_ms": 1e300})").retry_after, seconds(60));
  EXPECT_EQ(refusal(429, R"({"retry_after_ms": "soon"})").retry_after, seconds(5));
  EXPECT_EQ(refusal(429, R"({"retry_after_ms": 0e380})").retry_after, seconds(5));
  EXPECT_EQ(refusal(429, "<html>").retry_after, seconds(5));
}

TEST(Whoami, HomeserverInTroubleIsUnavailable) {
  for (const int status : {500, 502, 503, 504, 599}) {
    const Error error = refusal(status, R"({"errcode": "M_UNKNOWN_TOKEN"})", "3600");
    EXPECT_EQ(error.http_status, 503);
    EXPECT_EQ(error.errcode, "M_UNKNOWN");
    EXPECT_EQ(error.retry_after, seconds(5));
  }
}

TEST(Whoami, HomeserverOutOfReachIsUnavailableAndTellsClientsNoAddress) {
  const auto answer =
      read_whoami(std::unexpected(outbound::Failure{false, "Failed to connect to 10.0.0.7 port 8008"}), "example.org");
  ASSERT_FALSE(answer.has_value());
  EXPECT_EQ(answer.error().http_status, 503);
  EXPECT_EQ(answer.error().errcode, "M_UNKNOWN");
  EXPECT_EQ(answer.error().retry_after, seconds(5));
  EXPECT_THAT(answer.error().message, Not(HasSubstr("10.0.0.7")));
}

}  // namespace
}  // namespace sluice::auth
