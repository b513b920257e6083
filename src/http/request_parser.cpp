// SPDX-License-Identifier: Apache-2.0
#include "http/request_parser.h"

#include <algorithm>
#include <boost/beast/http/basic_parser.hpp>
#include <cassert>
#include <utility>

#include "base/text.h"

namespace sluice::http {
namespace {

namespace beast = boost::beast;
using beast::http::error;
using boost::system::error_code;

Failure bad_request(std::string_view message) { return fail::with(400, "M_UNKNOWN", message); }

std::string_view view(beast::string_view text) { return {text.data(), text.size()}; }

std::string_view without_port(std::string_view authority) {
  const std::size_t bracket = authority.rfind(']');
  const std::size_t colon = authority.rfind(':');
  if (colon == std::string_view::npos || (bracket != std::string_view::npos && colon < bracket)) return authority;
  return authority.substr(0, colon);
}

// The bytes of the empty lines that `text` begins with.
std::size_t count_empty_lines(std::string_view text) {
  std::size_t size = 0;
  while (text.substr(size).starts_with("\r\n")) size += 2;
  return size;
}

// RFC 9112 section 5.2. Whole fields are consumed, so no fold can lie between two calls.
bool has_folded_field(std::string_view head) {
  return head.find("\n ") != std::string_view::npos || head.find("\n\t") != std::string_view::npos;
}

std::string_view view(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

bool is_host_text(std::string_view text) {
  constexpr std::string_view kForbidden = " \t/\\?#@,\"<>{}|^`%";
  return text.find_first_of(kForbidden) == std::string_view::npos && !has_control_characters(text);
}

}  // namespace

std::optional<std::string_view> RequestHead::field(std::string_view name) const {
  for (const Field& field : fields_) {
    if (equals_ignoring_case(slice(field.name), name)) return slice(field.value);
  }
  return std::nullopt;
}

std::optional<std::string> RequestHead::combined_field(std::string_view name) const {
  std::optional<std::string> combined;
  for (const Field& field : fields_) {
    if (!equals_ignoring_case(slice(field.name), name)) continue;
    if (combined) {
      combined->append(", ").append(slice(field.value));
    } else {
      combined = slice(field.value);
    }
  }
  return combined;
}

RequestHead::Slice RequestHead::append(std::string_view text) {
  assert(text_.size() + text.size() <= UINT16_MAX);
  const Slice slice{static_cast<std::uint16_t>(text_.size()), static_cast<std::uint16_t>(text.size())};
  text_ += text;
  return slice;
}

class RequestParser::Impl final : public beast::http::basic_parser<true> {
 public:
  Impl() {
    header_limit(kMaxHeadBytes);
    body_limit(boost::none);  // the repository has its own limit, with its own answer
    eager(true);
  }

  // Between the contents of two chunks, or before the first or behind the last.
  bool is_in_chunk_frame() const { return chunked() && chunk_remaining_ == 0; }

  RequestHead head;
  std::size_t head_bytes = 0;
  const Sink* sink = nullptr;
  Result<> verdict;             // why we, rather than Beast, stopped
  bool is_body_broken = false;  // from the beginning of a feed until it has gone well

 private:
  error_code refuse(Failure why) {
    verdict = std::move(why);
    return beast::http::make_error_code(error::bad_value);
  }

  void on_request_impl(beast::http::verb, beast::string_view method, beast::string_view target, int version,
                       error_code& ec) override {
    head.text_.reserve(1024);
    head.fields_.reserve(16);
    head.method_ = head.append(view(method));
    head.http_1_0_ = version == 10;
    if (target.size() > kMaxTargetBytes) {
      ec = refuse(fail::with(414, "M_UNKNOWN", "The request target is too long"));
    } else {
      ec = read_target(view(target));
    }
  }

  void on_response_impl(int, beast::string_view, int, error_code&) override {}  // a request parser never calls it

  // RFC 9112 section 3.2: origin-form, absolute-form (which a server must accept) and asterisk-form.
  error_code read_target(std::string_view target) {
    if (target.find('#') != std::string_view::npos) return refuse(bad_request("The request target holds a fragment"));
    if (!target.starts_with('/') && target != "*") {
      const std::size_t scheme = target.find("://");
      const std::string_view name = target.substr(0, scheme);
      const bool is_http = equals_ignoring_case(name, "http") || equals_ignoring_case(name, "https");
      if (scheme == std::string_view::npos || !is_http) {
        return refuse(bad_request("The request target is not a path"));
      }
      const std::string_view rest = target.substr(scheme + 3);
      const std::size_t path = std::min(rest.find_first_of("/?"), rest.size());
      const std::string_view host = without_port(rest.substr(0, path));
      if (host.empty() || !is_host_text(rest.substr(0, path))) {
        return refuse(bad_request("The request target names no valid host"));
      }
      absolute_form_ = true;
      head.host_ = head.append(host);
      target = rest.substr(path);
      if (!target.starts_with('/')) {
        head.target_ = head.append("/");
        head.target_.size = static_cast<std::uint16_t>(head.target_.size + head.append(target).size);
        return {};
      }
    }
    head.target_ = head.append(target);
    return {};
  }

  void on_field_impl(beast::http::field field, beast::string_view beast_name, beast::string_view beast_value,
                     error_code& ec) override {
    if (is_header_done()) return;  // a trailer; nothing here asks for one
    const std::string_view name = view(beast_name);
    const std::string_view value = view(beast_value);
    if (head.fields_.size() >= kMaxFields) {
      ec = refuse(fail::with(431, "M_UNKNOWN", "The request has too many header fields"));
      return;
    }
    if (field == beast::http::field::host) {
      if (std::exchange(has_host_, true) || !is_host_text(value)) {
        ec = refuse(bad_request("The Host header field is not one valid host"));
        return;
      }
      if (!absolute_form_) head.host_ = head.append(without_port(value));
    } else if (field == beast::http::field::content_length) {
      const bool digits_only = value.find_first_not_of("0123456789") == std::string_view::npos;
      if (std::exchange(has_content_length_, true) || !digits_only || value.empty()) {
        ec = refuse(bad_request("Content-Length is not one number"));
        return;
      }
    } else if (field == beast::http::field::transfer_encoding) {
      if (!equals_ignoring_case(value, "chunked")) {
        ec = refuse(fail::with(501, "M_UNKNOWN", "The only transfer coding understood here is chunked"));
        return;
      }
      if (head.http_1_0_) {
        ec = refuse(bad_request("Transfer-Encoding is not part of HTTP/1.0"));
        return;
      }
    } else if (field == beast::http::field::expect) {
      if (!equals_ignoring_case(value, "100-continue")) {
        ec = refuse(fail::with(417, "M_UNKNOWN", "The only expectation understood here is 100-continue"));
        return;
      }
      head.expects_continue_ = !head.http_1_0_;
    }
    RequestHead::Field stored;
    stored.name = head.append(name);
    stored.value = head.append(value);
    head.fields_.push_back(stored);
  }

  void on_header_impl(error_code& ec) override {
    if (!has_host_ && !head.http_1_0_) {
      ec = refuse(bad_request("HTTP/1.1 needs a Host header field"));
      return;
    }
    head.chunked_ = chunked();
    head.keep_alive_ = keep_alive();
    if (const auto length = content_length(); length && !chunked()) head.content_length_ = *length;
  }

  void on_body_init_impl(boost::optional<std::uint64_t> const&, error_code&) override {}

  std::size_t on_body_impl(beast::string_view body, error_code& ec) override {
    verdict = (*sink)(std::as_bytes(std::span(body.data(), body.size())));
    if (!verdict) ec = beast::http::make_error_code(error::bad_value);
    return body.size();
  }

  void on_chunk_header_impl(std::uint64_t size, beast::string_view extensions, error_code& ec) override {
    chunk_remaining_ = size;
    // Beast lets a quoted value hold a bare LF, which others take for the end of the line.
    if (has_control_characters(view(extensions)))
      ec = refuse(bad_request("A chunk extension holds a control character"));
  }

  std::size_t on_chunk_body_impl(std::uint64_t, beast::string_view body, error_code& ec) override {
    chunk_remaining_ -= body.size();
    return on_body_impl(body, ec);
  }

  void on_finish_impl(error_code&) override {}

  bool has_host_ = false;
  bool has_content_length_ = false;
  bool absolute_form_ = false;
  std::uint64_t chunk_remaining_ = 0;
};

RequestParser::RequestParser() : impl_(std::make_unique<Impl>()) {}
RequestParser::~RequestParser() = default;
RequestParser::RequestParser(RequestParser&&) noexcept = default;
RequestParser& RequestParser::operator=(RequestParser&&) noexcept = default;

Result<std::size_t> RequestParser::feed_head(std::span<const std::byte> bytes) {
  const auto too_long = [] { return fail::with(431, "M_UNKNOWN", "The request head is too long"); };
  const std::size_t skipped = impl_->got_some() ? 0 : count_empty_lines(view(bytes));
  const std::span<const std::byte> rest = bytes.subspan(skipped);
  const bool may_be_empty_line = !impl_->got_some() && view(rest) == "\r";
  impl_->eager(false);  // stop after the head: there is no sink yet
  error_code ec;
  const std::size_t parsed = may_be_empty_line ? 0 : impl_->put(boost::asio::buffer(rest.data(), rest.size()), ec);
  if (!impl_->verdict) return std::unexpected(impl_->verdict.error());
  if (ec == error::header_limit || ec == error::buffer_overflow) return too_long();
  if (ec && ec != error::need_more) return bad_request("The request is not well-formed HTTP: " + ec.message());
  if (has_folded_field(view(rest.first(parsed)))) return bad_request("The request has a folded header field");
  // Beast's own limit starts anew with every line that it has consumed.
  const std::size_t consumed = skipped + parsed;
  impl_->head_bytes += consumed;
  const std::size_t pending = impl_->is_header_done() ? 0 : bytes.size() - consumed;
  if (impl_->head_bytes + pending > kMaxHeadBytes) return too_long();
  return consumed;
}

bool RequestParser::has_head() const { return impl_->is_header_done(); }

RequestHead RequestParser::take_head() {
  RequestHead head = impl_->head;  // a copy takes no more room than it needs
  impl_->head = RequestHead();
  return head;
}

Result<std::size_t> RequestParser::feed_body(std::span<const std::byte> bytes, const Sink& sink) {
  // The shortest frame: the last one. Beast asserts that it has come whole when it sees it for the second time.
  constexpr std::size_t kMinChunkFrameBytes = 5;
  if (std::exchange(impl_->is_body_broken, true)) return bad_request("The request body could not be read");
  impl_->eager(false);  // one step at a time, so that a frame can be told from content
  impl_->sink = &sink;
  std::size_t consumed = 0;
  while (consumed < bytes.size() && !impl_->is_done()) {
    const std::span<const std::byte> rest = bytes.subspan(consumed);
    const bool is_frame = impl_->is_in_chunk_frame();
    if (is_frame && rest.size() < kMinChunkFrameBytes) break;
    error_code ec;
    const std::size_t step = impl_->put(boost::asio::buffer(rest.data(), rest.size()), ec);
    if (!impl_->verdict) return std::unexpected(impl_->verdict.error());
    const bool is_incomplete = ec == error::need_more;
    if (ec && !is_incomplete) return bad_request("The request body is not well-formed: " + ec.message());
    if (is_frame && (is_incomplete ? rest.size() : step) > kMaxChunkFrameBytes) {
      return bad_request("A chunk's extensions or trailers are too long");
    }
    consumed += step;
    if (is_incomplete) break;
  }
  impl_->is_body_broken = false;
  return consumed;
}

bool RequestParser::has_body_ended() const { return impl_->is_done(); }

}  // namespace sluice::http
