// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "http/server.h"
#include "http/server_fixture_test.h"

// Bodies out of files: at rest, and growing.
namespace sluice::http {
namespace {

using Ending = GrowingFile::Ending;

class ServerBodyTest : public ServerTest {};
INSTANTIATE_TEST_SUITE_P(Loops, ServerBodyTest, loop_counts(), loop_count_name);

TEST_P(ServerBodyTest, SendsAPartOfAFile) {
  TestServer server(loops());
  Client client(server);
  for (const auto& [offset, length, expected] : std::vector<std::tuple<std::uint64_t, std::uint64_t, std::string>>{
           {0, 10, "0123456789"}, {2, 5, "23456"}, {9, 1, "9"}, {4, 0, ""}}) {
    server.toy.file = {file_of("0123456789"), offset, length};
    const Answer answer = client.get("/file");
    EXPECT_EQ(answer.body, expected);
    EXPECT_EQ(answer.fields.at("content-length"), std::to_string(length));
  }
}

// Where the way of sending changes: with the head in one call, in one packet with it, by itself.
TEST_P(ServerBodyTest, SendsFilesOfEverySize) {
  TestServer server(loops());
  Client client(server);
  std::uint32_t number = 0;
  for (const std::size_t size : {2047U, 2048U, 2049U, 32768U, 32769U}) {
    std::string content;
    for (std::size_t i = 0; i < size; ++i) content += static_cast<char>('a' + i % 23);
    server.toy.file = {file_of(content), 0, size};
    EXPECT_EQ(client.get("/file").body, content);
    EXPECT_EQ(server.toy.wait_for_report(++number).bytes_sent, size);
  }
}

TEST_P(ServerBodyTest, SendsAFileLargerThanAnyBuffer) {
  constexpr std::uint64_t kSize = 30'000'000;
  TestServer server(loops());
  server.toy.file = {file_of_zeros(kSize), 0, kSize};
  Client client(server);
  EXPECT_EQ(client.get("/file").body.size(), kSize);
  EXPECT_EQ(client.get("/after").body, "this is /after");
  EXPECT_EQ(server.toy.wait_for_report(1).bytes_sent, kSize);
}

TEST_P(ServerBodyTest, BreaksOffWhenAFileIsShorterThanPromised) {
  TestServer server(loops());
  server.toy.file = {file_of("0123456789"), 0, 20};
  Client client(server);
  const Answer answer = client.get("/file");
  EXPECT_EQ(answer.status, 200);
  EXPECT_FALSE(answer.is_whole);
  EXPECT_FALSE(server.toy.wait_for_report(1).completed);
}

// ---- a growing file ----

TEST_P(ServerBodyTest, FollowsAFileOfUnknownLengthInChunks) {
  TestServer server(loops());
  Client client(server);
  client.send(get_request("/follow"));
  EXPECT_EQ(client.read_head().fields.at("transfer-encoding"), "chunked");
  for (const std::string piece : {"first", "second", "x"}) {
    EXPECT_TRUE(eventually([&] { return server.toy.script.has_sleeper(); }));
    server.toy.script.append(piece);
    const std::string chunk = std::to_string(piece.size()) + "\r\n" + piece + "\r\n";
    EXPECT_EQ(client.read_bytes(chunk.size()), chunk) << "sent as it comes";
  }
  server.toy.script.end(Ending::kWhole);
  EXPECT_EQ(client.read_bytes(5), "0\r\n\r\n");
  EXPECT_EQ(client.get("/after").body, "this is /after");
  EXPECT_EQ(server.toy.script.followers(), 0);
}

TEST_P(ServerBodyTest, FollowsAFileOfKnownLength) {
  TestServer server(loops());
  server.toy.follow_offset = 2;
  server.toy.follow_length = 6;
  server.toy.script.append("0123");
  Client client(server);
  client.send(get_request("/follow"));
  EXPECT_EQ(client.read_head().fields.at("content-length"), "6");
  EXPECT_EQ(client.read_bytes(2), "23");
  EXPECT_TRUE(eventually([&] { return server.toy.script.has_sleeper(); }));
  server.toy.script.append("456789");
  EXPECT_EQ(client.read_bytes(4), "4567");
  EXPECT_EQ(client.get("/after").body, "this is /after") << "the body is over before the file has ended";
}

TEST_P(ServerBodyTest, SendsAGrowingFileThatHasAlreadyEnded) {
  TestServer server(loops());
  server.toy.script.append("whole");
  server.toy.script.end(Ending::kWhole);
  Client client(server);
  const Answer answer = client.get("/follow");
  EXPECT_EQ(answer.body, "whole");
  EXPECT_TRUE(answer.is_whole);
  server.toy.follow_offset = 99;
  const Answer beyond = client.get("/follow");
  EXPECT_EQ(beyond.body, "");
  EXPECT_TRUE(beyond.is_whole);
}

TEST_P(ServerBodyTest, NeverEndsABrokenFileCleanly) {
  for (const bool knows_length : {false, true}) {
    TestServer server(loops());
    if (knows_length) server.toy.follow_length = 100;
    server.toy.script.append("the beginning");
    Client client(server);
    client.send(get_request("/follow"));
    EXPECT_TRUE(eventually([&] { return server.toy.script.has_sleeper(); }));
    server.toy.script.end(Ending::kBroken);
    const Answer answer = client.read();
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.body.substr(0, 13), "the beginning");
    EXPECT_FALSE(answer.is_whole) << "known length: " << knows_length;
    EXPECT_TRUE(client.is_at_end());
    EXPECT_FALSE(server.toy.wait_for_report(1).completed);
  }
}

TEST_P(ServerBodyTest, BreaksOffWhenAWholeFileIsShorterThanPromised) {
  TestServer server(loops());
  server.toy.follow_length = 100;
  server.toy.script.append("too little");
  server.toy.script.end(Ending::kWhole);
  Client client(server);
  client.send(get_request("/follow") + get_request("/smuggled"));
  const Answer answer = client.read();
  EXPECT_EQ(answer.body, "too little") << "another answer must not fill it up";
  EXPECT_FALSE(answer.is_whole);
  EXPECT_FALSE(server.toy.wait_for_report(1).completed);
}

TEST_P(ServerBodyTest, BreaksOffWhenAFileCannotBeFollowed) {
  TestServer server(loops());
  server.toy.script.fail();
  Client client(server);
  EXPECT_FALSE(client.get("/follow").is_whole);
  EXPECT_EQ(Client(server).get("/after").body, "this is /after");
}

TEST_P(ServerBodyTest, EndsAWholeFileForHttp10WithTheConnection) {
  TestServer server(loops());
  server.toy.script.append("abc");
  Client client(server);
  client.send("GET /follow HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_TRUE(eventually([&] { return server.toy.script.has_sleeper(); }));
  server.toy.script.append("def");
  server.toy.script.end(Ending::kWhole);
  const Answer answer = client.read();
  EXPECT_EQ(answer.fields.at("connection"), "close");
  EXPECT_FALSE(answer.fields.contains("transfer-encoding"));
  EXPECT_EQ(answer.body, "abcdef") << "no chunks";
  EXPECT_TRUE(answer.is_whole);
}

TEST_P(ServerBodyTest, ResetsTheConnectionWhenAFileBreaksOffForHttp10) {
  TestServer server(loops());
  server.toy.script.append("abc");
  Client client(server);
  client.send("GET /follow HTTP/1.0\r\n\r\n");
  EXPECT_TRUE(eventually([&] { return server.toy.script.has_sleeper(); }));
  server.toy.script.end(Ending::kBroken);
  EXPECT_FALSE(client.read().is_whole) << "a clean end would make it look whole";
}

TEST_P(ServerBodyTest, NeverEndsABodyForHttp10CleanlyWhenItIsCut) {
  ServerOptions options;
  options.write_timeout = milliseconds(50);
  TestServer server(loops(), options);
  server.toy.script.append(std::string(30'000'000, 'a'));  // more than buffers hold
  Client not_taking(server, 4096);
  not_taking.send("GET /follow HTTP/1.0\r\n\r\n");
  EXPECT_FALSE(server.toy.wait_for_report(1).completed);
  EXPECT_TRUE(eventually([&] { return server.connections() == 0; }));
  EXPECT_FALSE(not_taking.read().is_whole);
}

TEST_P(ServerBodyTest, NeverEndsABodyForHttp10CleanlyWhenTheServerDoes) {
  TestServer server(loops());
  Client client(server);
  client.send("GET /follow HTTP/1.0\r\n\r\n");
  EXPECT_EQ(client.read_head().status, 200);
  EXPECT_TRUE(eventually([&] { return server.toy.script.has_sleeper(); }));
  server.server().abort();
  EXPECT_TRUE(client.is_reset());
}

TEST_P(ServerBodyTest, ForgetsAFollowerWhoseClientLeaves) {
  TestServer server(loops());
  Client client(server);
  client.send(get_request("/follow"));
  EXPECT_TRUE(eventually([&] { return server.toy.script.has_sleeper(); }));
  EXPECT_EQ(server.toy.script.followers(), 1);
  client.leave();
  EXPECT_FALSE(server.toy.wait_for_report(1).completed);
  EXPECT_TRUE(eventually([&] { return server.toy.script.followers() == 0 && server.connections() == 0; }));
}

TEST_P(ServerBodyTest, FollowsWhileOthersWrite) {
  TestServer server(loops());
  Client client(server);
  client.send(get_request("/follow"));
  std::string expected;
  std::thread writer([&] {
    for (int i = 0; i < 2000; ++i) {
      const std::string piece = std::to_string(i) + " ";
      server.toy.script.append(piece);
      expected += piece;
    }
    server.toy.script.end(Ending::kWhole);
  });
  const Answer answer = client.read();
  writer.join();
  EXPECT_TRUE(answer.is_whole);
  EXPECT_EQ(answer.body, expected);
}

}  // namespace
}  // namespace sluice::http
