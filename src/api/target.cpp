// SPDX-License-Identifier: Apache-2.0
#include "api/target.h"

#include <algorithm>

#include "base/text.h"

namespace sluice::api {

Result<Target> Target::parse(std::string_view target) {
  const auto malformed = [] { return fail::invalid_param("The request target holds a broken percent-encoding"); };
  Target parsed;
  const std::size_t question = std::min(target.find('?'), target.size());
  std::string_view path = target.substr(0, question);
  if (path.starts_with('/')) path.remove_prefix(1);
  for (const std::string_view segment : split(path, '/')) {
    auto decoded = percent_decode(segment);
    if (!decoded) return malformed();
    parsed.segments_.push_back(*std::move(decoded));
  }
  if (question == target.size()) return parsed;
  for (const std::string_view pair : split(target.substr(question + 1), '&')) {
    if (pair.empty()) continue;
    const std::size_t equals = std::min(pair.find('='), pair.size());
    auto name = percent_decode(pair.substr(0, equals), true);
    auto value = percent_decode(equals == pair.size() ? std::string_view() : pair.substr(equals + 1), true);
    if (!name || !value) return malformed();
    parsed.parameters_.emplace_back(*std::move(name), *std::move(value));
  }
  return parsed;
}

std::optional<std::string_view> Target::parameter(std::string_view name) const {
  const auto found = std::ranges::find(parameters_, name, &std::pair<std::string, std::string>::first);
  if (found == parameters_.end()) return std::nullopt;
  return found->second;
}

}  // namespace sluice::api
