// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "http/server.h"
#include "http/server_fixture_test.h"

// Time, numbers, clients that leave, and the end of the server.
namespace sluice::http {
namespace {

constexpr milliseconds kSoon{50};

class ServerLimitsTest : public ServerTest {
 protected:
  static constexpr std::uint64_t kMoreThanBuffersHold = 100'000'000;
};
INSTANTIATE_TEST_SUITE_P(Loops, ServerLimitsTest, loop_counts(), loop_count_name);

// ---- slow clients ----

TEST_P(ServerLimitsTest, AnswersAHeadThatTakesTooLongWith408) {
  ServerOptions options;
  options.header_timeout = kSoon;
  TestServer server(loops(), options);
  Client client(server);
  client.send("GET / HTTP/1.1\r\nHost");
  const Answer answer = client.read();
  EXPECT_EQ(answer.status, 408);
  EXPECT_EQ(answer.fields.at("connection"), "close");
  EXPECT_TRUE(client.is_at_clean_end());
  EXPECT_EQ(server.toy.wait_for_report(1).status, 408);
}

TEST_P(ServerLimitsTest, ClosesIdleConnectionsSilently) {
  ServerOptions options;
  options.idle_timeout = kSoon;
  TestServer server(loops(), options);
  Client never_asked(server);
  EXPECT_TRUE(never_asked.is_at_clean_end());
  Client asked_once(server);
  EXPECT_EQ(asked_once.get("/a").status, 200);
  EXPECT_TRUE(asked_once.is_at_clean_end());
}

TEST_P(ServerLimitsTest, AnswersABodyThatComesTooSlowlyWith408) {
  ServerOptions options;
  options.body_timeout = kSoon;
  options.min_body_rate = 1000;
  TestServer server(loops(), options);
  Client client(server);
  client.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc");
  const Answer answer = client.read();
  EXPECT_EQ(answer.status, 408);
  EXPECT_EQ(answer.fields.at("connection"), "close");
  client.send("defghij" + get_request("/smuggled"));
  EXPECT_TRUE(client.is_at_end());
  EXPECT_FALSE(server.toy.has_seen("/smuggled"));
}

TEST_P(ServerLimitsTest, CutsAClientThatTakesNothing) {
  ServerOptions options;
  options.write_timeout = kSoon;
  TestServer server(loops(), options);
  server.toy.file = {file_of_zeros(kMoreThanBuffersHold), 0, kMoreThanBuffersHold};
  Client client(server, 4096);
  client.send(get_request("/file"));
  const Report report = server.toy.wait_for_report(1);
  EXPECT_FALSE(report.completed);
  EXPECT_LT(report.bytes_sent, kMoreThanBuffersHold);
  EXPECT_TRUE(eventually([&] { return server.connections() == 0; }));
  EXPECT_FALSE(client.read().is_whole);
}

// ---- clients that leave ----

TEST_P(ServerLimitsTest, WakesAHandlerWhoseClientLeaves) {
  TestServer server(loops());
  Client client(server);
  client.send(get_request("/wait"));
  server.toy.wait_until_seen("/wait");
  client.leave();
  const Report report = server.toy.wait_for_report(1);
  EXPECT_EQ(report.status, 499);
  EXPECT_FALSE(report.completed);
  EXPECT_TRUE(eventually([&] { return server.connections() == 0; }));
}

TEST_P(ServerLimitsTest, AnswersNobodyInTheMiddleOfABody) {
  TestServer server(loops());
  Client client(server);
  client.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc");
  server.toy.wait_until_seen("/echo");
  client.leave();
  const Report report = server.toy.wait_for_report(1);
  EXPECT_EQ(report.status, 499);
  EXPECT_FALSE(report.completed);
}

TEST_P(ServerLimitsTest, KeepsWhatIsPipelinedBehindAHandlerThatWaits) {
  TestServer server(loops());
  Client client(server);
  client.send(get_request("/wait") + get_request("/after"));
  server.toy.wait_until_seen("/wait");
  server.toy.open_gate();
  EXPECT_EQ(client.read().body, "waited");
  EXPECT_EQ(client.read().body, "this is /after");
}

// ---- numbers ----

TEST(ServerMaxConnections, LeavesOthersInTheKernelsQueue) {
  ServerOptions options;
  options.max_connections = 1;
  TestServer server(1, options);
  Client first(server);
  EXPECT_EQ(first.get("/first").status, 200);
  Client second(server);
  EXPECT_TRUE(second.is_connected());
  second.send(get_request("/second"));
  for (int i = 0; i < 5; ++i) EXPECT_EQ(first.get("/first").status, 200);
  EXPECT_EQ(server.connections(), 1u);
  EXPECT_FALSE(second.has_bytes());
  first.leave();
  EXPECT_EQ(second.read().body, "this is /second");
}

// ---- the beginning and the end ----

TEST(ServerStart, TellsWhenThePortIsTaken) {
  TestServer running(2);
  Loop loop;
  Toy toy;
  ServerOptions options;
  options.host = "127.0.0.1";
  options.port = running.port();
  Server second(
      options, {&loop}, [&toy](Exchange& exchange) { return toy.handle(exchange); }, Toy::turn_error,
      [](const ExchangeReport&) {});
  const auto port = second.start();
  ASSERT_FALSE(port);
  EXPECT_NE(port.error().find(std::to_string(running.port())), std::string::npos) << port.error();
}

TEST(ServerStart, TellsWhenTheHostIsNoAddress) {
  Loop loop;
  ServerOptions options;
  options.host = "not an address";
  Server server(options, {&loop}, nullptr, Toy::turn_error, [](const ExchangeReport&) {});
  EXPECT_FALSE(server.start());
}

TEST_P(ServerLimitsTest, DrainsByClosingWhatIsIdleAndEndingWhatRuns) {
  TestServer server(loops());
  Client idle(server);
  EXPECT_EQ(idle.get("/a").status, 200);
  Client silent(server);
  Client half(server);
  half.send("GET /half HTTP/1.1\r\nHo");
  Client busy(server);
  busy.send(get_request("/wait") + get_request("/smuggled"));
  server.toy.wait_until_seen("/wait");
  EXPECT_TRUE(eventually([&] { return server.connections() == 4; }));

  server.server().drain();
  EXPECT_TRUE(idle.is_at_clean_end());
  EXPECT_TRUE(silent.is_at_clean_end());
  EXPECT_TRUE(eventually([&] { return !Client(server).is_connected(); })) << "every loop has stopped listening";

  half.send("st: h\r\n\r\n");
  const Answer late = half.read();
  EXPECT_EQ(late.body, "this is /half") << "a request that had begun is still answered";
  EXPECT_EQ(late.fields.at("connection"), "close");
  EXPECT_TRUE(half.is_at_end());

  server.toy.open_gate();
  const Answer answer = busy.read();
  EXPECT_EQ(answer.body, "waited");
  EXPECT_EQ(answer.fields.at("connection"), "close");
  EXPECT_TRUE(busy.is_at_end());
  EXPECT_FALSE(server.toy.has_seen("/smuggled"));
}

TEST_P(ServerLimitsTest, LetsResponsesUnderWayEndWhileItDrains) {
  constexpr std::uint64_t kSize = 30'000'000;
  TestServer server(loops());
  server.toy.file = {file_of_zeros(kSize), 0, kSize};
  Client client(server);
  client.send(get_request("/file"));
  EXPECT_EQ(client.read_head().status, 200);
  server.server().drain();
  EXPECT_EQ(client.read_bytes(kSize).size(), kSize);
  EXPECT_TRUE(client.is_at_clean_end());
}

TEST_P(ServerLimitsTest, AbortCutsWhatIsLeft) {
  TestServer server(loops());
  server.toy.file = {file_of_zeros(kMoreThanBuffersHold), 0, kMoreThanBuffersHold};
  Client waiting(server);
  waiting.send(get_request("/wait"));
  Client following(server);
  following.send(get_request("/follow"));
  Client sending(server);
  sending.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc");
  Client not_taking(server, 4096);
  not_taking.send(get_request("/file"));
  Client idle(server);
  EXPECT_EQ(idle.get("/a").status, 200);
  for (const std::string path : {"/wait", "/follow", "/echo", "/file"}) server.toy.wait_until_seen(path);
  EXPECT_EQ(server.connections(), 5u);

  server.server().abort();
  EXPECT_TRUE(eventually([&] { return server.connections() == 0; }));
  EXPECT_TRUE(waiting.is_at_end());
  EXPECT_FALSE(following.read().is_whole);
  EXPECT_TRUE(sending.is_at_end());
  EXPECT_FALSE(not_taking.read().is_whole);
  EXPECT_TRUE(idle.is_at_end());
}

}  // namespace
}  // namespace sluice::http
