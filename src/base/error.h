// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace sluice {

/// An expected refusal, in the words a Matrix client understands. It owns its HTTP form, so that
/// the API has one place that turns an error into a response and no place that invents one.
/// Source: client-server API, "Standard error response".
struct Error {
  int http_status = 500;
  std::string errcode = "M_UNKNOWN";
  std::string message;                                   // for people; never holds a token or a path of the host
  std::optional<std::chrono::milliseconds> retry_after;  // sent as Retry-After, rounded up to seconds
  bool soft_logout = false;                              // passed on from the homeserver with M_UNKNOWN_TOKEN

  bool operator==(const Error&) const = default;
};

template <class T = void>
using Result = std::expected<T, Error>;

using Failure = std::unexpected<Error>;

/// The refusals that more than one room gives. `Failure` converts to any Result.
namespace fail {

inline Failure with(int status, std::string_view errcode, std::string_view message) {
  return Failure(Error{status, std::string(errcode), std::string(message), {}, false});
}
inline Failure not_found(std::string_view message) { return with(404, "M_NOT_FOUND", message); }
inline Failure forbidden(std::string_view message) { return with(403, "M_FORBIDDEN", message); }
inline Failure invalid_param(std::string_view message) { return with(400, "M_INVALID_PARAM", message); }
inline Failure too_large(std::string_view message) { return with(413, "M_TOO_LARGE", message); }
inline Failure not_yet_uploaded() { return with(504, "M_NOT_YET_UPLOADED", "Content has not yet been uploaded"); }
inline Failure limit_exceeded(std::string_view message, std::chrono::milliseconds retry_after) {
  return Failure(Error{429, "M_LIMIT_EXCEEDED", std::string(message), retry_after, false});
}
inline Failure unavailable(std::string_view message, std::chrono::milliseconds retry_after) {
  return Failure(Error{503, "M_UNKNOWN", std::string(message), retry_after, false});
}
/// Nobody sees this answer, and it is no refusal: it has no errcode. 499 is what logs use for it.
inline Failure client_left() { return with(499, "", "The client went away"); }
inline Failure internal(std::string_view message) { return with(500, "M_UNKNOWN", message); }

/// What a failed system call means to a client: 507 when space ran out, 503 when descriptors did, else 500.
Failure from_system(std::error_code code, std::string_view doing);

}  // namespace fail
}  // namespace sluice
