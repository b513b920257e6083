// SPDX-License-Identifier: Apache-2.0
#include "auth/authenticator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "auth/manual_clock_test.h"
#include "outbound/fake_client_test.h"
#include "runtime/run_on_loop_test.h"

namespace sluice::auth {
namespace {

using outbound::FakeClient;
using std::chrono::milliseconds;
using std::chrono::seconds;

FakeClient::Outcome response(int status, std::string body) { return outbound::Response{status, std::move(body), ""}; }

FakeClient::Outcome alice() { return response(200, R"({"user_id": "@alice:example.org"})"); }

FakeClient::Outcome unknown_token() { return response(401, R"({"errcode": "M_UNKNOWN_TOKEN", "error": "Who?"})"); }

FakeClient::Outcome unreachable() { return std::unexpected(outbound::Failure{true, "timed out"}); }

class AuthenticatorTest : public ::testing::Test {
 protected:
  AuthenticatorTest() {
    homeserver_.server_name = "example.org";
    homeserver_.client_api = "http://homeserver.test";
    homeserver_.tokens = {{"bridge", "@bridge:example.org", false}, {"root", "@root:example.org", true}};
  }

  // Made at the first use, so that a test may change its configuration before.
  Authenticator& authenticator() {
    if (!authenticator_) authenticator_ = make_authenticator(homeserver_, limits_, client_, clock_);
    return *authenticator_;
  }
  Result<Requester> identify(std::string token, std::string user_id = "") {
    return run_on_loop(authenticator().identify({std::move(token), std::move(user_id)}));
  }
  std::string errcode(std::string token, std::string user_id = "") {
    const Result<Requester> answer = identify(std::move(token), std::move(user_id));
    return answer ? "accepted" : answer.error().errcode;
  }

  config::Homeserver homeserver_;
  config::Config::Auth limits_;
  FakeClient client_{alice()};
  ManualClock clock_;
  std::unique_ptr<Authenticator> authenticator_;
};

TEST_F(AuthenticatorTest, RequiresAToken) {
  const Result<Requester> answer = identify("");
  ASSERT_FALSE(answer.has_value());
  EXPECT_EQ(answer.error().http_status, 401);
  EXPECT_EQ(answer.error().errcode, "M_MISSING_TOKEN");
  EXPECT_EQ(client_.count(), 0u);
}

TEST_F(AuthenticatorTest, KnowsStaticTokensWithoutAsking) {
  EXPECT_EQ(identify("bridge")->user, "@bridge:example.org");
  EXPECT_FALSE(identify("bridge")->admin);
  EXPECT_EQ(identify("root")->user, "@root:example.org");
  EXPECT_TRUE(identify("root")->admin);
  EXPECT_EQ(client_.count(), 0u);
}

TEST_F(AuthenticatorTest, StaticTokensSpeakForTheirOwnUserOnly) {
  EXPECT_EQ(identify("bridge", "@alice:example.org")->user, "@bridge:example.org");
}

TEST_F(AuthenticatorTest, WithoutAClientApiOtherTokensAreUnknown) {
  homeserver_.client_api.reset();
  const Result<Requester> answer = identify("bridge2");
  ASSERT_FALSE(answer.has_value());
  EXPECT_EQ(answer.error().http_status, 401);
  EXPECT_EQ(answer.error().errcode, "M_UNKNOWN_TOKEN");
  EXPECT_FALSE(answer.error().soft_logout);
  EXPECT_EQ(client_.count(), 0u);
}

TEST_F(AuthenticatorTest, AsksTheHomeserver) {
  limits_.timeout = seconds(3);
  EXPECT_EQ(identify("t0k")->user, "@alice:example.org");
  ASSERT_EQ(client_.count(), 1u);
  const outbound::Request request = client_.requests()[0];
  EXPECT_EQ(request.url, "http://homeserver.test/_matrix/client/v3/account/whoami");
  EXPECT_EQ(request.timeout, seconds(3));
  EXPECT_THAT(request.headers, testing::Contains(testing::Pair("Authorization", "Bearer t0k")));
}

TEST_F(AuthenticatorTest, TakesOverOtherTokensAndAdmins) {
  EXPECT_TRUE(identify("root")->admin);
  EXPECT_FALSE(identify("t0k")->admin);
  homeserver_.tokens = {{"bridge", "@other:example.org", false}, {"new", "@new:example.org", false}};
  homeserver_.admins = {"@alice:example.org"};
  authenticator().replace_known(homeserver_, {});
  EXPECT_EQ(identify("bridge")->user, "@other:example.org");
  EXPECT_EQ(identify("new")->user, "@new:example.org");
  EXPECT_TRUE(identify("t0k")->admin);
  EXPECT_EQ(client_.count(), 1u) << "what the homeserver has said is still known";
  client_.set_script([](const outbound::Request&) { return unknown_token(); });
  EXPECT_EQ(errcode("root"), "M_UNKNOWN_TOKEN");
}

TEST_F(AuthenticatorTest, KnowsAdminsByTheirNames) {
  homeserver_.admins = {"@alice:example.org", "@bridge:example.org"};
  EXPECT_TRUE(identify("t0k")->admin) << "asked";
  EXPECT_TRUE(identify("t0k")->admin) << "remembered";
  EXPECT_TRUE(identify("bridge")->admin) << "a static token";
  client_.set_script([](const outbound::Request&) { return response(200, R"({"user_id": "@bob:example.org"})"); });
  EXPECT_FALSE(identify("other")->admin);
}

TEST_F(AuthenticatorTest, AsksOnBehalfOfAnApplicationServicesUser) {
  client_.set_script([](const outbound::Request&) { return response(200, R"({"user_id": "@ghost_1:example.org"})"); });
  EXPECT_EQ(identify("as_token", "@ghost_1:example.org")->user, "@ghost_1:example.org");
  EXPECT_THAT(client_.requests()[0].url, testing::EndsWith("/whoami?user_id=%40ghost_1%3Aexample.org"));
}

TEST_F(AuthenticatorTest, RefusesAbsurdTokensWithoutAsking) {
  for (const std::string& token : {std::string(4097, 'x'), std::string("a\r\nX-Evil: 1"), std::string("a\0b", 3),
                                   std::string("t\xc3\xb6ken"), std::string("\x7f")}) {
    EXPECT_EQ(errcode(token), "M_UNKNOWN_TOKEN");
  }
  EXPECT_EQ(client_.count(), 0u);
  EXPECT_EQ(errcode(std::string(4096, 'x')), "accepted");
}

TEST_F(AuthenticatorTest, RefusesAbsurdUserIdsWithoutAsking) {
  EXPECT_EQ(errcode("t", "@" + std::string(255, 'x')), "M_INVALID_PARAM");
  EXPECT_EQ(errcode("t", std::string("@a\0:example.org", 15)), "M_INVALID_PARAM");
  EXPECT_EQ(client_.count(), 0u);
}

TEST_F(AuthenticatorTest, RemembersAnAnswerForItsAge) {
  EXPECT_TRUE(identify("t"));
  clock_.advance(limits_.cache_age - milliseconds(1));
  EXPECT_TRUE(identify("t"));
  EXPECT_EQ(client_.count(), 1u);

  clock_.advance(milliseconds(1));
  client_.set_script([](const outbound::Request&) { return unknown_token(); });
  EXPECT_EQ(errcode("t"), "M_UNKNOWN_TOKEN") << "a revoked token goes on working no longer than cache_age";
  EXPECT_EQ(client_.count(), 2u);
}

TEST_F(AuthenticatorTest, AgeCountsFromTheAsking) {
  client_.set_script([this](const outbound::Request&) {
    clock_.advance(seconds(9));  // how long the homeserver takes
    return alice();
  });
  EXPECT_TRUE(identify("t"));
  clock_.advance(limits_.cache_age - seconds(9));
  EXPECT_TRUE(identify("t"));
  EXPECT_EQ(client_.count(), 2u);
}

TEST_F(AuthenticatorTest, RemembersRefusalsForTheirOwnShorterAge) {
  client_.set_script([](const outbound::Request&) { return unknown_token(); });
  EXPECT_EQ(errcode("t"), "M_UNKNOWN_TOKEN");
  clock_.advance(limits_.refusal_cache_age - milliseconds(1));
  EXPECT_EQ(identify("t").error().message, "Who?");
  EXPECT_EQ(client_.count(), 1u);

  clock_.advance(milliseconds(1));
  client_.set_script([](const outbound::Request&) { return alice(); });
  EXPECT_EQ(errcode("t"), "accepted");
}

TEST_F(AuthenticatorTest, RemembersThatAUserIsForbidden) {
  client_.set_script([](const outbound::Request&) { return response(403, R"({"errcode": "M_EXCLUSIVE"})"); });
  EXPECT_EQ(errcode("t", "@bob:example.org"), "M_EXCLUSIVE");
  EXPECT_EQ(errcode("t", "@bob:example.org"), "M_EXCLUSIVE");
  EXPECT_EQ(client_.count(), 1u);
}

TEST_F(AuthenticatorTest, NeverRemembersFailures) {
  const std::vector<std::pair<FakeClient::Outcome, int>> failures = {
      {unreachable(), 503},       {response(500, "{}"), 503},       {response(404, "{}"), 502},
      {response(429, "{}"), 429}, {response(200, "nonsense"), 502}, {response(401, "<html>"), 502}};
  std::size_t asked = 0;
  for (const auto& [outcome, status] : failures) {
    client_.set_script([failure = outcome](const outbound::Request&) { return failure; });
    EXPECT_EQ(identify("t").error().http_status, status);
    EXPECT_EQ(identify("t").error().http_status, status);
    asked += 2;
    EXPECT_EQ(client_.count(), asked);
  }
  client_.set_script([](const outbound::Request&) { return alice(); });
  EXPECT_EQ(errcode("t"), "accepted");
}

TEST_F(AuthenticatorTest, AFailureDoesNotOutliveAGoodAnswer) {
  EXPECT_TRUE(identify("t"));
  client_.set_script([](const outbound::Request&) { return unreachable(); });
  clock_.advance(limits_.cache_age / 2);
  EXPECT_TRUE(identify("t")) << "what is known needs no homeserver";
}

TEST_F(AuthenticatorTest, TokenAndUserTogetherAreTheQuestion) {
  EXPECT_TRUE(identify("t"));
  EXPECT_TRUE(identify("t", "@alice:example.org"));
  EXPECT_TRUE(identify("t", "@bob:example.org"));
  EXPECT_TRUE(identify("t@", "alice:example.org"));
  EXPECT_EQ(client_.count(), 4u);
}

TEST_F(AuthenticatorTest, RemembersNoMoreThanItsLimit) {
  limits_.cache_entries = 2;
  EXPECT_TRUE(identify("a"));
  EXPECT_TRUE(identify("b"));
  EXPECT_TRUE(identify("c"));
  EXPECT_EQ(client_.count(), 3u);
  EXPECT_TRUE(identify("b"));
  EXPECT_TRUE(identify("c"));
  EXPECT_EQ(client_.count(), 3u);
  EXPECT_TRUE(identify("a"));
  EXPECT_EQ(client_.count(), 4u);
}

TEST_F(AuthenticatorTest, ABrokenClientBreaksTheQuestionOnly) {
  client_.set_script([](const outbound::Request&) -> FakeClient::Outcome { throw std::runtime_error("a bug"); });
  EXPECT_EQ(identify("t").error().http_status, 500);
  client_.set_script([](const outbound::Request&) { return alice(); });
  EXPECT_TRUE(identify("t"));
}

struct Answered {
  Result<Requester> answer;
  bool at_home = false;
};

Task<Answered> identify_at_home(Authenticator& authenticator, Credentials credentials) {
  Loop* const home = &Loop::current();
  Result<Requester> answer = co_await authenticator.identify(std::move(credentials));
  co_return Answered{std::move(answer), &Loop::current() == home};
}

Task<void> do_nothing() { co_return; }

// Returns when everything that was started on the loop before has come to its wait.
void settle(LoopThread& thread) { thread.start(do_nothing()).get(); }

class SingleFlightTest : public AuthenticatorTest {
 protected:
  // Starts `each` requests with one token on each of two loops, and lets them all come to their wait.
  std::vector<std::future<Answered>> start_held(int each) {
    client_.hold();
    std::vector<std::future<Answered>> answers;
    for (int i = 0; i < each; ++i) {
      answers.push_back(first_.start(identify_at_home(authenticator(), {"t", ""})));
      answers.push_back(second_.start(identify_at_home(authenticator(), {"t", ""})));
    }
    settle(first_);
    settle(second_);
    return answers;
  }

  LoopThread first_;
  LoopThread second_;
};

TEST_F(SingleFlightTest, ManyRequestsAskOnceAndEachIsAnsweredOnItsOwnLoop) {
  std::vector<std::future<Answered>> answers = start_held(50);
  EXPECT_EQ(client_.count(), 1u);
  client_.release();
  for (std::future<Answered>& future : answers) {
    const Answered answered = future.get();
    EXPECT_EQ(answered.answer->user, "@alice:example.org");
    EXPECT_TRUE(answered.at_home);
  }
  EXPECT_TRUE(identify("t"));
  EXPECT_EQ(client_.count(), 1u);
}

TEST_F(SingleFlightTest, ARefusalIsForAllWhoWait) {
  client_.set_script([](const outbound::Request&) { return unknown_token(); });
  std::vector<std::future<Answered>> answers = start_held(5);
  client_.release();
  for (std::future<Answered>& future : answers) EXPECT_EQ(future.get().answer.error().message, "Who?");
}

TEST_F(SingleFlightTest, AFailureIsForThoseWhoWaitAndNobodyElse) {
  client_.set_script([](const outbound::Request&) { return unreachable(); });
  std::vector<std::future<Answered>> answers = start_held(5);
  client_.release();
  for (std::future<Answered>& future : answers) EXPECT_EQ(future.get().answer.error().http_status, 503);
  client_.set_script([](const outbound::Request&) { return alice(); });
  EXPECT_TRUE(identify("t"));
  EXPECT_EQ(client_.count(), 2u);
}

TEST_F(SingleFlightTest, ABrokenClientLeavesNobodyWaiting) {
  client_.set_script([](const outbound::Request&) -> FakeClient::Outcome { throw std::runtime_error("a bug"); });
  std::vector<std::future<Answered>> answers = start_held(5);
  client_.release();
  for (std::future<Answered>& future : answers) EXPECT_EQ(future.get().answer.error().http_status, 500);
}

TEST_F(SingleFlightTest, DifferentTokensDoNotWaitForEachOther) {
  client_.hold();
  auto held = first_.start(identify_at_home(authenticator(), {"slow", ""}));
  client_.await_count(1);
  EXPECT_TRUE(identify("bridge"));
  auto other = second_.start(identify_at_home(authenticator(), {"t", ""}));
  client_.await_count(2);
  client_.release();
  EXPECT_TRUE(held.get().answer);
  EXPECT_TRUE(other.get().answer);
}

TEST_F(SingleFlightTest, NobodyKeepsOthersFromAskingByMakingTokensUp) {
  client_.hold();
  const auto start_from = [this](const std::string& network, const std::string& token) {
    return first_.start(identify_at_home(authenticator(), {.token = token, .user_id = "", .client_network = network}));
  };
  std::vector<std::future<Answered>> answers;
  for (std::size_t i = 0; i < kMaxQuestionsUnderWay + kMaxQuestionsWaiting; ++i) {
    answers.push_back(start_from("192.0.2.7", "made up " + std::to_string(i)));
  }
  client_.await_count(kMaxQuestionsUnderWay);
  const Answered refused = start_from("192.0.2.7", "one more").get();
  EXPECT_EQ(refused.answer.error().http_status, 429);
  EXPECT_EQ(refused.answer.error().errcode, "M_LIMIT_EXCEEDED");
  EXPECT_TRUE(start_from("192.0.2.7", "bridge").get().answer) << "whom it knows it need not ask for";

  answers.push_back(start_from("192.0.2.8", "of another network"));
  settle(first_);
  EXPECT_EQ(client_.count(), kMaxQuestionsUnderWay);
  client_.release();
  for (std::future<Answered>& future : answers) EXPECT_TRUE(future.get().answer);
  const std::vector<outbound::Request> requests = client_.requests();
  const auto other = std::ranges::find_if(requests, [](const outbound::Request& request) {
    return request.headers.front().second == "Bearer of another network";
  });
  EXPECT_LE(other - requests.begin(), static_cast<std::ptrdiff_t>(kMaxQuestionsUnderWay) + 1)
      << "the next turn but one";
}

TEST_F(SingleFlightTest, ATurnThatDoesNotComeInTimeIsUnavailable) {
  limits_.timeout = milliseconds(0);
  client_.hold();
  std::vector<std::future<Answered>> asked;
  for (std::size_t i = 0; i < kMaxQuestionsUnderWay; ++i) {
    asked.push_back(first_.start(identify_at_home(authenticator(), {std::to_string(i), ""})));
  }
  client_.await_count(kMaxQuestionsUnderWay);
  const Answered late = first_.start(identify_at_home(authenticator(), {"late", ""})).get();
  EXPECT_EQ(late.answer.error().http_status, 503);
  EXPECT_TRUE(late.answer.error().retry_after);
  client_.release();
  for (std::future<Answered>& future : asked) EXPECT_TRUE(future.get().answer);
}

// What was asked and is remembered for no time at all: every request asks or joins, from both loops, many times.
Task<int> identify_often(Authenticator& authenticator, int times) {
  int accepted = 0;
  for (int i = 0; i < times; ++i) {
    const auto answer = co_await authenticator.identify({"token " + std::to_string(i % 3), ""});
    accepted += answer.has_value() ? 1 : 0;
    co_await yield_to_loop();
  }
  co_return accepted;
}

TEST_F(SingleFlightTest, ManyLoopsAtOnce) {
  constexpr int kTimes = 500;
  limits_.cache_age = milliseconds(0);
  std::vector<std::future<int>> results;
  for (int i = 0; i < 4; ++i) {
    results.push_back(first_.start(identify_often(authenticator(), kTimes)));
    results.push_back(second_.start(identify_often(authenticator(), kTimes)));
  }
  for (std::future<int>& result : results) EXPECT_EQ(result.get(), kTimes);
  EXPECT_LE(client_.count(), 8u * kTimes);
}

}  // namespace
}  // namespace sluice::auth
