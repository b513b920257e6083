// SPDX-License-Identifier: Apache-2.0
#include "http/request_parser.h"

#include <algorithm>
#include <boost/beast/http/basic_parser.hpp>
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

RequestHead::Slice RequestHead::append(std::string_view text) {
  const Slice slice{static_cast<std::uint32_t>(text_.size()), static_cast<std::uint32_t>(text.size())};
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

  RequestHead head;
  std::size_t head_bytes = 0;
  const Sink* sink = nullptr;
  Result<> verdict;  // why we, rather than Beast, stopped

 private:
  error_code refuse(Failure why) {
    verdict = std::move(why);
    return beast::http::make_error_code(error::bad_value);
  }

  void on_request_impl(beast::http::verb, beast::string_view method, beast::string_view target, int version,
                       error_code& ec) override {
    head.text_.reserve(512);
    head.method_ = head.append(view(method));
    head.http_1_0_ = version == 10;
    if (version != 10 && version != 11) {
      ec = refuse(fail::with(505, "M_UNKNOWN", "Only HTTP/1.0 and HTTP/1.1 are spoken here"));
    } else if (target.size() > kMaxTargetBytes) {
      ec = refuse(fail::with(414, "M_UNKNOWN", "The request target is too long"));
    } else {
      ec = read_target(view(target));
    }
  }

  void on_response_impl(int, beast::string_view, int, error_code&) override {}  // a request parser never calls it

  // RFC 9112 section 3.2: origin-form, absolute-form (which a server must accept) and asterisk-form.
  error_code read_target(std::string_view target) {
    if (!target.starts_with('/') && target != "*") {
      const std::size_t scheme = target.find("://");
      if (scheme == std::string_view::npos || scheme > 5 || target.find('/') < scheme) {
        return refuse(bad_request("The request target is not a path"));
      }
      const std::string_view rest = target.substr(scheme + 3);
      const std::size_t path = std::min(rest.find_first_of("/?"), rest.size());
      if (!is_host_text(rest.substr(0, path))) return refuse(bad_request("The request target names no valid host"));
      absolute_form_ = true;
      head.host_ = head.append(without_port(rest.substr(0, path)));
      target = rest.substr(path);
      if (!target.starts_with('/')) {
        head.target_ = head.append("/");
        head.target_.size += head.append(target).size;
        return {};
      }
    }
    head.target_ = head.append(target);
    return {};
  }

  void on_field_impl(beast::http::field field, beast::string_view beast_name, beast::string_view beast_value,
                     error_code& ec) override {
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
    if (upgrade()) ec = refuse(bad_request("There is no protocol to upgrade to"));
  }

  void on_body_init_impl(boost::optional<std::uint64_t> const&, error_code&) override {}

  std::size_t on_body_impl(beast::string_view body, error_code& ec) override {
    verdict = (*sink)(std::as_bytes(std::span(body.data(), body.size())));
    if (!verdict) ec = beast::http::make_error_code(error::bad_value);
    return body.size();
  }

  void on_chunk_header_impl(std::uint64_t, beast::string_view, error_code&) override {}

  std::size_t on_chunk_body_impl(std::uint64_t, beast::string_view body, error_code& ec) override {
    return on_body_impl(body, ec);
  }

  void on_finish_impl(error_code&) override {}

  bool has_host_ = false;
  bool has_content_length_ = false;
  bool absolute_form_ = false;
};

RequestParser::RequestParser() : impl_(std::make_unique<Impl>()) {}
RequestParser::~RequestParser() = default;
RequestParser::RequestParser(RequestParser&&) noexcept = default;
RequestParser& RequestParser::operator=(RequestParser&&) noexcept = default;

Result<std::size_t> RequestParser::feed_head(std::span<const std::byte> bytes) {
  const auto too_long = [] { return fail::with(431, "M_UNKNOWN", "The request head is too long"); };
  impl_->eager(false);  // stop after the head: there is no sink yet
  error_code ec;
  const std::size_t consumed = impl_->put(boost::asio::buffer(bytes.data(), bytes.size()), ec);
  if (!impl_->verdict) return std::unexpected(impl_->verdict.error());
  if (ec == error::header_limit || ec == error::buffer_overflow) return too_long();
  if (ec && ec != error::need_more) return bad_request("The request is not well-formed HTTP: " + ec.message());
  // Beast's own limit starts anew with every line that it has consumed.
  impl_->head_bytes += consumed;
  const std::size_t pending = impl_->is_header_done() ? 0 : bytes.size() - consumed;
  if (impl_->head_bytes + pending > kMaxHeadBytes) return too_long();
  return consumed;
}

bool RequestParser::has_head() const { return impl_->is_header_done(); }

RequestHead RequestParser::take_head() { return std::move(impl_->head); }

Result<std::size_t> RequestParser::feed_body(std::span<const std::byte> bytes, const Sink& sink) {
  impl_->eager(true);
  impl_->sink = &sink;
  error_code ec;
  std::size_t consumed = 0;
  if (!bytes.empty() && !impl_->is_done()) {
    consumed = impl_->put(boost::asio::buffer(bytes.data(), bytes.size()), ec);
  }
  if (!impl_->verdict) return std::unexpected(impl_->verdict.error());
  if (ec && ec != error::need_more) return bad_request("The request body is not well-formed: " + ec.message());
  return consumed;
}

bool RequestParser::has_body_ended() const { return impl_->is_done(); }

}  // namespace sluice::http
