// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <boost/container/static_vector.hpp>
#include <cassert>
#include <cstddef>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice::api {

/// What a pattern may capture.
inline constexpr std::size_t kMaxCaptured = 4;
using Captured = boost::container::static_vector<std::string_view, kMaxCaptured>;

/// Finds the handler for a path and method. A pattern is a path whose segments are literals, `{v}` for one of r0, v1
/// and v3, or `{name}` for anything, which is captured.
template <class Handler>
class Router {
 public:
  struct Match {
    const Handler* handler = nullptr;               // null: no route has this path and method
    Captured captured;                              // the segments matched by {name}, in order
    std::vector<std::string_view> allowed_methods;  // of all routes with this path; empty: the path is unknown
  };

  void add(std::string_view methods, std::string_view pattern, Handler handler);
  Match find(std::string_view method, std::span<const std::string_view> segments) const;

 private:
  struct Route {
    std::vector<std::string_view> methods;
    std::vector<std::string_view> pattern;
    Handler handler;
  };
  std::vector<Route> routes_;
};

namespace detail {
std::vector<std::string_view> split_pattern(std::string_view pattern);
std::vector<std::string_view> split_methods(std::string_view methods);
bool matches(std::span<const std::string_view> pattern, std::span<const std::string_view> segments);
bool is_captured(std::string_view pattern);
bool contains(const std::vector<std::string_view>& methods, std::string_view method);
}  // namespace detail

/// `methods` and `pattern` must be literals.
template <class Handler>
void Router<Handler>::add(std::string_view methods, std::string_view pattern, Handler handler) {
  routes_.push_back({detail::split_methods(methods), detail::split_pattern(pattern), std::move(handler)});
  assert(std::ranges::count_if(routes_.back().pattern, detail::is_captured) <= std::ptrdiff_t{kMaxCaptured});
}

template <class Handler>
Router<Handler>::Match Router<Handler>::find(std::string_view method,
                                             std::span<const std::string_view> segments) const {
  Match match;
  for (const Route& route : routes_) {
    if (!detail::matches(route.pattern, segments)) continue;
    if (detail::contains(route.methods, method)) {
      match.handler = &route.handler;
      for (std::size_t i = 0; i < segments.size(); ++i) {
        if (detail::is_captured(route.pattern[i])) match.captured.push_back(segments[i]);
      }
      return match;
    }
    match.allowed_methods.insert(match.allowed_methods.end(), route.methods.begin(), route.methods.end());
  }
  return match;
}

}  // namespace sluice::api
