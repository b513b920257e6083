// SPDX-License-Identifier: Apache-2.0
// Input: a text. Whatever is taken for an mxc URI, a server name, a user id, an address, a size or a time is one, and
// what is written is read back to the same.
#include <algorithm>
#include <string>
#include <string_view>

#include "base/mxc.h"
#include "base/text.h"
#include "base/units.h"
#include "http/client_address.h"
#include "require.h"

namespace {

using namespace sluice;
using namespace sluice::fuzz;

bool is_plain(std::string_view text) {
  return !text.empty() && text.size() <= 255 && text.find_first_of("/\\?#%@ ") == std::string_view::npos &&
         std::ranges::all_of(text, [](char c) { return c > ' ' && c < 0x7f; });
}

void check_names(std::string_view text) {
  if (is_server_name(text)) require(is_plain(text) && Mxc::of(text, "id"));
  if (is_media_id(text)) require(is_plain(text) && text.find('.') == std::string_view::npos);
  if (is_user_id(text)) {
    const std::size_t colon = text.find(':');
    require(text.front() == '@' && !has_control_characters(text) && is_server_name(text.substr(colon + 1)));
  }
  for (const std::string& uri : {std::string(text), "mxc://" + std::string(text)}) {
    if (const auto mxc = Mxc::parse(uri)) {
      require(mxc->to_uri() == uri);
      require(is_server_name(mxc->server_name()) && is_media_id(mxc->media_id()));
      require(Mxc::of(mxc->server_name(), mxc->media_id()) == mxc);
    }
  }
}

void check_percent_encoding(std::string_view text) {
  for (const bool plus_is_space : {false, true}) {
    require(percent_decode(percent_encode(text), plus_is_space) == text);
    const auto decoded = percent_decode(text, plus_is_space);
    if (decoded) require(decoded->size() <= text.size() && percent_decode(percent_encode(*decoded)) == decoded);
  }
}

void check_units(std::string_view text) {
  if (const auto bytes = parse_byte_size(text)) {
    require(parse_byte_size(format_byte_size(*bytes)) == bytes);
    require(!describe_byte_size(*bytes).empty());
  }
  if (const auto time = parse_duration(text)) {
    require(time->count() >= 0 && parse_duration(format_duration(*time)) == time);
  }
}

void check_addresses(std::string_view text) {
  static const http::TrustedProxies proxies({"127.0.0.1", "10.0.0.0/8", "2001:db8::/32"});
  const std::string client = proxies.client_of("127.0.0.1", text);
  require(client.empty() || !http::network_of(client).empty());
  require(proxies.client_of("192.0.2.1", text) == "192.0.2.1");
  // An address in the configuration is trusted, and everything else there is ignored.
  const http::TrustedProxies configured({std::string(text)});
  if (configured.client_of("192.0.2.1", "198.51.100.1") == "198.51.100.1") require(!text.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = text_of(data, size);
  check_names(text);
  check_percent_encoding(text);
  check_units(text);
  check_addresses(text);
  require(is_utf8(percent_encode(text)));
  return 0;
}
