// SPDX-License-Identifier: Apache-2.0
#include "repository/policy.h"

#include <algorithm>
#include <optional>

#include "base/text.h"

namespace sluice::repository {
namespace {

template <class T>
void lay_over(T& value, const std::optional<T>& own) {
  if (own) value = *own;
}

void lay_over(config::ByteRate& rate, const config::Homeserver::Downloads::ByteRate& own) {
  lay_over(rate.bytes_per_second, own.bytes_per_second);
  lay_over(rate.burst, own.burst);
}

Policy policy_of(const config::Config& config, const config::Homeserver& homeserver) {
  Policy policy{homeserver.server_name, config.uploads, config.downloads};
  const config::Homeserver::Uploads& own = homeserver.uploads;
  lay_over(policy.uploads.max_size, own.max_size);
  lay_over(policy.uploads.max_pending_per_user, own.max_pending_per_user);
  lay_over(policy.uploads.create_rate.per_second, own.create_rate.per_second);
  lay_over(policy.uploads.create_rate.burst, own.create_rate.burst);
  lay_over(policy.uploads.content_types.allow, own.content_types.allow);
  lay_over(policy.uploads.content_types.deny, own.content_types.deny);
  lay_over(policy.downloads.unauthenticated, homeserver.downloads.unauthenticated);
  if (homeserver.downloads.frozen_since) policy.downloads.frozen_since = homeserver.downloads.frozen_since;
  lay_over(policy.downloads.rate.per_user, homeserver.downloads.rate.per_user);
  lay_over(policy.downloads.rate.per_address, homeserver.downloads.rate.per_address);
  return policy;
}

bool matches_any(const std::vector<std::string>& patterns, std::string_view essence) {
  return std::ranges::any_of(patterns, [essence](std::string_view pattern) {
    if (pattern == "*/*" || equals_ignoring_case(pattern, essence)) return true;
    if (!pattern.ends_with("/*")) return false;
    const std::string_view type = pattern.substr(0, pattern.size() - 1);  // with its slash
    return equals_ignoring_case(type, essence.substr(0, type.size()));
  });
}

}  // namespace

Policies policies_of(const config::Config& config) {
  Policies policies;
  for (const config::Homeserver& homeserver : config.homeservers) policies.push_back(policy_of(config, homeserver));
  return policies;
}

const Policy* find_policy(const Policies& policies, std::string_view server_name) {
  const auto found = std::ranges::find(policies, server_name, &Policy::server_name);
  return found == policies.end() ? nullptr : &*found;
}

Result<> check_content_type_allowed(const config::ContentTypes& rules, std::string_view content_type) {
  if (rules.allow.empty() && rules.deny.empty()) return {};
  const std::string essence = media_type_essence(content_type);
  const bool is_allowed = !essence.empty() && (rules.allow.empty() || matches_any(rules.allow, essence)) &&
                          !matches_any(rules.deny, essence);
  if (is_allowed) return {};
  return fail::forbidden("Content of this type cannot be uploaded here");
}

}  // namespace sluice::repository
