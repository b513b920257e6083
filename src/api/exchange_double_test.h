// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/format.h>

#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "auth/authenticator.h"
#include "http/request_parser.h"
#include "http/server.h"
#include "repository/caller_double_test.h"

namespace sluice::api {

/// A request as a test writes it.
struct Request {
  std::string method = "GET";
  std::string target;
  std::vector<std::pair<std::string, std::string>> fields;  // besides Host
  std::string body;
  std::string host = "example.org";
};

/// An exchange without a connection.
class ExchangeDouble final : public http::Exchange {
 public:
  ExchangeDouble(Loop& loop, const Request& request) : caller_(loop), body_(request.body) {
    std::string text = fmt::format("{} {} HTTP/1.1\r\nHost: {}\r\n", request.method, request.target, request.host);
    for (const auto& [name, value] : request.fields) text += fmt::format("{}: {}\r\n", name, value);
    http::RequestParser parser;
    const auto fed = parser.feed_head(std::as_bytes(std::span(text += "\r\n")));
    if (!fed || !parser.has_head()) throw std::invalid_argument(text);
    head_ = parser.take_head();
  }

  const std::shared_ptr<Signal>& signal() override { return caller_.signal(); }
  bool is_present() override { return caller_.is_present(); }
  const http::RequestHead& head() const override { return head_; }
  http::ExchangeId id() const override { return {.run = "test", .connection = 1, .exchange = 1}; }
  const std::string& client_address() const override { return client_address_; }
  Task<Result<>> receive_body(http::BodySink& sink) override {
    was_body_asked_ = true;
    // In two pieces, as a network might bring it.
    const auto bytes = std::as_bytes(std::span(body_));
    if (Result<> taken = sink.write(bytes.first(bytes.size() / 2)); !taken) co_return taken;
    co_return sink.write(bytes.subspan(bytes.size() / 2));
  }

  repository::CallerDouble& caller() { return caller_; }
  bool was_body_asked() const { return was_body_asked_; }

 private:
  repository::CallerDouble caller_;
  http::RequestHead head_;
  const std::string body_;
  const std::string client_address_ = "192.0.2.1";
  bool was_body_asked_ = false;
};

/// Knows some tokens.
class AuthenticatorDouble final : public auth::Authenticator {
 public:
  explicit AuthenticatorDouble(std::map<std::string, auth::Requester> known) : known_(std::move(known)) {}

  std::optional<Result<auth::Requester>> recall(std::string_view, std::string_view) override { return std::nullopt; }
  Task<Result<auth::Requester>> identify(auth::Credentials credentials) override {
    asked_.push_back(credentials);
    if (credentials.token.empty()) co_return fail::with(401, "M_MISSING_TOKEN", "Missing access token");
    const auto found = known_.find(credentials.token);
    if (found == known_.end()) co_return fail::with(401, "M_UNKNOWN_TOKEN", "Unknown access token");
    co_return found->second;
  }

  void replace_known(const config::Homeserver&, std::span<Loop* const>) override {}

  const std::vector<auth::Credentials>& asked() const { return asked_; }

 private:
  const std::map<std::string, auth::Requester> known_;
  std::vector<auth::Credentials> asked_;
};

}  // namespace sluice::api
