// SPDX-License-Identifier: Apache-2.0
#include "http/server.h"

#include <gtest/gtest.h>

#include "http/server_fixture_test.h"

// Requests and their framing. Bodies out of files are in server_body_test.cpp, time and numbers in
// server_limits_test.cpp.
namespace sluice::http {
namespace {

INSTANTIATE_TEST_SUITE_P(Loops, ServerTest, loop_counts(), loop_count_name);

const std::string kSmuggled = get_request("/smuggled");

TEST_P(ServerTest, AnswersARequest) {
  ServerOptions options;
  options.common_fields.add("X-Common", "on all");
  TestServer server(loops(), options);
  Client client(server);
  const Answer answer = client.get("/hello");
  EXPECT_EQ(answer.status, 200);
  EXPECT_TRUE(answer.head.starts_with("HTTP/1.1 200 OK\r\n")) << answer.head;
  EXPECT_EQ(answer.body, "this is /hello");
  EXPECT_EQ(answer.fields.at("x-common"), "on all");
  EXPECT_TRUE(answer.fields.at("date").ends_with(" GMT")) << answer.head;
  EXPECT_FALSE(answer.fields.contains("connection"));
  const Report report = server.toy.wait_for_report(1);
  EXPECT_EQ(report.path, "/hello");
  EXPECT_EQ(report.status, 200);
  EXPECT_TRUE(report.completed);
  EXPECT_EQ(report.bytes_sent, answer.body.size());
  EXPECT_EQ(report.client_address, "127.0.0.1");
}

TEST_P(ServerTest, LeavesTheQueryOutOfItsReports) {
  TestServer server(loops());
  Client client(server);
  client.get("/hello?access_token=secret");
  EXPECT_EQ(server.toy.wait_for_report(1).path, "/hello");
}

TEST_P(ServerTest, KeepsTheConnectionAliveUntilToldOtherwise) {
  TestServer server(loops());
  Client client(server);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(client.get("/" + std::to_string(i)).body, "this is /" + std::to_string(i));
  const Answer last = client.request(get_request("/last", "Connection: close\r\n"));
  EXPECT_EQ(last.fields.at("connection"), "close");
  EXPECT_EQ(last.body, "this is /last");
  EXPECT_TRUE(client.is_at_clean_end());
}

TEST_P(ServerTest, ClosesWhenTheHandlerWantsIt) {
  TestServer server(loops());
  Client client(server);
  const Answer answer = client.request(get_request("/close") + kSmuggled);
  EXPECT_EQ(answer.fields.at("connection"), "close");
  EXPECT_TRUE(client.is_at_end());
  EXPECT_FALSE(server.toy.has_seen("/smuggled")) << "nothing is executed behind the last answer";
}

TEST_P(ServerTest, AnswersPipelinedRequestsInOrder) {
  TestServer server(loops());
  Client client(server);
  std::string requests;
  std::vector<std::string> bodies;
  for (int i = 0; i < 100; ++i) {
    const std::string number = std::to_string(i);
    requests += get_request("/" + number);
    requests += post_request("/echo", "sized " + number);
    requests += chunked_request("/echo", "3\r\nun-\r\n5\r\nsized\r\n0\r\n\r\n");
    bodies.insert(bodies.end(), {"this is /" + number, "sized " + number, "un-sized"});
  }
  std::thread sender([&] { client.send(requests); });
  for (const std::string& body : bodies) EXPECT_EQ(client.read().body, body);
  sender.join();
}

TEST_P(ServerTest, ReadsRequestsInTinyPieces) {
  TestServer server(loops());
  Client client(server);
  client.send_in_pieces(get_request("/a") + post_request("/echo", "hello") + chunked_request("/echo", "0\r\n\r\n"), 1);
  EXPECT_EQ(client.read().body, "this is /a");
  EXPECT_EQ(client.read().body, "hello");
  const Answer empty = client.read();
  EXPECT_EQ(empty.status, 200);
  EXPECT_EQ(empty.body, "");
}

TEST_P(ServerTest, PoursLargeBodies) {
  TestServer server(loops());
  Client client(server);
  std::string content;
  for (int i = 0; content.size() < 3'000'000; ++i) content += std::to_string(i) + " ";
  client.send_in_pieces(post_request("/echo", content), 70'001);
  EXPECT_EQ(client.read().body, content);
  std::string chunks;
  for (std::size_t at = 0; at < content.size(); at += 50'000) {
    const std::string chunk = content.substr(at, 50'000);
    char size[32];
    std::snprintf(size, sizeof size, "%zx\r\n", chunk.size());
    chunks += size + chunk + "\r\n";
  }
  client.send_in_pieces(chunked_request("/echo", chunks + "0\r\n\r\n"), 70'001);
  EXPECT_EQ(client.read().body, content);
  EXPECT_EQ(server.toy.wait_for_report(2).bytes_received, content.size());
}

TEST_P(ServerTest, SkipsTheEmptyLineBehindABody) {
  TestServer server(loops());
  Client client(server);
  client.send(post_request("/echo", "a") + "\r\n" + post_request("/echo", "b"));
  EXPECT_EQ(client.read().body, "a");
  EXPECT_EQ(client.read().body, "b");
}

TEST_P(ServerTest, RefusesWhatIsNotHttp) {
  TestServer server(loops());
  for (const std::string request :
       {"\x16\x03\x01\x02", "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost : h\r\n\r\n", "x y z\r\n\r\n"}) {
    Client client(server);
    const Answer answer = client.request(request + kSmuggled);
    EXPECT_EQ(answer.status, 400) << request;
    EXPECT_EQ(answer.fields.at("connection"), "close");
    EXPECT_TRUE(client.is_at_end());
  }
  EXPECT_TRUE(server.toy.seen().empty());
  EXPECT_EQ(server.toy.wait_for_report(1).status, 400);
}

// ---- bodies that nobody wants ----

TEST_P(ServerTest, StepsOverASmallRefusedBody) {
  TestServer server(loops());
  for (const std::string& request :
       {post_request("/refuse", kSmuggled), chunked_request("/refuse", "3\r\nabc\r\n0\r\n\r\n"),
        chunked_request("/refuse", "0\r\n\r\n"), post_request("/refuse", "")}) {
    Client client(server);
    client.send(request + get_request("/after"));
    const Answer refused = client.read();
    EXPECT_EQ(refused.status, 403);
    EXPECT_FALSE(refused.fields.contains("connection"));
    EXPECT_EQ(client.read().body, "this is /after");
  }
  EXPECT_FALSE(server.toy.has_seen("/smuggled"));
}

TEST_P(ServerTest, ClosesBehindARefusedBodyThatIsStillComing) {
  TestServer server(loops());
  const std::string body = std::string(300'000, 'a') + kSmuggled;
  for (const std::string& request :
       {post_request("/refuse", body), chunked_request("/refuse", "493e0\r\n" + body + "\r\n0\r\n\r\n")}) {
    Client client(server);
    client.send(std::string_view(request).substr(0, 1000));
    const Answer refused = client.read();
    EXPECT_EQ(refused.status, 403);
    EXPECT_EQ(refused.fields.at("connection"), "close");
    client.send(std::string_view(request).substr(1000));
    EXPECT_TRUE(client.is_at_end());
  }
  EXPECT_FALSE(server.toy.has_seen("/smuggled"));
}

// A client that only reads when it has sent all must still find the answer, not a reset.
TEST_P(ServerTest, ListensOnSoThatARefusalArrives) {
  TestServer server(loops());
  Client client(server);
  EXPECT_TRUE(client.send(post_request("/refuse", std::string(20'000'000, 'a'))));
  EXPECT_EQ(client.read().status, 403);
  EXPECT_TRUE(client.is_at_clean_end());
}

TEST_P(ServerTest, NeverExecutesABodyThatItsSinkRefused) {
  TestServer server(loops());
  for (const std::string path : {"/full", "/throw-in-body"}) {
    for (const std::string& request :
         {post_request(path, kSmuggled), post_request(path, kSmuggled + kSmuggled),
          chunked_request(path, "5\r\nhello\r\n3\r\nabc\r\n0\r\n\r\n"),
          // Fed from the start again, the first chunk would seem to end before the third, which looks like the last.
          chunked_request(path, "a\r\n5\r\nhello\r\n\r\n5\r\n0\r\n\r\n\r\n" + kSmuggled)}) {
      Client client(server);
      const Answer answer = client.request(request + kSmuggled);
      EXPECT_EQ(answer.status, path == "/full" ? 413 : 500);
      EXPECT_EQ(answer.fields.at("connection"), "close");
      EXPECT_TRUE(client.is_at_end());
    }
  }
  EXPECT_FALSE(server.toy.has_seen("/smuggled"));
}

TEST_P(ServerTest, RefusesAMalformedBodyAndCloses) {
  TestServer server(loops());
  for (const std::string path : {"/echo", "/refuse"}) {
    Client client(server);
    const Answer answer = client.request(chunked_request(path, "+5\r\nhello\r\n0\r\n\r\n" + kSmuggled));
    EXPECT_EQ(answer.status, path == "/echo" ? 400 : 403);
    EXPECT_EQ(answer.fields.at("connection"), "close");
    EXPECT_TRUE(client.is_at_end());
  }
  EXPECT_FALSE(server.toy.has_seen("/smuggled"));
}

// ---- Expect: 100-continue ----

constexpr const char* kExpect = "Expect: 100-continue\r\n";

TEST_P(ServerTest, AsksForABodyThatTheClientHoldsBack) {
  TestServer server(loops());
  Client client(server);
  for (const std::string& request :
       {post_request("/echo", "hello", kExpect), chunked_request("/echo", "5\r\nhello\r\n0\r\n\r\n", kExpect)}) {
    const std::size_t body = request.find("\r\n\r\n") + 4;
    client.send(std::string_view(request).substr(0, body));
    EXPECT_EQ(client.read().head, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send(std::string_view(request).substr(body));
    const Answer answer = client.read();
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.body, "hello");
  }
}

TEST_P(ServerTest, RefusesBeforeTheBodyWithoutAskingForIt) {
  TestServer server(loops());
  Client client(server);
  client.send("POST /refuse HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
  const Answer answer = client.read();
  EXPECT_EQ(answer.status, 403) << "no 100 before it";
  EXPECT_EQ(answer.fields.at("connection"), "close") << "whether the body comes now is not known";
  client.send(kSmuggled);
  EXPECT_TRUE(client.is_at_end());
  EXPECT_FALSE(server.toy.has_seen("/smuggled"));
}

TEST_P(ServerTest, DoesNotAskForABodyThatComesAnyway) {
  TestServer server(loops());
  Client client(server);
  EXPECT_EQ(client.request(post_request("/echo", "hello", kExpect)).status, 200);
  EXPECT_EQ(client.request(post_request("/echo", "", kExpect)).status, 200);
  EXPECT_EQ(client.request(get_request("/a", kExpect)).status, 200);
}

// ---- versions and methods ----

TEST_P(ServerTest, SpeaksHttp10) {
  TestServer server(loops());
  Client client(server);
  const Answer kept = client.request("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_EQ(kept.body, "this is /a");
  EXPECT_EQ(kept.fields.at("connection"), "keep-alive");
  const Answer last = client.request("GET /b HTTP/1.0\r\n\r\n" + kSmuggled);
  EXPECT_EQ(last.body, "this is /b");
  EXPECT_EQ(last.fields.at("connection"), "close");
  EXPECT_TRUE(client.is_at_end());
  EXPECT_FALSE(server.toy.has_seen("/smuggled"));
}

TEST_P(ServerTest, SendsNoBodyToHead) {
  TestServer server(loops());
  server.toy.file = {file_of("0123456789"), 2, 5};
  Client client(server);
  for (const std::string path : {"/hello", "/file", "/follow", "/refuse"}) {
    client.send("HEAD " + path + " HTTP/1.1\r\nHost: h\r\n\r\n");
    const Answer answer = client.read(true);
    EXPECT_TRUE(answer.fields.contains("content-length") || answer.fields.contains("transfer-encoding")) << path;
  }
  EXPECT_EQ(client.get("/after").body, "this is /after");
}

TEST_P(ServerTest, SendsNoBodyWithAStatusThatHasNone) {
  TestServer server(loops());
  Client client(server);
  for (const std::string path : {"/empty", "/not-modified"}) {
    const Answer answer = client.get(path);
    EXPECT_FALSE(answer.fields.contains("content-length")) << path;
    EXPECT_FALSE(answer.fields.contains("transfer-encoding")) << path;
  }
  EXPECT_EQ(client.get("/after").body, "this is /after");
}

// ---- bugs behind it ----

TEST_P(ServerTest, TurnsAnExceptionIntoA500) {
  TestServer server(loops());
  Client client(server);
  const Answer answer = client.get("/throw");
  EXPECT_EQ(answer.status, 500);
  EXPECT_TRUE(answer.body.starts_with("Internal error in request ")) << answer.body;
  EXPECT_EQ(answer.body.find("bug"), std::string::npos) << "what went wrong is for the log";
  EXPECT_EQ(client.get("/after").body, "this is /after");
}

TEST_P(ServerTest, NeverSendsAFieldThatWouldSplitTheResponse) {
  TestServer server(loops());
  Client client(server);
  const Answer answer = client.get("/split");
  EXPECT_EQ(answer.status, 500);
  EXPECT_FALSE(answer.fields.contains("x-name"));
  EXPECT_FALSE(answer.fields.contains("set-cookie"));
  EXPECT_EQ(server.toy.wait_for_report(1).status, 500);
  EXPECT_EQ(client.get("/after").body, "this is /after");
}

// ---- who is asking ----

TEST_P(ServerTest, BelievesTrustedProxiesAboutTheClient) {
  ServerOptions options;
  options.trusted_proxies = {"127.0.0.0/8"};
  TestServer server(loops(), options);
  Client client(server);
  client.request(get_request("/a", "X-Forwarded-For: 198.51.100.7, 192.0.2.1\r\n"));
  EXPECT_EQ(server.toy.wait_for_report(1).client_address, "192.0.2.1");
  client.get("/b");
  EXPECT_EQ(server.toy.wait_for_report(2).client_address, "127.0.0.1") << "the log tells at least the peer";
  // HAProxy adds a field of its own behind the one that the client wrote.
  client.request(get_request("/c", "X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-For: 192.0.2.1\r\n"));
  EXPECT_EQ(server.toy.wait_for_report(3).client_address, "192.0.2.1");
}

// ---- many at once ----

TEST_P(ServerTest, ServesManyConnectionsAtATime) {
  constexpr int kClients = 8;
  constexpr int kRounds = 30;
  TestServer server(loops());
  server.toy.file = {file_of(std::string(100'000, 'f')), 0, 100'000};
  std::vector<std::thread> threads;
  for (int i = 0; i < kClients; ++i) {
    threads.emplace_back([&server, i] {
      for (int round = 0; round < kRounds; ++round) {
        Client client(server);
        const std::string content(static_cast<std::size_t>(round * 1000 + i), 'x');
        EXPECT_EQ(client.request(post_request("/echo", content)).body, content);
        EXPECT_EQ(client.get("/file").body.size(), 100'000u);
        if (round % 3 == 0) client.send("GET /half");  // leaves in the middle of a head
        if (round % 3 == 1) client.send(get_request("/file"));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(eventually([&] { return server.connections() == 0; }));
}

}  // namespace
}  // namespace sluice::http
