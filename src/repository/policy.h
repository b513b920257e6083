// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "config/config.h"

namespace sluice::repository {

/// What holds for the media of one homeserver: what the configuration says for all, and for this one instead.
struct Policy {
  std::string server_name;
  config::Config::Uploads uploads;
  config::Config::Downloads downloads;
};

/// One for each homeserver that is served here; never empty. The first is the default's.
using Policies = std::vector<Policy>;

Policies policies_of(const config::Config& config);

/// Null for a server whose media is not served here.
const Policy* find_policy(const Policies& policies, std::string_view server_name);

/// 403 M_FORBIDDEN for a content type that may not be uploaded. What cannot be told to be a media type is allowed only
/// where nothing is ruled.
Result<> check_content_type_allowed(const config::ContentTypes& rules, std::string_view content_type);

}  // namespace sluice::repository
