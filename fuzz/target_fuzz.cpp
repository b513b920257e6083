// SPDX-License-Identifier: Apache-2.0
// Input: a request target. A target that can be read has the segments that stand in it, the wait is within its bounds,
// and a route captures what its pattern says.
#include <algorithm>
#include <string>
#include <string_view>

#include "api/router.h"
#include "api/target.h"
#include "api/wait_time.h"
#include "base/text.h"
#include "require.h"

namespace {

using namespace sluice;
using namespace sluice::fuzz;
using api::Target;

constexpr Milliseconds kDefaultWait{20'000};
constexpr Milliseconds kMaxWait{60'000};

void check_wait(const Target& target) {
  const auto wait = api::wait_time(target, kDefaultWait, kMaxWait);
  const bool is_asked = target.parameter("timeout_ms") || target.parameter("fi.mau.msc2246.timeout_ms");
  require(is_asked || (wait && *wait == kDefaultWait));
  if (wait) {
    require(*wait >= Milliseconds(0) && *wait <= kMaxWait);
  } else {
    require(wait.error().http_status == 400 && wait.error().errcode == "M_INVALID_PARAM");
  }
}

void check_routes(const Target& target) {
  static const auto router = [] {
    api::Router<std::size_t> all;  // how many segments are captured
    all.add("GET HEAD", "/_matrix/media/{v}/download/{serverName}/{mediaId}", 2);
    all.add("GET HEAD", "/_matrix/media/{v}/download/{serverName}/{mediaId}/{fileName}", 3);
    all.add("PUT", "/_matrix/media/{v}/upload/{serverName}/{mediaId}", 2);
    all.add("PUT", "/_matrix/media/r0/upload/{mediaId}", 1);
    all.add("POST", "/_matrix/media/{v}/upload", 0);
    all.add("GET", "/health", 0);
    return all;
  }();
  for (const std::string_view method : {"GET", "PUT", "POST", "DELETE"}) {
    const auto segments = target.segments();
    const auto match = router.find(method, segments);
    if (match.handler == nullptr) {
      require(std::ranges::find(match.allowed_methods, method) == match.allowed_methods.end());
      continue;
    }
    require(match.captured.size() == *match.handler);
    require(std::ranges::equal(match.captured, std::span(segments).last(match.captured.size())));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = text_of(data, size);
  const auto target = Target::parse(text);
  if (!target) {
    require(target.error().http_status == 400 && text.find('%') != std::string_view::npos);
    return 0;
  }
  const std::string_view path = text.substr(0, text.find('?'));
  const auto slashes = std::ranges::count(path, '/') - (path.starts_with('/') ? 1 : 0);
  require(target->segments().size() == std::min(static_cast<std::size_t>(slashes) + 1, Target::kMaxSegments));
  std::string again;
  for (const std::string_view segment : target->segments()) again += "/" + percent_encode(segment);
  const auto reread = Target::parse(again);
  require(reread && reread->segments() == target->segments());
  check_wait(*target);
  check_routes(*target);
  return 0;
}
