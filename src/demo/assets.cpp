// SPDX-License-Identifier: Apache-2.0
#include "demo/assets.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "base/sha256.h"
#include "http/range.h"

namespace sluice::demo {
namespace {

// Nothing but what this server sends, and nothing inline. blob: is what the page made of a file that it received.
constexpr std::string_view kContentSecurityPolicy =
    "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob:; media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

}  // namespace

std::optional<http::Response> respond(std::string_view name, std::string_view if_none_match) {
  const auto is_named = [name](const Asset& asset) { return asset.name == name; };
  const auto found = name.empty() ? assets().begin() : std::ranges::find_if(assets(), is_named);
  if (found == assets().end()) return std::nullopt;
  http::Response response;
  std::string tag = fmt::format("\"{}\"", sha256(found->text).to_hex().substr(0, 32));
  const bool is_known = http::matches_any_etag(if_none_match, tag);
  response.with("Content-Type", std::string(found->content_type))
      .with("Cache-Control", "no-cache")  // a new version is seen at once
      .with("ETag", std::move(tag))
      .with("Content-Security-Policy", std::string(kContentSecurityPolicy))
      .with("Referrer-Policy", "no-referrer")
      .with("Cross-Origin-Resource-Policy", "same-origin")
      // A page that opened this one could give it another address later, with a token in it.
      .with("Cross-Origin-Opener-Policy", "same-origin");
  // The page's own path is above the folder that a worker may control by itself.
  if (found->name == "worker.js") response.with("Service-Worker-Allowed", "/_sluice/demo");
  if (is_known) {
    response.status = 304;
    return response;
  }
  response.body = std::string(found->text);
  return response;
}

}  // namespace sluice::demo
