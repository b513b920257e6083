// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "config/config.h"
#include "config/report.h"

namespace sluice::config {

/// Lays the SLUICE_* variables over `config`. Reports every mistake, variables that no key has, and where each key was
/// set. SLUICE_TOKEN, SLUICE_SERVER and SLUICE_CONFIG belong to the command line and are left alone.
void overlay_environment(const Environment& environment, Config& config, Report& report);

}  // namespace sluice::config
