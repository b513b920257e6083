// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"

namespace sluice::fail {

Failure from_system(std::error_code code, std::string_view doing) {
  const std::string message = std::string(doing) + ": " + code.message();
  switch (code.value()) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return with(507, "M_UNKNOWN", message);
    case EMFILE:
    case ENFILE:
      return unavailable(message, std::chrono::seconds(1));
    default:
      return internal(message);
  }
}

}  // namespace sluice::fail
