// SPDX-License-Identifier: Apache-2.0
// How fast content may be downloaded. It is charged when the response begins, lest many at once have it for nothing;
// what was not sent is given back when it is over, since players ask for whole files and leave.
#include <optional>
#include <variant>

#include "api/api.h"
#include "http/client_address.h"

namespace sluice::api {
namespace {

struct Payer {
  std::string key;  // a user id or a network, which no user id is
  config::ByteRate rate;
};

std::optional<Payer> payer_of(const config::DownloadRate& rates, const std::string& user,
                              std::string_view client_address) {
  if (rates.per_user.bytes_per_second > 0 && !user.empty()) return Payer{user, rates.per_user};
  if (rates.per_address.bytes_per_second == 0 || client_address.empty()) return std::nullopt;
  return Payer{http::network_of(client_address), rates.per_address};
}

/// The bytes of the body as far as they are known: none yet of a live one without a length.
std::uint64_t body_size(const http::Response& response) {
  if (const auto* file = std::get_if<http::FileBody>(&response.body)) return file->length;
  if (const auto* growing = std::get_if<http::FollowBody>(&response.body)) return growing->length.value_or(0);
  return std::get<std::string>(response.body).size();
}

}  // namespace

Result<> Api::check_download_rate(const config::DownloadRate& rates, http::Exchange& exchange) {
  const auto payer = payer_of(rates, exchange.notes().user, exchange.client_address());
  if (!payer) return {};
  const auto wait = meter_.wait(payer->key, payer->rate, clock_.steady());
  if (!wait) return {};
  return fail::limit_exceeded("Too much downloaded in a short time", *wait);
}

void Api::charge(const config::DownloadRate& rates, http::Exchange& exchange, const http::Response& response) {
  const auto payer = payer_of(rates, exchange.notes().user, exchange.client_address());
  if (!payer) return;
  const std::uint64_t bytes = exchange.head().is_head() ? 0 : body_size(response);
  meter_.charge(payer->key, static_cast<std::int64_t>(bytes), payer->rate, clock_.steady());
  exchange.notes().charged_bytes = bytes;
}

void Api::settle(const http::ExchangeReport& report) {
  if (!report.notes.charged_bytes) return;
  const auto mxc = Mxc::parse(report.notes.media);
  if (!mxc) return;
  const config::DownloadRate& rates = repository_.policy_of(mxc->server_name()).downloads.rate;
  const auto payer = payer_of(rates, report.notes.user, report.client_address);
  if (!payer) return;
  const auto difference = static_cast<std::int64_t>(report.bytes_sent - *report.notes.charged_bytes);
  meter_.charge(payer->key, difference, payer->rate, clock_.steady());
}

}  // namespace sluice::api
