// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"

namespace sluice::api {

/// What the seed of MSC2246 foresees in the body of a create request: metadata that the upload inherits.
struct CreateBody {
  std::string content_type;
  std::string filename;
};

/// Reads the body, which may be empty. 400 M_NOT_JSON or M_BAD_JSON; unknown keys are ignored.
Result<CreateBody> parse_create_body(std::string_view text);

}  // namespace sluice::api
