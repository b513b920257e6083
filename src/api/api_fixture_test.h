// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "api/api.h"
#include "api/exchange_double_test.h"
#include "repository/repository_fixture_test.h"

namespace sluice::api {

/// What came back.
struct Reply {
  int status = 0;
  std::map<std::string, std::string, std::less<>> fields;
  std::string body;
  bool was_body_asked = false;
  http::Notes notes;

  std::string field(std::string_view name) const {
    const auto found = fields.find(name);
    return found == fields.end() ? "(none)" : found->second;
  }
  std::string text(std::string_view key) const {
    const boost::json::value json = boost::json::parse(body);
    const boost::json::value* value = json.as_object().if_contains(key);
    return value != nullptr && value->is_string() ? std::string(value->as_string()) : "(none)";
  }
  std::string errcode() const { return text("errcode"); }
};

namespace detail {

inline Task<std::string> read_file(http::FileBody body) {
  co_return repository::detail::read_bytes(*body.file, body.offset, body.length);
}

// As a connection would send it: to the length, or to the end. What breaks off says so.
inline Task<std::string> read_growing(http::FollowBody body, std::shared_ptr<Signal> signal) {
  std::string text;
  for (;;) {
    const http::GrowingFile::Growth growth = body.file->growth();
    const std::uint64_t end = std::min(growth.readable, body.offset + body.length.value_or(growth.readable));
    const std::uint64_t at = body.offset + text.size();
    if (end > at) {
      std::string bytes(end - at, '\0');
      bytes.resize(static_cast<std::size_t>(
          ::pread(body.file->descriptor(), bytes.data(), bytes.size(), static_cast<off_t>(at))));
      text += bytes;
      continue;
    }
    if (body.length && text.size() == *body.length) co_return text;
    if (growth.ending == http::GrowingFile::Ending::kWhole) co_return text;
    if (growth.ending == http::GrowingFile::Ending::kBroken) co_return text + "(broken)";
    body.file->wake_beyond(at);
    co_await signal->wait();
  }
}

inline Task<Reply> exchange(Api& api, ExchangeDouble& exchange) {
  http::Response response = co_await api.handle(exchange);
  Reply reply{.status = response.status,
              .fields = {},
              .body = "",
              .was_body_asked = exchange.was_body_asked(),
              .notes = exchange.notes()};
  for (const auto& [name, value] : response.fields) {
    EXPECT_TRUE(reply.fields.emplace(name, value).second) << name << " is there twice";
  }
  if (auto* file = std::get_if<http::FileBody>(&response.body)) {
    reply.body = co_await read_file(std::move(*file));
  } else if (auto* growing = std::get_if<http::FollowBody>(&response.body)) {
    reply.fields.emplace("(length)", growing->length ? std::to_string(*growing->length) : "unknown");
    reply.body = co_await read_growing(std::move(*growing), exchange.caller().signal_unasked());
  } else {
    reply.body = std::get<std::string>(response.body);
  }
  co_return reply;
}

}  // namespace detail

/// The whole Api on a real repository, without connections.
class ApiTest : public repository::RepositoryTest {
 protected:
  // Made at the first use, so that a test may change the limits before.
  Api& api() {
    if (!api_) api_ = std::make_unique<Api>(make_sites(), repository(), clock_, offers_demo_);
    return *api_;
  }

  /// A request under way; its reply must be taken.
  struct Pending {
    Pending(LoopThread& thread, Api& api, const Request& request)
        : exchange_double(thread.loop(), request), reply(thread.start(detail::exchange(api, exchange_double))) {}
    ExchangeDouble exchange_double;
    std::future<Reply> reply;
  };
  std::unique_ptr<Pending> start(const Request& request) { return std::make_unique<Pending>(loop_, api(), request); }
  Reply send(const Request& request) { return start(request)->reply.get(); }
  Reply get(std::string target, std::vector<std::pair<std::string, std::string>> fields = {kBearer}) {
    return send({.method = "GET", .target = std::move(target), .fields = std::move(fields)});
  }
  static Request put_request(const Mxc& mxc, std::string body, std::string token = "alice") {
    return {.method = "PUT",
            .target = "/_matrix/media/v3/upload/" + mxc.server_name() + "/" + mxc.media_id(),
            .fields = {{"Authorization", "Bearer " + token},
                       {"Content-Type", "text/plain"},
                       {"Content-Length", std::to_string(body.size())}},
            .body = std::move(body)};
  }
  static std::string path_of(const Mxc& mxc) {
    return "/_matrix/client/v1/media/download/" + mxc.server_name() + "/" + mxc.media_id();
  }

  /// A request without a body.
  Reply send(std::string method, std::string target, const std::string& token) {
    return send(
        {.method = std::move(method), .target = std::move(target), .fields = {{"Authorization", "Bearer " + token}}});
  }

  static inline const std::pair<std::string, std::string> kBearer{"Authorization", "Bearer alice"};

  bool offers_demo_ = false;
  AuthenticatorDouble* here_ = nullptr;   // of example.org
  AuthenticatorDouble* there_ = nullptr;  // of example.net:8448

 private:
  std::vector<Site> make_sites() {
    auto here =
        std::make_unique<AuthenticatorDouble>(std::map<std::string, auth::Requester>{{"alice", repository::kAlice},
                                                                                     {"mallory", repository::kMallory},
                                                                                     {"guest", repository::kGuest},
                                                                                     {"admin", repository::kAdmin}});
    auto there = std::make_unique<AuthenticatorDouble>(
        std::map<std::string, auth::Requester>{{"nora", {.user = "@nora:example.net"}}});
    here_ = here.get();
    there_ = there.get();
    std::vector<Site> sites;
    sites.push_back({"example.org", {"media.example.org"}, std::move(here)});
    sites.push_back({"example.net:8448", {"[2001:db8::1]"}, std::move(there)});
    return sites;
  }

  std::unique_ptr<Api> api_;
};

}  // namespace sluice::api
