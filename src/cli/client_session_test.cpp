// SPDX-License-Identifier: Apache-2.0
// `put` and `get` whole, against a server that answers each connection from a script.
#include "cli/client_session.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <future>
#include <map>
#include <optional>
#include <system_error>
#include <thread>

#include "base/file_system.h"
#include "base/temporary_directory_test.h"
#include "cli/get.h"
#include "cli/put.h"

namespace sluice::cli {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

constexpr std::size_t kWholeBody = ~std::size_t{0};

struct Answer {
  std::string reply;                         // raw; empty: closes without a word
  std::size_t reads = kWholeBody;            // of the body, before it replies; the rest stays unread: a reset
  bool says_continue = true;                 // to Expect: 100-continue
  std::function<void()> when_asked = [] {};  // the head has arrived
  std::function<void()> when_closed = [] {};
};

struct Asked {
  std::string head;
  std::string body;  // as it came, chunks and all
};

/// One connection after the other, each with one request and the next answer.
class ScriptedServer {
 public:
  explicit ScriptedServer(std::vector<Answer> script) : script_(std::move(script)) {
    sockaddr_in address{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    if (::bind(listener_.get(), generic, size) != 0 || ::listen(listener_.get(), 8) != 0 ||
        ::getsockname(listener_.get(), generic, &size) != 0) {
      throw std::system_error(errno, std::generic_category(), "listen");
    }
    url_ = fmt::format("http://127.0.0.1:{}", ntohs(address.sin_port));
    thread_ = std::thread([this] { serve(); });
  }
  ~ScriptedServer() { asked(); }

  const std::string& url() const { return url_; }

  /// All that was asked. Afterwards nobody is answered any more.
  const std::vector<Asked>& asked() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    if (thread_.joinable()) thread_.join();
    return asked_;
  }

 private:
  void serve() {
    for (const Answer& answer : script_) {
      FileDescriptor connection(::accept(listener_.get(), nullptr, nullptr));
      if (!connection) return;
      serve(connection.get(), answer);
      connection.reset();
      answer.when_closed();
    }
  }

  void serve(int connection, const Answer& answer) {
    Asked& asked = asked_.emplace_back();
    std::string text;
    while (text.find("\r\n\r\n") == std::string::npos) {
      if (!receive(connection, text)) return;
    }
    const std::size_t end = text.find("\r\n\r\n") + 4;
    asked.head = text.substr(0, end);
    asked.body = text.substr(end);
    answer.when_asked();
    if (asked.head.find("Expect: 100-continue") != std::string::npos && answer.says_continue) {
      send(connection, "HTTP/1.1 100 Continue\r\n\r\n");
    }
    while (asked.body.size() < answer.reads && !is_whole(asked) && receive(connection, asked.body)) continue;
    send(connection, answer.reply);
  }

  static bool receive(int connection, std::string& text) {
    std::array<char, 16384> buffer;
    const ssize_t count = ::recv(connection, buffer.data(), buffer.size(), 0);
    if (count > 0) text.append(buffer.data(), static_cast<std::size_t>(count));
    return count > 0;
  }
  static void send(int connection, std::string_view text) {
    while (!text.empty()) {
      const ssize_t count = ::send(connection, text.data(), text.size(), MSG_NOSIGNAL);
      if (count <= 0) return;
      text.remove_prefix(static_cast<std::size_t>(count));
    }
  }
  static bool is_whole(const Asked& asked) {
    if (asked.head.find("chunked") != std::string::npos) return asked.body.ends_with("0\r\n\r\n");
    constexpr std::string_view kLength = "Content-Length: ";
    const std::size_t at = asked.head.find(kLength);
    return at == std::string::npos || asked.body.size() >= std::stoul(asked.head.substr(at + kLength.size()));
  }

  const std::vector<Answer> script_;
  const FileDescriptor listener_{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  std::string url_;
  std::vector<Asked> asked_;
  std::thread thread_;
};

Answer reply(std::string_view status, std::string_view fields, std::string_view body) {
  return {.reply = fmt::format("HTTP/1.1 {}\r\n{}\r\n{}", status, fields, body)};
}
Answer refuse(std::string_view status, std::string_view errcode, std::string_view fields = "") {
  const std::string body = fmt::format(R"({{"errcode":"{}","error":"because"}})", errcode);
  return reply(status, fmt::format("Content-Length: {}\r\n{}", body.size(), fields), body);
}
Answer created() { return reply("200 OK", "Content-Length: 39\r\n", R"({"content_uri":"mxc://example.org/abc"})"); }
Answer stored() { return reply("200 OK", "Content-Length: 2\r\n", "{}"); }
Answer not_yet() { return refuse("504 Gateway Timeout", "M_NOT_YET_UPLOADED"); }
/// The beginning of a content of ten bytes; the connection ends before the rest.
Answer beginning(std::string_view bytes, std::string_view etag_field = "ETag: \"a\"\r\n") {
  return reply("200 OK", fmt::format("Content-Length: 10\r\n{}", etag_field), bytes);
}
Answer rest(std::string_view range, std::string_view bytes) {
  return reply("206 Partial Content", fmt::format("Content-Length: {}\r\nContent-Range: {}\r\n", bytes.size(), range),
               bytes);
}

/// The time goes on only when somebody sleeps.
class SleepingClock final : public Clock {
 public:
  WallTime now() const override { return WallTime{}; }
  SteadyTime steady() const override { return time_; }
  void sleep(Milliseconds time) { time_ += time; }

 private:
  SteadyTime time_{};
};

std::string contents_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class ClientTest : public testing::Test {
 protected:
  ClientTest() {
    environment_.variable = [this](const char* name) -> std::optional<std::string> {
      const auto found = variables_.find(name);
      return found == variables_.end() ? std::nullopt : std::optional(found->second);
    };
    environment_.token_file = directory_ / "token";
    environment_.output = output_.get();
    environment_.diagnostics = diagnostics_.get();
    environment_.clock = clock_;
    environment_.sleep = [this](Milliseconds time) {
      sleeps_.push_back(time);
      clock_->sleep(time);
    };
  }

  std::string printed() const { return contents_of(directory_ / "output"); }
  std::string said() const { return contents_of(directory_ / "diagnostics"); }
  std::string got() const { return contents_of(directory_ / "got"); }

  void start(std::vector<Answer> script) { server_.emplace(std::move(script)); }
  const std::vector<Asked>& asked() { return server_->asked(); }

  int get(GetOptions options = {}) {
    if (options.mxc.empty()) options.mxc = "mxc://example.org/abc";
    if (options.output.empty()) options.output = directory_ / "got";
    if (options.server.empty()) options.server = server_->url();
    return cli::get(options, environment_);
  }
  int put(const std::string& content) {
    std::ofstream(directory_ / "cat.jpg") << content;
    return cli::put({.file = directory_ / "cat.jpg", .server = server_->url(), .token = "secret"}, environment_);
  }
  int put_standard_input() { return cli::put({.file = "-", .server = server_->url()}, environment_); }

  TemporaryDirectory directory_;
  std::map<std::string, std::string> variables_;
  std::shared_ptr<SleepingClock> clock_ = std::make_shared<SleepingClock>();
  std::vector<Milliseconds> sleeps_;
  ClientEnvironment environment_;
  std::optional<ScriptedServer> server_;

 private:
  FileDescriptor open(const std::string& name) const {
    return FileDescriptor(::open((directory_ / name).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  }
  const FileDescriptor output_ = open("output");
  const FileDescriptor diagnostics_ = open("diagnostics");
};

// ---- get ----

TEST_F(ClientTest, GetResumesWhereTheConnectionBrokeOff) {
  start({beginning("0123"), rest("bytes 4-9/10", "456789")});
  EXPECT_EQ(get(), 0) << said();
  EXPECT_EQ(got(), "0123456789");
  EXPECT_THAT(asked()[0].head, Not(HasSubstr("Range:")));
  EXPECT_THAT(asked()[1].head, HasSubstr("Range: bytes=4-\r\nIf-Range: \"a\"\r\n"));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "got.part"));
}

TEST_F(ClientTest, GetStartsOverWhenTheContentIsSentFromItsBeginning) {
  start({beginning("0123"), beginning("ABCDEFGHIJ", "ETag: \"b\"\r\n")});
  EXPECT_EQ(get(), 0) << said();
  EXPECT_EQ(got(), "ABCDEFGHIJ");
}

TEST_F(ClientTest, GetStartsOverWhereThereIsNoStrongETag) {
  start({beginning("0123", "ETag: W/\"a\"\r\n"), beginning("0123456789", "")});
  EXPECT_EQ(get(), 0) << said();
  EXPECT_EQ(got(), "0123456789");
  EXPECT_THAT(asked()[1].head, Not(HasSubstr("Range:")));
}

TEST_F(ClientTest, GetCannotTakeBackWhatIsOnStandardOutput) {
  start({beginning("0123"), beginning("ABCDEFGHIJ", "ETag: \"b\"\r\n")});
  EXPECT_EQ(get({.output = "-"}), 1);
  EXPECT_EQ(printed(), "0123");
  EXPECT_THAT(said(), HasSubstr("use -o FILE"));
}

TEST_F(ClientTest, GetNeverJoinsAnotherRangeThanItAskedFor) {
  start({beginning("0123"), rest("bytes 5-9/10", "56789")});
  EXPECT_EQ(get(), 1);
  EXPECT_THAT(said(), HasSubstr("another range"));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "got"));
  EXPECT_EQ(contents_of(directory_ / "got.part"), "0123");
}

TEST_F(ClientTest, GetOfUnknownLengthLearnsFromA416ThatItIsWhole) {
  start({reply("200 OK", "Transfer-Encoding: chunked\r\nETag: \"a\"\r\n", "4\r\n0123\r\n"),
         refuse("416 Range Not Satisfiable", "M_UNKNOWN", "Content-Range: bytes */4\r\n")});
  EXPECT_EQ(get(), 0) << said();
  EXPECT_EQ(got(), "0123");
}

TEST_F(ClientTest, GetGivesUpAfterTenTriesWithoutProgress) {
  std::vector<Answer> script = {beginning("0123")};
  script.resize(12, Answer{.reply = ""});
  start(std::move(script));
  EXPECT_EQ(get(), 1);
  EXPECT_EQ(asked().size(), 11u);
  EXPECT_THAT(said(), HasSubstr("gave up after 10 tries"));
}

TEST_F(ClientTest, GetWaitsForAnUploadThatHasNotBegun) {
  start({not_yet(), not_yet(), beginning("0123456789")});
  EXPECT_EQ(get(), 0) << said();
  EXPECT_EQ(got(), "0123456789");
  EXPECT_THAT(said(), StartsWith("waiting for the upload to begin\n"));
  EXPECT_THAT(asked()[0].head, HasSubstr("/_matrix/client/v1/media/download/example.org/abc?timeout_ms=20000 "));
}

TEST_F(ClientTest, GetWaitsNoLongerThanItWasTold) {
  start({not_yet(), not_yet(), not_yet(), not_yet()});
  EXPECT_EQ(get({.wait = milliseconds(1000)}), 1);
  EXPECT_THAT(said(), HasSubstr("within 1s; wait longer with --wait"));
  EXPECT_THAT(asked()[1].head, HasSubstr("timeout_ms=500 "));
  EXPECT_EQ(asked().size(), 3u);
}

TEST_F(ClientTest, GetHonoursRetryAfter) {
  start({refuse("429 Too Many Requests", "M_LIMIT_EXCEEDED", "Retry-After: 0\r\n"),
         refuse("503 Service Unavailable", "M_UNKNOWN", "Retry-After: 7\r\n"), beginning("0123456789")});
  EXPECT_EQ(get(), 0) << said();
  EXPECT_THAT(sleeps_, ElementsAre(milliseconds(0), milliseconds(7000)));
}

TEST_F(ClientTest, GetTellsWhatTheServerRefused) {
  start({refuse("404 Not Found", "M_NOT_FOUND")});
  EXPECT_EQ(get(), 1);
  EXPECT_THAT(said(), HasSubstr("M_NOT_FOUND: because (HTTP 404)"));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "got.part"));
}

TEST_F(ClientTest, GetTakesAFreeNameFromTheServer) {
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(directory_.path());
  std::ofstream("cat.jpg") << "mine";
  start({reply("200 OK", "Content-Length: 3\r\nContent-Disposition: inline; filename=\"../cat.jpg\"\r\n", "new")});
  const int code = cli::get({.mxc = "mxc://example.org/abc", .server = server_->url()}, environment_);
  std::filesystem::current_path(before);
  EXPECT_EQ(code, 0) << said();
  EXPECT_EQ(contents_of(directory_ / "cat.jpg"), "mine");
  EXPECT_EQ(contents_of(directory_ / "cat (1).jpg"), "new");
}

TEST_F(ClientTest, GetSaysAtOnceThatThereIsNoServer) {
  start({});
  asked();  // whose port nobody listens on from now on
  EXPECT_EQ(get(), 1);
  EXPECT_THAT(said(), HasSubstr("cannot reach " + server_->url()));
  EXPECT_THAT(sleeps_, IsEmpty());
}

// ---- put ----

TEST_F(ClientTest, PutPrintsTheUriBeforeItUploads) {
  std::string printed_before;
  Answer upload = stored();
  upload.when_asked = [&] { printed_before = printed(); };
  start({created(), upload});
  EXPECT_EQ(put("meow"), 0) << said();
  EXPECT_EQ(asked()[1].body, "meow");
  EXPECT_EQ(printed_before, "mxc://example.org/abc\n");
  EXPECT_THAT(asked()[0].head, StartsWith("POST /_matrix/media/v1/create HTTP/1.1\r\n"));
  EXPECT_EQ(asked()[0].body, "{}");
  const std::string& head = asked()[1].head;
  EXPECT_THAT(head, StartsWith("PUT /_matrix/media/v3/upload/example.org/abc?filename=cat.jpg HTTP/1.1\r\n"));
  EXPECT_THAT(head, HasSubstr("Content-Length: 4\r\n"));
  EXPECT_THAT(head, HasSubstr("Content-Type: image/jpeg\r\n"));
  EXPECT_THAT(head, HasSubstr("Authorization: Bearer secret\r\n"));
}

TEST_F(ClientTest, PutOfALargeFileLearnsOfARefusalBeforeItSendsTheBody) {
  Answer refusal = refuse("413 Content Too Large", "M_TOO_LARGE");
  refusal.says_continue = false;
  refusal.reads = 0;
  start({created(), refusal});
  EXPECT_EQ(put(std::string(2 << 20, 'x')), 1);
  EXPECT_THAT(asked()[1].body, IsEmpty());
  EXPECT_THAT(said(), HasSubstr("M_TOO_LARGE: because (HTTP 413)"));
}

TEST_F(ClientTest, PutTellsWhyItWasRefusedInTheMiddleOfTheBody) {
  Answer refusal = refuse("413 Content Too Large", "M_TOO_LARGE");
  refusal.reads = 100'000;  // what is unread then resets the connection behind the response
  start({created(), refusal});
  EXPECT_EQ(put(std::string(16 << 20, 'x')), 1);
  EXPECT_THAT(said(), HasSubstr("M_TOO_LARGE: because (HTTP 413)"));
  EXPECT_EQ(asked().size(), 2u);
}

TEST_F(ClientTest, PutTriesAgainWhenTheServerIsBrieflyUnable) {
  start({created(), refuse("503 Service Unavailable", "M_UNKNOWN"), stored()});
  EXPECT_EQ(put("meow"), 0) << said();
  EXPECT_EQ(asked()[1].body, "meow");
  EXPECT_EQ(asked()[2].body, "meow");
  EXPECT_THAT(asked()[2].head, HasSubstr("Expect: 100-continue"));
}

TEST_F(ClientTest, PutGivesUpAfterFiveTries) {
  std::vector<Answer> script = {created()};
  script.resize(8, Answer{.reply = ""});
  start(std::move(script));
  EXPECT_EQ(put("meow"), 1);
  EXPECT_THAT(said(), HasSubstr("gave up after 5 tries"));
  EXPECT_EQ(asked().size(), 6u);
}

TEST_F(ClientTest, PutFindsThatTheTryThatBrokeOffWasStored) {
  start({created(), Answer{.reply = ""}, refuse("409 Conflict", "M_CANNOT_OVERWRITE_MEDIA"),
         reply("200 OK", "Content-Length: 4\r\n", ""), rest("bytes 3-3/4", "w")});
  EXPECT_EQ(put("meow"), 0) << said();
  EXPECT_THAT(asked()[3].head, StartsWith("HEAD /_matrix/client/v1/media/download/example.org/abc?timeout_ms=0 "));
  EXPECT_THAT(asked()[4].head, HasSubstr("Range: bytes=3-\r\n"));
}

TEST_F(ClientTest, PutDoesNotTakeAnUploadThatStillHangsForAStoredOne) {
  start({created(), Answer{.reply = ""}, refuse("409 Conflict", "M_CANNOT_OVERWRITE_MEDIA"),
         reply("200 OK", "Content-Length: 4\r\n", ""),
         reply("206 Partial Content", "Content-Length: 1\r\nContent-Range: bytes 3-3/4\r\n", ""), stored()});
  EXPECT_EQ(put("meow"), 0) << said();
  EXPECT_EQ(asked().size(), 6u);
  EXPECT_EQ(asked()[5].body, "meow");
}

TEST_F(ClientTest, PutTakesNobodyElsesContentForItsOwn) {
  start({created(), Answer{.reply = ""}, refuse("409 Conflict", "M_CANNOT_OVERWRITE_MEDIA"),
         reply("200 OK", "Content-Length: 5\r\n", "")});
  EXPECT_EQ(put("meow"), 1);
  EXPECT_THAT(said(), HasSubstr("M_CANNOT_OVERWRITE_MEDIA"));
}

TEST_F(ClientTest, PutWaitsForAUriAsLongAsItIsAskedTo) {
  start({refuse("429 Too Many Requests", "M_LIMIT_EXCEEDED", "Retry-After: 3\r\n"), created(), stored()});
  EXPECT_EQ(put("meow"), 0) << said();
  EXPECT_THAT(sleeps_, ElementsAre(milliseconds(3000)));
  EXPECT_THAT(said(), HasSubstr("M_LIMIT_EXCEEDED: because (HTTP 429); trying again in 3s"));
}

TEST_F(ClientTest, PutDoesNotWaitForHours) {
  start({refuse("429 Too Many Requests", "M_LIMIT_EXCEEDED", "Retry-After: 7200\r\n")});
  EXPECT_EQ(put("meow"), 1);
  EXPECT_THAT(said(), HasSubstr("come back in 2h"));
  EXPECT_THAT(sleeps_, IsEmpty());
}

class ClientPipeTest : public ClientTest {
 protected:
  ClientPipeTest() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::system_error(errno, std::generic_category(), "pipe2");
    read_end_ = FileDescriptor(ends[0]);
    write_end_ = FileDescriptor(ends[1]);
    environment_.input = read_end_.get();
  }
  void give(std::string_view text) const {
    ASSERT_EQ(::write(write_end_.get(), text.data(), text.size()), std::ssize(text));
  }

  FileDescriptor read_end_;
  FileDescriptor write_end_;
};

TEST_F(ClientPipeTest, PutSendsStandardInputInChunksAsItComes) {
  Answer upload = stored();
  upload.when_asked = [this] {  // the request is under way before the first byte is there
    give("meow");
    write_end_.reset();
  };
  start({created(), upload});
  EXPECT_EQ(put_standard_input(), 0) << said();
  EXPECT_EQ(asked()[1].body, "4\r\nmeow\r\n0\r\n\r\n");
  EXPECT_THAT(asked()[1].head, StartsWith("PUT /_matrix/media/v3/upload/example.org/abc HTTP/1.1\r\n"));
  EXPECT_THAT(asked()[1].head, HasSubstr("Transfer-Encoding: chunked\r\n"));
  EXPECT_THAT(asked()[1].head, HasSubstr("Content-Type: application/octet-stream\r\n"));
}

TEST_F(ClientPipeTest, PutLearnsOfARefusalWhileStandardInputIsSilent) {
  give("meow");
  Answer refusal = refuse("413 Content Too Large", "M_TOO_LARGE");
  refusal.reads = 9;  // the one chunk that came
  start({created(), refusal});
  EXPECT_EQ(put_standard_input(), 1);
  EXPECT_THAT(said(), HasSubstr("M_TOO_LARGE: because (HTTP 413)"));
}

TEST_F(ClientPipeTest, PutCannotSendStandardInputTwice) {
  give("meow");
  start({created(), Answer{.reply = "", .reads = 9}});
  EXPECT_EQ(put_standard_input(), 1);
  EXPECT_THAT(said(), HasSubstr("standard input cannot be sent a second time"));
}

TEST_F(ClientPipeTest, PutTriesAgainWhileNothingOfStandardInputIsTaken) {
  Answer busy = refuse("503 Service Unavailable", "M_UNKNOWN");
  busy.says_continue = false;
  busy.reads = 0;
  give("meow");
  write_end_.reset();
  start({created(), busy, stored()});
  EXPECT_EQ(put_standard_input(), 0) << said();
  EXPECT_EQ(asked()[2].body, "4\r\nmeow\r\n0\r\n\r\n");
}

// ---- the session ----

TEST_F(ClientPipeTest, ARefusalIsNotLostInTheResetBehindIt) {
  std::promise<void> may_refuse;
  std::promise<void> is_reset;
  Answer refusal = refuse("413 Content Too Large", "M_TOO_LARGE");
  refusal.reads = 0;
  refusal.when_asked = [&] { may_refuse.get_future().wait(); };
  refusal.when_closed = [&] { is_reset.set_value(); };
  start({refusal});
  HttpRequest request{.method = "PUT", .path = "/", .upload = UploadBody{read_end_.get(), std::nullopt}};
  give("meow");
  // Once the client waits for the pipe, every tick follows a look at the connection. The refusal comes right after the
  // look that finds more in the pipe, so that the client's next act is to send.
  request.on_tick = [&, ticks = 0](std::uint64_t body_read) mutable {
    constexpr int kTicksUntilItWaits = 4;
    ticks += body_read == 4 ? 1 : 0;
    if (ticks == kTicksUntilItWaits && body_read == 4) give("purr");
    if (ticks == kTicksUntilItWaits + 1 && body_read == 4) {
      may_refuse.set_value();
      is_reset.get_future().wait();
    }
  };
  const HttpResponse response = ClientSession::open(server_->url(), "", environment_)->perform(request);
  EXPECT_EQ(describe_failure(response), "M_TOO_LARGE: because (HTTP 413)");
}

TEST_F(ClientTest, TheTokenIsTheOptionElseTheVariableElseTheFile) {
  std::ofstream(directory_ / "token") << "from-file\nsecond line";
  start({refuse("404 Not Found", "M_NOT_FOUND"), refuse("404 Not Found", "M_NOT_FOUND"),
         refuse("404 Not Found", "M_NOT_FOUND")});
  variables_["SLUICE_SERVER"] = server_->url() + "/";
  const GetOptions options{.mxc = "mxc://example.org/abc", .output = directory_ / "got"};
  cli::get(options, environment_);
  variables_["SLUICE_TOKEN"] = "from-variable";
  cli::get(options, environment_);
  get({.token = "from-option"});
  EXPECT_THAT(asked()[0].head, HasSubstr("Authorization: Bearer from-file\r\n"));
  EXPECT_THAT(asked()[1].head, HasSubstr("Authorization: Bearer from-variable\r\n"));
  EXPECT_THAT(asked()[2].head, HasSubstr("Authorization: Bearer from-option\r\n"));
}

TEST_F(ClientTest, TheTokenIsWhereTheServerWasToldToKeepIt) {
  std::ofstream(directory_ / "token") << "cannot be a token";
  std::filesystem::create_directory(directory_ / "elsewhere");
  std::ofstream(directory_ / "elsewhere/token") << "from-elsewhere\n";
  variables_["SLUICE_DATA_DIR"] = directory_ / "elsewhere";
  start({refuse("404 Not Found", "M_NOT_FOUND")});
  get();
  EXPECT_THAT(asked()[0].head, HasSubstr("Authorization: Bearer from-elsewhere\r\n"));
}

TEST_F(ClientTest, TheTokenFileIsForTheLocalServerOnly) {
  std::ofstream(directory_ / "token") << "cannot be a token";
  EXPECT_FALSE(ClientSession::open("http://127.0.0.1:1", "", environment_));
  for (const char* const foreign : {"http://sluice.invalid", "http://127.evil.invalid", "http://localhost.invalid"}) {
    EXPECT_TRUE(ClientSession::open(foreign, "", environment_)) << "the file was read for " << foreign;
  }
}

TEST_F(ClientTest, WhatCannotBeAServerAnUriOrATokenIsBadUsage) {
  for (const char* const server : {"localhost:8090", "ftp://localhost", "http://", "http://a b"}) {
    EXPECT_EQ(get({.server = server}), 2) << server;
  }
  EXPECT_EQ(get({.mxc = "abc", .server = "http://localhost"}), 2);
  EXPECT_EQ(get({.server = "http://localhost", .token = "two\r\nlines"}), 2);
}

}  // namespace
}  // namespace sluice::cli
