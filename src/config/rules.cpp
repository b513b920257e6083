// SPDX-License-Identifier: Apache-2.0
#include "config/rules.h"

#include <arpa/inet.h>

#include <algorithm>
#include <boost/url/parse.hpp>
#include <boost/url/url_view.hpp>
#include <charconv>

#include "base/text.h"

namespace sluice::config {
namespace {

bool is_number_up_to(int limit, std::string_view text) {
  int number = -1;
  const char* const text_end = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), text_end, number);
  return error == std::errc{} && end == text_end && number >= 0 && number <= limit;
}

}  // namespace

bool is_host(std::string_view text) { return is_server_name(text) && (text.ends_with(']') || !text.contains(':')); }

bool is_token(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c > ' ' && c < 0x7f; });
}

bool is_client_api(std::string_view text) {
  const auto url = boost::urls::parse_uri({text.data(), text.size()});
  if (!url) return false;
  const bool is_http = url->scheme_id() == boost::urls::scheme::http || url->scheme_id() == boost::urls::scheme::https;
  const boost::urls::string_view port = url->port();
  return is_http && !url->encoded_host().empty() && !url->has_userinfo() && !url->has_query() && !url->has_fragment() &&
         (!url->has_port() || (is_number_up_to(65535, {port.data(), port.size()}) && url->port_number() != 0)) &&
         !text.ends_with("//");
}

bool is_network(std::string_view text) {
  const std::size_t slash = text.find('/');
  const std::string address(text.substr(0, slash));
  if (address.contains('\0')) return false;
  in6_addr ignored;
  const bool v4 = ::inet_pton(AF_INET, address.c_str(), &ignored) == 1;
  const bool v6 = !v4 && ::inet_pton(AF_INET6, address.c_str(), &ignored) == 1;
  if (!v4 && !v6) return false;
  return slash == std::string_view::npos || is_number_up_to(v4 ? 32 : 128, text.substr(slash + 1));
}

bool is_media_type_pattern(std::string_view text) {
  if (text.empty() || media_type_essence(text) != to_lower(text)) return false;
  const std::string_view type = text.substr(0, text.find('/'));
  const std::string_view subtype = text.substr(type.size() + 1);
  return (type == "*" ? subtype == "*" : !type.contains('*')) && (subtype == "*" || !subtype.contains('*'));
}

}  // namespace sluice::config
