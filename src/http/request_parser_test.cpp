// SPDX-License-Identifier: Apache-2.0
#include "http/request_parser.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::http {
namespace {

using namespace std::string_literals;

constexpr std::size_t kWhole = std::string_view::npos;
constexpr std::size_t kPieces[] = {kWhole, 1, 2, 7, 100};

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

struct Reading {
  std::optional<Error> refusal;
  bool has_head = false;
  bool has_body_ended = false;
  RequestHead head;
  std::string body;
  std::string rest;           // not consumed
  std::size_t most_kept = 0;  // the most bytes that had to be fed again

  int status() const { return refusal ? refusal->http_status : has_body_ended ? 200 : 0; }
};

/// Feeds `input` in pieces, as a connection does: what was not consumed comes again with more behind it.
Reading read(std::string_view input, std::size_t piece_size = kWhole) {
  Reading reading;
  RequestParser parser;
  const RequestParser::Sink sink = [&reading](std::span<const std::byte> content) -> Result<> {
    reading.body.append(reinterpret_cast<const char*>(content.data()), content.size());
    return {};
  };
  while (!reading.refusal && !reading.has_body_ended && !input.empty()) {
    const std::string_view piece = input.substr(0, piece_size);
    input.remove_prefix(piece.size());
    reading.rest += piece;
    while (!reading.refusal && !reading.has_body_ended) {
      const auto consumed =
          reading.has_head ? parser.feed_body(bytes_of(reading.rest), sink) : parser.feed_head(bytes_of(reading.rest));
      if (!consumed) {
        reading.refusal = consumed.error();
        break;
      }
      EXPECT_LE(*consumed, reading.rest.size());
      reading.rest.erase(0, *consumed);
      if (!reading.has_head && parser.has_head()) {
        reading.has_head = true;
        reading.head = parser.take_head();
      } else if (*consumed == 0 || reading.rest.empty()) {
        break;
      }
      reading.has_body_ended = reading.has_head && parser.has_body_ended();
    }
    reading.most_kept = std::max(reading.most_kept, reading.rest.size());
  }
  reading.has_body_ended = reading.has_head && parser.has_body_ended();
  reading.rest += input;
  return reading;
}

struct Case {
  std::string name;
  std::string request;
  int status;
};

/// Whatever the pieces it comes in, the verdict is the same.
void expect_verdicts(const std::vector<Case>& cases) {
  for (const Case& one : cases) {
    for (const std::size_t piece_size : kPieces) {
      const Reading reading = read(one.request, piece_size);
      EXPECT_EQ(reading.status(), one.status)
          << one.name << " in pieces of " << piece_size << (reading.refusal ? ": " + reading.refusal->message : "");
    }
  }
}

std::string with_line(const std::string& line) { return line + "\r\nHost: h\r\n\r\n"; }
std::string with_target(const std::string& target) { return with_line("GET " + target + " HTTP/1.1"); }
std::string with_fields(const std::string& fields) { return "GET / HTTP/1.1\r\nHost: h\r\n" + fields + "\r\n"; }
std::string with_length(const std::string& length) { return with_fields("Content-Length: " + length + "\r\n"); }
std::string with_coding(const std::string& coding) {
  return with_fields("Transfer-Encoding: " + coding + "\r\n") + "0\r\n\r\n";
}
std::string with_host(const std::string& host) { return "GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n"; }
std::string chunked(const std::string& body) { return with_fields("Transfer-Encoding: chunked\r\n") + body; }

// ---- what a request is ----

TEST(RequestParser, ReadsAHead) {
  for (const std::size_t piece_size : kPieces) {
    const Reading reading = read(
        "PUT /a/b%20c?x=1 HTTP/1.1\r\nHost: example.org:8448\r\nContent-Type:  text/plain \t\r\nX-Empty:\r\n"
        "Content-Length: 3\r\n\r\nabcGET ",
        piece_size);
    ASSERT_EQ(reading.status(), 200) << piece_size;
    EXPECT_EQ(reading.head.method(), "PUT");
    EXPECT_EQ(reading.head.target(), "/a/b%20c?x=1");
    EXPECT_EQ(reading.head.host(), "example.org");
    EXPECT_EQ(reading.head.field("content-TYPE"), "text/plain");
    EXPECT_EQ(reading.head.field("X-Empty"), "");
    EXPECT_EQ(reading.head.field("X-Absent"), std::nullopt);
    EXPECT_EQ(reading.head.content_length(), 3u);
    EXPECT_TRUE(reading.head.has_body());
    EXPECT_TRUE(reading.head.wants_keep_alive());
    EXPECT_FALSE(reading.head.is_http_1_0());
    EXPECT_FALSE(reading.head.is_chunked());
    EXPECT_FALSE(reading.head.expects_continue());
    EXPECT_EQ(reading.body, "abc");
    EXPECT_EQ(reading.rest, "GET ") << "what follows belongs to the next request";
  }
}

TEST(RequestParser, ConsumesNothingBeyondARequestWithoutABody) {
  const std::string second = "GET /second HTTP/1.1\r\nHost: h\r\n\r\n";
  for (const std::string length : {"", "Content-Length: 0\r\n"}) {
    const Reading reading = read(with_fields(length) + second);
    EXPECT_EQ(reading.status(), 200);
    EXPECT_FALSE(reading.head.has_body());
    EXPECT_EQ(reading.rest, second);
  }
}

TEST(RequestParser, GivesTheFirstValueOfAFieldThatOccursMoreOften) {
  EXPECT_EQ(read(with_fields("X: one\r\nx: two\r\n")).head.field("X"), "one");
}

TEST(RequestParser, ReadsFromTheConnectionFieldWhetherToKeepAlive) {
  const auto keeps = [](const std::string& version, const std::string& fields) {
    return read("GET / HTTP/" + version + "\r\nHost: h\r\n" + fields + "\r\n").head.wants_keep_alive();
  };
  EXPECT_TRUE(keeps("1.1", ""));
  EXPECT_TRUE(keeps("1.1", "Connection: keep-alive\r\n"));
  EXPECT_FALSE(keeps("1.1", "Connection: close\r\n"));
  EXPECT_FALSE(keeps("1.1", "Connection: x, CLOSE\r\n"));
  EXPECT_FALSE(keeps("1.1", "Connection: keep-alive\r\nConnection: close\r\n"));
  EXPECT_FALSE(keeps("1.0", ""));
  EXPECT_TRUE(keeps("1.0", "Connection: Keep-Alive\r\n"));
}

TEST(RequestParser, TellsThatTheClientWaitsForContinue) {
  const std::string length = "Content-Length: 1\r\n";
  EXPECT_TRUE(read(with_fields(length + "Expect: 100-Continue\r\n")).head.expects_continue());
  EXPECT_FALSE(read(with_fields(length)).head.expects_continue());
  const Reading old = read("PUT / HTTP/1.0\r\nExpect: 100-continue\r\n" + length + "\r\n");
  EXPECT_TRUE(old.has_head);
  EXPECT_FALSE(old.head.expects_continue()) << "HTTP/1.0 knows no 100 (RFC 9110, section 10.1.1)";
}

// RFC 9110 section 7.8: a server may ignore Upgrade. Clients that offer h2c send it, and proxies that were set up for
// websockets put `Connection: upgrade` on everything.
TEST(RequestParser, IgnoresOffersToUpgrade) {
  const Reading reading =
      read(with_fields("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n"));
  EXPECT_EQ(reading.status(), 200);
  EXPECT_TRUE(reading.head.wants_keep_alive());
}

// RFC 9112 section 2.2: for clients that put a line end behind a body.
TEST(RequestParser, SkipsEmptyLinesBeforeARequest) {
  for (const std::size_t piece_size : kPieces) {
    const Reading reading = read("\r\n\r\n" + with_target("/a"), piece_size);
    EXPECT_EQ(reading.status(), 200) << piece_size;
    EXPECT_EQ(reading.head.target(), "/a");
  }
  std::string endless;
  for (std::size_t i = 0; i < kMaxHeadBytes; ++i) endless += "\r\n";
  expect_verdicts({{"endless", endless, 431}, {"line feeds", "\n\n" + with_target("/"), 400}});
  EXPECT_EQ(read("\r").status(), 0) << "the line feed may yet come";
}

TEST(RequestParser, FindsTheHost) {
  const auto host_of = [](const std::string& request) { return std::string(read(request).head.host()); };
  EXPECT_EQ(host_of(with_host("example.org")), "example.org");
  EXPECT_EQ(host_of(with_host("example.org:8448")), "example.org");
  EXPECT_EQ(host_of(with_host("[::1]:80")), "[::1]");
  EXPECT_EQ(host_of(with_host("[::1]")), "[::1]");
  EXPECT_EQ(host_of(with_host("")), "");
  EXPECT_EQ(host_of("GET / HTTP/1.0\r\n\r\n"), "");
  // RFC 9112 section 3.2.2: with an absolute-form target, Host counts for nothing.
  EXPECT_EQ(host_of("GET http://a:80/x HTTP/1.1\r\nHost: b\r\n\r\n"), "a");
}

TEST(RequestParser, TakesTheOriginFormOutOfAnAbsoluteTarget) {
  const auto target_of = [](const std::string& target) { return std::string(read(with_target(target)).head.target()); };
  EXPECT_EQ(target_of("http://h/a?b"), "/a?b");
  EXPECT_EQ(target_of("HTTPS://h:1/a"), "/a");
  EXPECT_EQ(target_of("http://h"), "/");
  EXPECT_EQ(target_of("http://h?q=/"), "/?q=/");
  EXPECT_EQ(target_of("*"), "*");
  EXPECT_EQ(target_of("/a://b"), "/a://b");
  EXPECT_EQ(target_of("//a/b"), "//a/b");
}

// ---- what two servers in a row could read differently ----

TEST(RequestParser, JudgesRequestLines) {
  expect_verdicts({
      {"plain", with_line("GET / HTTP/1.1"), 200},
      {"unknown method", with_line("BREW / HTTP/1.1"), 200},
      {"HTTP/1.0", with_line("GET / HTTP/1.0"), 200},
      {"HTTP/0.9", with_line("GET /"), 400},
      {"HTTP/1.2", with_line("GET / HTTP/1.2"), 400},
      {"HTTP/2.0", with_line("GET / HTTP/2.0"), 400},
      {"HTTP/1.10", with_line("GET / HTTP/1.10"), 400},
      {"HTTP/01.1", with_line("GET / HTTP/01.1"), 400},
      {"lower case version", with_line("GET / http/1.1"), 400},
      {"two spaces", with_line("GET  / HTTP/1.1"), 400},
      {"tabs", with_line("GET\t/\tHTTP/1.1"), 400},
      {"space before", with_line(" GET / HTTP/1.1"), 400},
      {"space behind", with_line("GET / HTTP/1.1 "), 400},
      {"no method", with_line(" / HTTP/1.1"), 400},
      {"method with a separator", with_line("G(T / HTTP/1.1"), 400},
      {"bare LF", "GET / HTTP/1.1\nHost: h\r\n\r\n", 400},
      {"bare CR", "GET / HTTP/1.1\rHost: h\r\n\r\n", 400},
      {"CR CR LF", "GET / HTTP/1.1\r\r\nHost: h\r\n\r\n", 400},
      {"space in the target", with_target("/a b"), 400},
      {"NUL in the target", with_target("/a\0b"s), 400},
      {"DEL in the target", with_target("/a\x7f"), 400},
      {"fragment", with_target("/a#b"), 400},
      {"fragment of an absolute target", with_target("http://h/a#b"), 400},
      {"no slash", with_target("health"), 400},
      {"query alone", with_target("?a"), 400},
      {"authority-form", with_line("CONNECT h:80 HTTP/1.1"), 400},
      {"no scheme", with_target("://h/a"), 400},
      {"another scheme", with_target("ftp://h/a"), 400},
      {"a longer scheme", with_target("httpss://h/a"), 400},
      {"scheme alone", with_target("http"), 400},
      {"absolute without a host", with_target("http:///a"), 400},
      {"absolute without anything", with_target("http://"), 400},
      {"absolute with a port alone", with_target("http://:80/a"), 400},
      {"absolute with user information", with_target("http://u@h/a"), 400},
      {"absolute with a backslash", with_target("http://h\\@g/a"), 400},
  });
}

TEST(RequestParser, JudgesFields) {
  expect_verdicts({
      {"no space behind the colon", with_fields("A:b\r\n"), 200},
      {"UTF-8 in a value", with_fields("A: \xc3\xa9\r\n"), 200},
      {"tab in a value", with_fields("A: b\tc\r\n"), 200},
      {"space before the colon", with_fields("A : b\r\n"), 400},
      {"tab before the colon", with_fields("A\t: b\r\n"), 400},
      {"space before the colon of a length", with_fields("Content-Length : 5\r\n") + "hello", 400},
      {"space before the first name", "GET / HTTP/1.1\r\n A: b\r\nHost: h\r\n\r\n", 400},
      {"no colon", with_fields("A\r\n"), 400},
      {"no name", with_fields(": b\r\n"), 400},
      {"separator in a name", with_fields("A/B: c\r\n"), 400},
      {"UTF-8 in a name", with_fields("\xc3\xa9: c\r\n"), 400},
      {"NUL in a name", with_fields("A\0: c\r\n"s), 400},
      {"NUL in a value", with_fields("A: b\0c\r\n"s), 400},
      {"control character in a value", with_fields("A: \x01\r\n"), 400},
      {"vertical tab before a coding", with_coding("\vchunked"), 400},
      {"bare LF behind a field", with_fields("A: b\nC: d\r\n"), 400},
      {"bare LF ends the head", "GET / HTTP/1.1\r\nHost: h\r\n\n\r\n\r\n", 400},
      {"bare CR in a value", with_fields("A: b\rc\r\n"), 400},
      {"CR CR LF", with_fields("A: b\r\r\n"), 400},
      {"folded with a space", with_fields("A: b\r\n c\r\n"), 400},
      {"folded with a tab", with_fields("A: b\r\n\tc\r\n"), 400},
      {"folded before the value", with_fields("Transfer-Encoding:\r\n chunked\r\n") + "0\r\n\r\n", 400},
      {"folded to nothing", with_fields("A: b\r\n \r\n"), 400},
      {"Connection of nonsense", with_fields("Connection: @\r\n"), 400},
      {"another expectation", with_fields("Expect: 200-ok\r\n"), 417},
  });
}

TEST(RequestParser, JudgesHosts) {
  expect_verdicts({
      {"empty", with_host(""), 200},
      {"none in HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", 200},
      {"none in HTTP/1.1", "GET / HTTP/1.1\r\n\r\n", 400},
      {"none beside an absolute target", "GET http://h/ HTTP/1.1\r\n\r\n", 400},
      {"twice", with_fields("Host: g\r\n"), 400},
      {"twice the same", with_fields("Host: h\r\n"), 400},
      {"twice in HTTP/1.0", "GET / HTTP/1.0\r\nHost: h\r\nHost: h\r\n\r\n", 400},
      {"a list", with_host("a, b"), 400},
      {"two words", with_host("a b"), 400},
      {"a path", with_host("a/b"), 400},
      {"user information", with_host("u@a"), 400},
      {"percent", with_host("a%2fb"), 400},
  });
}

TEST(RequestParser, JudgesContentLengths) {
  expect_verdicts({
      {"one number", with_length("5") + "hello", 200},
      {"white space around it", with_length("\t5 ") + "hello", 200},
      {"leading zeros", with_length("0005") + "hello", 200},
      {"incomplete", with_length("5") + "hell", 0},
      {"the largest", with_length("18446744073709551615"), 0},
      {"one more", with_length("18446744073709551616"), 400},
      {"many digits", with_length(std::string(100, '9')), 400},
      {"nothing", with_length(""), 400},
      {"plus", with_length("+5") + "hello", 400},
      {"minus", with_length("-5") + "hello", 400},
      {"minus nothing", with_length("-0"), 400},
      {"hexadecimal", with_length("0x5") + "hello", 400},
      {"letters", with_length("5a") + "hello", 400},
      {"fraction", with_length("5.0") + "hello", 400},
      {"two words", with_length("5 5") + "hello", 400},
      {"a list", with_length("5, 5") + "hello", 400},
      {"a list of nothing", with_length("5,") + "hello", 400},
      {"a list of two lengths", with_length("5,6") + "hello", 400},
      {"quoted", with_length("\"5\"") + "hello", 400},
      {"twice the same", with_fields("Content-Length: 5\r\nContent-Length: 5\r\n") + "hello", 400},
      {"twice", with_fields("Content-Length: 5\r\ncontent-length: 6\r\n") + "hello", 400},
      {"before a coding", with_fields("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n", 400},
      {"behind a coding", with_fields("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n") + "0\r\n\r\n", 400},
  });
}

TEST(RequestParser, JudgesTransferCodings) {
  expect_verdicts({
      {"chunked", with_coding("chunked"), 200},
      {"in capitals", with_coding("CHUNKED"), 200},
      {"tab behind", with_coding("chunked\t"), 200},
      {"white space around", with_coding(" \tchunked \t "), 200},
      {"empty", with_coding(""), 501},
      {"identity", with_coding("identity"), 501},
      {"gzip first", with_coding("gzip, chunked"), 501},
      {"gzip last", with_coding("chunked, gzip"), 501},
      {"chunked twice", with_coding("chunked, chunked"), 501},
      {"a list of one", with_coding("chunked,"), 501},
      {"comma first", with_coding(", chunked"), 501},
      {"a parameter", with_coding("chunked;q=1"), 501},
      {"quoted", with_coding("\"chunked\""), 501},
      {"letters before", with_coding("xchunked"), 501},
      {"letters behind", with_coding("chunkedx"), 501},
      {"two fields", with_fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n", 400},
      {"identity in a second field", with_fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), 400},
      {"identity in a first field", with_fields("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"), 501},
      {"in HTTP/1.0", "PUT / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {"another name", with_fields("Transfer_Encoding: chunked\r\n"), 200},
  });
}

TEST(RequestParser, JudgesChunks) {
  expect_verdicts({
      {"two chunks", chunked("5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"), 200},
      {"capitals", chunked("A\r\n0123456789\r\n0\r\n\r\n"), 200},
      {"leading zeros", chunked("0005\r\nhello\r\n000\r\n\r\n"), 200},
      {"extensions", chunked("5;a;b=c;d=\"e f\\\"\"\r\nhello\r\n0;g\r\n\r\n"), 200},
      {"white space before an extension", chunked("5 ; a = b\r\nhello\r\n0\r\n\r\n"), 200},
      {"trailers", chunked("5\r\nhello\r\n0\r\nX: y\r\nZ: w\r\n\r\n"), 200},
      {"no last chunk", chunked("5\r\nhello\r\n"), 0},
      {"no last line end", chunked("5\r\nhello\r\n0\r\n"), 0},
      {"plus", chunked("+5\r\nhello\r\n0\r\n\r\n"), 400},
      {"minus", chunked("-5\r\nhello\r\n0\r\n\r\n"), 400},
      {"0x", chunked("0x5\r\nhello\r\n0\r\n\r\n"), 400},
      {"0x on the last", chunked("5\r\nhello\r\n0x0\r\n\r\n"), 400},
      {"space before", chunked(" 5\r\nhello\r\n0\r\n\r\n"), 400},
      {"space behind", chunked("5 \r\nhello\r\n0\r\n\r\n"), 400},
      {"space behind the last", chunked("5\r\nhello\r\n0 \r\n\r\n"), 400},
      {"no digit", chunked("\r\nhello\r\n0\r\n\r\n"), 400},
      {"no digit but an extension", chunked(";a\r\nhello\r\n0\r\n\r\n"), 400},
      {"not a digit", chunked("g\r\nhello\r\n0\r\n\r\n"), 400},
      {"two numbers", chunked("5 5\r\nhello\r\n0\r\n\r\n"), 400},
      {"comma", chunked("5,5\r\nhello\r\n0\r\n\r\n"), 400},
      {"2^64", chunked("10000000000000000\r\nhello\r\n0\r\n\r\n"), 400},
      {"2^64 + 5", chunked("10000000000000005\r\nhello\r\n0\r\n\r\n"), 400},
      {"bare LF behind a size", chunked("5\nhello\r\n0\r\n\r\n"), 400},
      {"bare CR behind a size", chunked("5\rhello\r\n0\r\n\r\n"), 400},
      {"bare LF behind the data", chunked("5\r\nhello\n0\r\n\r\n"), 400},
      {"data too long", chunked("5\r\nhello!\r\n0\r\n\r\n"), 400},
      {"data too short", chunked("5\r\nhell\r\n0\r\n\r\n"), 400},
      {"extension without a name", chunked("5;\r\nhello\r\n0\r\n\r\n"), 400},
      {"extension without a value", chunked("5;a=\r\nhello\r\n0\r\n\r\n"), 400},
      {"extension not closed", chunked("5;a=\"b\r\nhello\r\n0\r\n\r\n\"\r\n\r\n"), 400},
      {"bare LF in an extension", chunked("5;\nhello\r\n0\r\n\r\n"), 400},
      {"bare LF in a quoted extension", chunked("5;a=\"\n\"\r\nhello\r\n0\r\n\r\n"), 400},
      {"bare LF quoted in an extension", chunked("5;a=\"\\\n\"\r\nhello\r\n0\r\n\r\n"), 400},
      {"NUL in a quoted extension", chunked("5;a=\"\0\"\r\nhello\r\n0\r\n\r\n"s), 400},
      {"bare LF in an extension of the last", chunked("5\r\nhello\r\n0;a=\"\n\"\r\n\r\n"), 400},
      {"length in the trailers", chunked("0\r\nContent-Length: 5\r\n\r\n"), 400},
      {"coding in the trailers", chunked("0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400},
      {"space before the colon of a trailer", chunked("0\r\nA : b\r\n\r\n"), 400},
      {"bare LF in the trailers", chunked("0\r\nA: b\nC: d\r\n\r\n"), 400},
  });
}

TEST(RequestParser, NeverTakesWordsOfTheTrailersForFieldsOfTheHead) {
  RequestParser parser;
  const std::string request = chunked("0\r\nExpect: 100-continue\r\nX: late\r\nHost: late\r\n\r\n");
  const auto head = parser.feed_head(bytes_of(request));
  ASSERT_TRUE(head);
  const auto body = parser.feed_body(bytes_of(request).subspan(*head), [](auto) { return Result<>(); });
  ASSERT_TRUE(body) << "trailers are ignored, whatever they hold";
  const RequestHead taken = parser.take_head();
  EXPECT_EQ(taken.field("X"), std::nullopt);
  EXPECT_EQ(taken.host(), "h");
  EXPECT_FALSE(taken.expects_continue());
}

// ---- limits ----

TEST(RequestParser, LimitsTheTarget) {
  const auto of_size = [](std::size_t size) { return with_target("/" + std::string(size - 1, 'a')); };
  expect_verdicts({{"longest", of_size(kMaxTargetBytes), 200}, {"one more", of_size(kMaxTargetBytes + 1), 414}});
}

TEST(RequestParser, LimitsTheHead) {
  const auto of_size = [](std::size_t size) {
    const std::size_t frame = with_fields("X: \r\n").size();
    return with_fields("X: " + std::string(size - frame, 'a') + "\r\n");
  };
  ASSERT_EQ(of_size(kMaxHeadBytes).size(), kMaxHeadBytes);
  expect_verdicts({
      {"longest", of_size(kMaxHeadBytes), 200},
      {"longest, and a body", of_size(kMaxHeadBytes) + std::string(kMaxHeadBytes, 'b'), 200},
      {"one more", of_size(kMaxHeadBytes + 1), 431},
      {"far more", of_size(10 * kMaxHeadBytes), 431},
      {"without an end", "GET / HTTP/1.1\r\nX: " + std::string(10 * kMaxHeadBytes, 'a'), 431},
      {"a method without an end", std::string(2 * kMaxHeadBytes, 'a'), 431},
  });
}

TEST(RequestParser, LimitsTheNumberOfFields) {
  const auto of_fields = [](std::size_t count) {
    std::string fields;
    for (std::size_t i = 1; i < count; ++i) fields += "X: y\r\n";
    return with_fields(fields);
  };
  expect_verdicts({{"most", of_fields(kMaxFields), 200}, {"one more", of_fields(kMaxFields + 1), 431}});
}

// What is not consumed has to be kept by whoever feeds: the frame of a chunk must not grow without end.
TEST(RequestParser, LimitsTheFrameOfAChunk) {
  const std::string much(kMaxChunkFrameBytes + 1, 'a');
  const std::vector<Case> cases = {
      {"extension", chunked("5;" + much + "\r\nhello\r\n0\r\n\r\n"), 400},
      {"extension without an end", chunked("5;" + much + much + much + much), 400},
      {"zeros", chunked(std::string(much.size(), '0') + "5\r\nhello\r\n0\r\n\r\n"), 400},
      {"trailers", chunked("0\r\nX: " + much + "\r\n\r\n"), 400},
      {"trailers without an end", chunked("0\r\nX: " + much + much + much + much), 400},
      {"many chunks", chunked([] {
         std::string chunks;
         for (std::size_t i = 0; i < kMaxChunkFrameBytes; ++i) chunks += "1\r\na\r\n";
         return chunks + "0\r\n\r\n";
       }()),
       200},
  };
  expect_verdicts(cases);
  for (const Case& one : cases) EXPECT_LE(read(one.request, 100).most_kept, kMaxChunkFrameBytes + 100) << one.name;
}

// ---- bodies ----

TEST(RequestParser, HandsABodyOnInOrderWhateverThePieces) {
  std::string content;
  for (int i = 0; i < 1000; ++i) content += std::to_string(i) + " ";
  std::string chunks;
  for (std::size_t at = 0, size = 1; at < content.size(); at += size, size = size % 97 + 1) {
    const std::string chunk = content.substr(at, size);
    char digits[20];
    std::snprintf(digits, sizeof digits, "%zx\r\n", chunk.size());
    chunks += digits + chunk + "\r\n";
  }
  for (const std::size_t piece_size : kPieces) {
    const Reading sized = read(with_length(std::to_string(content.size())) + content + "GET", piece_size);
    EXPECT_EQ(sized.body, content) << piece_size;
    EXPECT_EQ(sized.rest, "GET");
    const Reading unsized = read(chunked(chunks + "0\r\nX: y\r\n\r\nGET"), piece_size);
    EXPECT_EQ(unsized.body, content) << piece_size;
    EXPECT_TRUE(unsized.has_body_ended);
    EXPECT_EQ(unsized.rest, "GET");
  }
}

class RefusedBody : public testing::Test {
 protected:
  void begin(const std::string& request) {
    const auto consumed = parser_.feed_head(bytes_of(request));
    ASSERT_TRUE(consumed);
    ASSERT_TRUE(parser_.has_head());
    body_ = request.substr(*consumed);
  }
  Result<std::size_t> feed(const RequestParser::Sink& sink) { return parser_.feed_body(bytes_of(body_), sink); }

  static constexpr auto kTakesAll = [](std::span<const std::byte>) { return Result<>(); };
  RequestParser parser_;
  std::string body_;
};

TEST_F(RefusedBody, GivesTheSinksErrorAsItIs) {
  begin(with_length("5") + "hello");
  const auto refused = feed([](auto) -> Result<> { return fail::too_large("too much"); });
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error(), fail::too_large("too much").error());
  EXPECT_FALSE(parser_.has_body_ended());
}

// How much of it was consumed is not known any more, so whatever is fed next could be taken for something else.
TEST_F(RefusedBody, IsNeverReadOn) {
  const std::string next = "GET /next HTTP/1.1\r\nHost: h\r\n\r\n";
  for (const std::string& request :
       {with_length("5") + "hello" + next, chunked("5\r\nhello\r\n5\r\nhello\r\n0\r\n\r\n" + next)}) {
    parser_ = RequestParser();
    begin(request);
    ASSERT_FALSE(feed([](auto) -> Result<> { return fail::too_large("too much"); }));
    EXPECT_FALSE(feed(kTakesAll));
    EXPECT_FALSE(parser_.has_body_ended());
  }
}

TEST_F(RefusedBody, IsNeverReadOnAfterAnException) {
  begin(chunked("3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"));
  int slices = 0;
  const auto throws_at_second = [&slices](auto) -> Result<> {
    if (++slices == 2) throw std::runtime_error("the sink broke");
    return {};
  };
  EXPECT_THROW((void)feed(throws_at_second), std::runtime_error);
  EXPECT_FALSE(feed(kTakesAll));
  EXPECT_FALSE(parser_.has_body_ended());
}

TEST_F(RefusedBody, IsNeverReadOnWhenMalformed) {
  begin(chunked("x\r\nyz"));
  EXPECT_FALSE(feed(kTakesAll));
  body_ = "0\r\n\r\n";
  EXPECT_FALSE(feed(kTakesAll));
  EXPECT_FALSE(parser_.has_body_ended());
}

}  // namespace
}  // namespace sluice::http
