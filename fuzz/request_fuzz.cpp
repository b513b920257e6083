// SPDX-License-Identifier: Apache-2.0
// Input: a byte that says how to split, then what a client sends: requests, one behind the other. However it is split,
// the same heads and bodies are read, and nothing is read beyond a request's end.
#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/text.h"
#include "http/request_parser.h"
#include "require.h"

namespace {

using namespace sluice;
using namespace sluice::fuzz;
using http::RequestHead;
using http::RequestParser;

enum class Verdict { kIncomplete, kRefused, kComplete };

struct Message {
  Verdict verdict = Verdict::kIncomplete;
  bool has_head = false;
  std::string head;
  std::string body;
  std::size_t end = 0;  // where in the stream the next one begins

  bool operator==(const Message&) const = default;
};

/// The sizes of the pieces in which a stream arrives.
class Splitter {
 public:
  explicit Splitter(std::uint32_t seed) : state_(seed) {}
  std::size_t next() {
    if (state_ == 0) return SIZE_MAX;
    if (state_ == 1) return 1;
    state_ = state_ * 1664525u + 1013904223u;
    if (state_ < 2) state_ = 2;
    const std::uint32_t chance = state_ >> 16;
    return chance % 4 == 0 ? chance % 300 + 1 : chance % 7 + 1;
  }

 private:
  std::uint32_t state_;
};

/// Everything that the rest of the program sees of a head.
std::string describe(const RequestHead& head) {
  require(head.target().starts_with('/') || head.target() == "*");
  for (const std::string_view text : {head.method(), head.target(), head.host()}) {
    require(!has_control_characters(text) && text.find(' ') == std::string_view::npos);
  }
  require(head.host().find_first_of("/\\?#@,") == std::string_view::npos);
  require(!head.is_chunked() || (!head.content_length() && !head.is_http_1_0()));
  std::string text;
  const auto add = [&text](std::string_view part) { text.append(part).push_back('\n'); };
  add(head.method());
  add(head.target());
  add(head.host());
  for (const char* name : {"Host", "Content-Length", "Transfer-Encoding", "Connection", "Expect", "X", "Range"}) {
    const auto value = head.field(name);
    require(!value || value->find_first_of(std::string_view("\r\n\0", 3)) == std::string_view::npos);
    add(value.value_or("\n"));
  }
  add(head.content_length() ? std::to_string(*head.content_length()) : "none");
  for (const bool flag : {head.is_http_1_0(), head.wants_keep_alive(), head.expects_continue(), head.is_chunked()}) {
    add(flag ? "1" : "0");
  }
  return text;
}

/// As the connection does it: what was not consumed is fed again with more behind it.
Message read_message(std::string_view stream, std::size_t begin, Splitter& splitter) {
  Message message;
  RequestParser parser;
  std::optional<std::uint64_t> length;
  bool is_chunked = false;
  const RequestParser::Sink sink = [&message](std::span<const std::byte> content) -> Result<> {
    message.body.append(reinterpret_cast<const char*>(content.data()), content.size());
    return {};
  };
  std::size_t fed = begin;   // the end of what has arrived
  std::size_t kept = begin;  // the beginning of what has not been consumed
  const auto give_up = [&] {
    message.verdict = Verdict::kRefused;
    return message;
  };
  for (;;) {
    const std::string_view waiting = stream.substr(kept, fed - kept);
    if (!message.has_head) {
      const auto consumed = parser.feed_head(bytes_of(waiting));
      if (!consumed) return give_up();
      require(*consumed <= waiting.size());
      kept += *consumed;
      if (parser.has_head()) {
        const RequestHead head = parser.take_head();
        message.has_head = true;
        message.head = describe(head);
        length = head.content_length();
        is_chunked = head.is_chunked();
        continue;
      }
      require(fed - kept <= http::kMaxHeadBytes);
    } else {
      const auto consumed = parser.feed_body(bytes_of(waiting), sink);
      if (!consumed) return give_up();
      require(*consumed <= waiting.size());
      kept += *consumed;
      if (parser.has_body_ended()) break;
      require(fed - kept <= (is_chunked ? http::kMaxChunkFrameBytes : 0));
    }
    if (fed == stream.size()) return message;
    fed += std::min(splitter.next(), stream.size() - fed);
  }
  require(is_chunked || message.body.size() == length.value_or(0));
  message.verdict = Verdict::kComplete;
  message.end = kept;
  return message;
}

std::vector<Message> read_all(std::string_view stream, std::uint32_t seed) {
  constexpr std::size_t kMostMessages = 20;
  std::vector<Message> messages;
  Splitter splitter(seed);
  for (std::size_t begin = 0; begin < stream.size() && messages.size() < kMostMessages;) {
    messages.push_back(read_message(stream, begin, splitter));
    if (messages.back().verdict != Verdict::kComplete) break;
    require(messages.back().end > begin);
    begin = messages.back().end;
  }
  return messages;
}

void require_same(const std::vector<Message>& some, const std::vector<Message>& others) {
  require(some.size() == others.size());
  for (std::size_t i = 0; i < some.size(); ++i) {
    const Message& a = some[i];
    const Message& b = others[i];
    if (a.verdict == b.verdict) {
      require(a == b);
      continue;
    }
    // A fault may be seen only when the head or frame around it has come whole; but it is never overlooked.
    require(a.verdict != Verdict::kComplete && b.verdict != Verdict::kComplete);
    require(a.body == b.body);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view stream = text_of(data + 1, size - 1);
  const std::vector<Message> at_once = read_all(stream, 0);
  require_same(at_once, read_all(stream, 1));
  require_same(at_once, read_all(stream, 2 + data[0]));
  return 0;
}
