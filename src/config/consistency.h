// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "config/config.h"
#include "config/report.h"

namespace sluice::config {

/// What a printed configuration shows in place of a token. Refused as one: reading such a configuration must not let in
/// whoever says "***".
inline constexpr std::string_view kMaskedToken = "***";

/// Checks what no single value tells: what is missing, what is there twice, what contradicts another key.
void check_consistency(const Config& config, Report& report);

}  // namespace sluice::config
