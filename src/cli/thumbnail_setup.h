// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <vector>

#include "config/config.h"
#include "thumbnails/thumbnails.h"

namespace sluice::cli {

std::vector<thumbnails::Size> thumbnail_sizes(const config::Config::Thumbnails& config);

/// What the configuration and this machine let thumbnails be: the worker is looked for beside the running program, then
/// in /usr/local/libexec and /usr/libexec. Without one there are no workers, which is logged.
thumbnails::Thumbnails::Limits thumbnail_limits(const config::Config::Thumbnails& config, std::size_t max_hot);

}  // namespace sluice::cli
