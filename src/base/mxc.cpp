// SPDX-License-Identifier: Apache-2.0
#include "base/mxc.h"

#include <algorithm>

#include "base/text.h"

namespace sluice {
namespace {

constexpr std::size_t kMaxNameBytes = 255;
constexpr std::string_view kScheme = "mxc://";

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_alpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

bool is_port(std::string_view text) { return !text.empty() && text.size() <= 5 && std::ranges::all_of(text, is_digit); }

}  // namespace

bool is_server_name(std::string_view text) {
  if (text.empty() || text.size() > kMaxNameBytes) return false;
  std::string_view after_host;
  if (text.front() == '[') {
    const std::size_t close = text.find(']');
    if (close == std::string_view::npos) return false;
    const std::string_view address = text.substr(1, close - 1);
    if (address.size() < 2 || address.size() > 45) return false;
    if (!std::ranges::all_of(address, [](char c) { return hex_value(c) >= 0 || c == ':' || c == '.'; })) return false;
    after_host = text.substr(close + 1);
  } else {
    const std::size_t colon = std::min(text.find(':'), text.size());
    const std::string_view host = text.substr(0, colon);
    if (host.empty()) return false;
    if (!std::ranges::all_of(host, [](char c) { return is_digit(c) || is_alpha(c) || c == '-' || c == '.'; })) {
      return false;
    }
    after_host = text.substr(colon);
  }
  return after_host.empty() || (after_host.front() == ':' && is_port(after_host.substr(1)));
}

bool is_media_id(std::string_view text) {
  return !text.empty() && text.size() <= kMaxNameBytes &&
         std::ranges::all_of(text, [](char c) { return is_digit(c) || is_alpha(c) || c == '_' || c == '-'; });
}

bool is_user_id(std::string_view text) {
  if (text.size() < 3 || text.size() > kMaxNameBytes || text.front() != '@') return false;
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos || !is_server_name(text.substr(colon + 1))) return false;
  return std::ranges::all_of(text.substr(1, colon - 1), [](char c) { return c > ' ' && c != 0x7f; });
}

std::optional<Mxc> Mxc::of(std::string_view server_name, std::string_view media_id) {
  if (!is_server_name(server_name) || !is_media_id(media_id)) return std::nullopt;
  return Mxc(server_name, media_id);
}

std::optional<Mxc> Mxc::parse(std::string_view uri) {
  if (!uri.starts_with(kScheme)) return std::nullopt;
  uri.remove_prefix(kScheme.size());
  const std::size_t slash = uri.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  return of(uri.substr(0, slash), uri.substr(slash + 1));
}

std::string Mxc::to_uri() const { return std::string(kScheme) + server_name_ + "/" + media_id_; }

}  // namespace sluice
