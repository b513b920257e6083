// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/error.h"
#include "config/config.h"
#include "outbound/client.h"
#include "runtime/loop.h"
#include "runtime/task.h"

namespace sluice::auth {

/// Who is asking.
struct Requester {
  std::string user;  // a full user id
  bool admin = false;
  bool guest = false;
};

/// What was presented. `token` is empty when none was.
struct Credentials {
  std::string token;
  std::string user_id;  // ?user_id= of application services; empty if absent
  // Passed on with a question to the homeserver, which tells its users from where their sessions were used; else it
  // would tell them of us. Empty: unknown.
  std::string client_address;
  std::string user_agent;
  // Whose turn it is when many ask. Empty: unknown, as others are.
  std::string client_network;
};

/// Questions under way to one homeserver. `outbound` sends a few more at once, so they do not wait again there.
inline constexpr std::size_t kMaxQuestionsUnderWay = 48;
/// Questions of one client network that wait for their turn. A bridge asks once for each of its users, and after a
/// restart many of them may speak at once.
inline constexpr std::size_t kMaxQuestionsWaiting = 1024;

/// Tells who is asking, for one homeserver: by its static tokens, then by the homeserver's
/// `GET /_matrix/client/v3/account/whoami`, whose answers are cached for `auth.cache_age` and asked for once however
/// many requests bring the same new token at the same time. Tokens are kept only as SHA-256 digests.
///
/// Refusals: 401 M_MISSING_TOKEN without a token; 401 M_UNKNOWN_TOKEN for one nobody knows; the homeserver's own
/// 401 and 403 with their errcode (locked, deactivated, not this application service's user), 429 with Retry-After; a
/// homeserver that is down, slow or talks nonsense is 503 with Retry-After or 502, never a 401, and never cached.
/// A user_id that can be none (over 255 bytes, control characters) is 400 M_INVALID_PARAM.
///
/// The client networks take turns to ask, so that nobody keeps others from asking by making tokens up. A question that
/// does not get its turn within `auth.timeout` is 503; one more than kMaxQuestionsWaiting of a network is 429
/// M_LIMIT_EXCEEDED.
///
/// A question to the homeserver belongs to none of the requests that wait for its answer. Whoami does not tell who is
/// an admin: the configuration does, by token or by user.
///
/// From any loop.
class Authenticator {
 public:
  virtual ~Authenticator() = default;
  /// What `identify` would yield, if that is known without asking the homeserver. Never blocks.
  virtual std::optional<Result<Requester>> recall(std::string_view token, std::string_view user_id) = 0;
  virtual Task<Result<Requester>> identify(Credentials credentials) = 0;
  /// Takes over the tokens and administrators of `homeserver`, the same one. `loops` are all that ask here. One thread
  /// at a time.
  virtual void replace_known(const config::Homeserver& homeserver, std::span<Loop* const> loops) = 0;
};

/// `client` and `clock` must outlive the authenticator.
std::unique_ptr<Authenticator> make_authenticator(const config::Homeserver& homeserver,
                                                  const config::Config::Auth& limits, outbound::Client& client,
                                                  const Clock& clock);

}  // namespace sluice::auth
