// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "api/target.h"
#include "base/clock.h"
#include "base/error.h"

namespace sluice::api {

/// How long a download may be stalled: `timeout_ms`, or its unstable name `fi.mau.msc2246.timeout_ms`, capped at
/// `max_wait`; `default_wait` when there is none. 400 M_INVALID_PARAM unless it is a number that is not negative.
Result<Milliseconds> wait_time(const Target& target, Milliseconds default_wait, Milliseconds max_wait);

}  // namespace sluice::api
