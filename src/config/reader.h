// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "config/config.h"
#include "config/document.h"
#include "config/report.h"

namespace sluice::config {

/// Sets what the document names; the rest of `config` stays as it is. Reports every mistake and where each key was set.
void read_document(const Node& document, Config& config, Report& report);

}  // namespace sluice::config
