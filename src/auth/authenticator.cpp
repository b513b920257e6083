// SPDX-License-Identifier: Apache-2.0
#include "auth/authenticator.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "auth/answer_cache.h"
#include "auth/turns.h"
#include "auth/whoami.h"
#include "base/sha256.h"
#include "base/text.h"
#include "runtime/loop.h"
#include "runtime/signal.h"
#include "runtime/snapshot.h"

namespace sluice::auth {
namespace {

// No homeserver makes longer tokens; JSON web tokens stay below it as well.
constexpr std::size_t kMaxTokenBytes = 4096;
// Of a user id; source: appendices, "User Identifiers".
constexpr std::size_t kMaxUserIdBytes = 255;
// Refusals live for seconds, so a small share of the entries is plenty for them.
constexpr std::size_t kRefusedShare = 8;
// A small cache is one, or chance would make it smaller.
constexpr std::size_t kShards = 16;
constexpr std::size_t kManyEntries = 4096;
// While the homeserver answers, there is soon room again.
constexpr std::chrono::milliseconds kCrowdedRetry = std::chrono::seconds(1);
// A homeserver that is down is worth one line in the log now and then, not one for each request.
constexpr std::chrono::milliseconds kComplaintInterval = std::chrono::seconds(10);

bool is_sane(std::string_view token) {
  return token.size() <= kMaxTokenBytes && std::ranges::all_of(token, [](char c) { return c >= ' ' && c <= '~'; });
}

// Unambiguous: a sane token contains no NUL.
Sha256Digest cache_key(std::string_view token, std::string_view user_id) {
  std::string both(token);
  both.append(1, '\0').append(user_id);
  return sha256(both);
}

bool is_refusal(const Result<Requester>& answer) {
  return !answer && (answer.error().http_status == 401 || answer.error().http_status == 403);
}

// One question to the homeserver, and everyone who waits for its answer. It belongs to none of them: it has a
// coroutine of its own, which ends whatever becomes of the one that began it.
struct Flight {
  // Guarded by its shard's mutex.
  std::vector<std::shared_ptr<Signal>> waiting;
  std::optional<Result<Requester>> answer;
};

// What all loops share. Each flight holds it too, so it lasts until the last of them has landed.
struct Questions {
  Questions(const config::Homeserver& homeserver, const config::Config::Auth& the_limits, const Clock& clock)
      : server_name(homeserver.server_name),
        client_api(homeserver.client_api.value_or("")),
        limits(the_limits),
        turns(kMaxQuestionsUnderWay, kMaxQuestionsWaiting, clock) {
    const std::size_t count = the_limits.cache_entries < kManyEntries ? 1 : kShards;
    for (std::size_t i = 0; i < count; ++i) shards.push_back(std::make_unique<Shard>(the_limits.cache_entries / count));
  }

  const std::string server_name;
  const std::string client_api;  // empty: nobody to ask
  const config::Config::Auth limits;
  Turns turns;

  // By token, so that loops that ask for different ones do not wait for each other.
  struct alignas(64) Shard {
    explicit Shard(std::size_t entries)
        : accepted(entries), refused(std::max<std::size_t>(entries / kRefusedShare, 16)) {}
    std::mutex mutex;
    AnswerCache accepted;                                         // guarded by mutex
    AnswerCache refused;                                          // guarded by mutex; apart, as anybody can fill it
    std::map<AnswerCache::Key, std::shared_ptr<Flight>> flights;  // guarded by mutex; each has a request that waits

    // Under the mutex.
    std::optional<Result<Requester>> answer_to(const AnswerCache::Key& key, SteadyTime now) {
      for (AnswerCache* cache : {&accepted, &refused}) {
        if (const auto* answer = cache->find(key, now)) return *answer;
      }
      return std::nullopt;
    }
  };
  Shard& shard_of(const AnswerCache::Key& key) {
    return *shards[std::to_integer<std::size_t>(key.bytes[0]) % shards.size()];
  }
  std::vector<std::unique_ptr<Shard>> shards;

  std::mutex complaint_mutex;
  SteadyTime next_complaint{};  // guarded by complaint_mutex

  std::optional<Result<Requester>> answer_to(const AnswerCache::Key& key, SteadyTime now);
  void land(const AnswerCache::Key& key, Flight& flight, Result<Requester> answer, SteadyTime asked_at);
  void complain(std::string_view what, SteadyTime now);
};

std::optional<Result<Requester>> Questions::answer_to(const AnswerCache::Key& key, SteadyTime now) {
  Shard& shard = shard_of(key);
  const std::lock_guard lock(shard.mutex);
  return shard.answer_to(key, now);
}

// Out of the air and into the cache under one lock: nobody can miss both, so nobody asks twice.
void Questions::land(const AnswerCache::Key& key, Flight& flight, Result<Requester> answer, SteadyTime asked_at) {
  std::vector<std::shared_ptr<Signal>> waiting;
  Shard& shard = shard_of(key);
  {
    const std::lock_guard lock(shard.mutex);
    // Ages count from the asking: the answer may have been on its way for a while.
    if (answer) {
      shard.accepted.keep(key, answer, asked_at + limits.cache_age);
    } else if (is_refusal(answer)) {
      shard.refused.keep(key, answer, asked_at + limits.refusal_cache_age);
    }
    flight.answer = std::move(answer);
    shard.flights.erase(key);
    waiting.swap(flight.waiting);
  }
  for (const std::shared_ptr<Signal>& signal : waiting) signal->raise(Wake::kProgress);
}

void Questions::complain(std::string_view what, SteadyTime now) {
  {
    const std::lock_guard lock(complaint_mutex);
    if (now < next_complaint) return;
    next_complaint = now + kComplaintInterval;
  }
  spdlog::warn("whoami of {}: {}", server_name, what);
}

// Whom the configuration knows.
struct Known {
  explicit Known(const config::Homeserver& homeserver) : admins(homeserver.admins.begin(), homeserver.admins.end()) {
    for (const config::StaticToken& entry : homeserver.tokens) {
      tokens[sha256(entry.token)] = Requester{.user = entry.user, .admin = entry.admin, .guest = false};
    }
  }
  std::set<std::string, std::less<>> admins;
  std::map<Sha256Digest, Requester> tokens;  // by the token's digest, so that no comparison leaks a token
};

class CachingAuthenticator final : public Authenticator {
 public:
  CachingAuthenticator(const config::Homeserver& homeserver, const config::Config::Auth& limits,
                       outbound::Client& client, const Clock& clock);

  std::optional<Result<Requester>> recall(std::string_view token, std::string_view user_id) override;
  Task<Result<Requester>> identify(Credentials credentials) override;
  void replace_known(const config::Homeserver& homeserver, std::span<Loop* const> loops) override {
    known_.replace(Known(homeserver), loops);
  }

 private:
  std::optional<Result<Requester>> recognize(std::string_view token, std::string_view user_id);
  Result<Requester> with_admins(Result<Requester> requester) const;
  Task<Result<Requester>> ask_homeserver(Credentials credentials);
  static Task<void> fly(std::shared_ptr<Questions> questions, std::shared_ptr<Flight> flight, AnswerCache::Key key,
                        Credentials credentials, outbound::Client& client, const Clock& clock);
  static Task<Result<Requester>> ask(Questions& questions, const Credentials& credentials, outbound::Client& client,
                                     const Clock& clock);

  Snapshot<Known> known_;
  outbound::Client& client_;
  const Clock& clock_;
  const std::shared_ptr<Questions> questions_;
};

CachingAuthenticator::CachingAuthenticator(const config::Homeserver& homeserver, const config::Config::Auth& limits,
                                           outbound::Client& client, const Clock& clock)
    : known_(Known(homeserver)),
      client_(client),
      clock_(clock),
      questions_(std::make_shared<Questions>(homeserver, limits, clock)) {}

Task<Result<Requester>> CachingAuthenticator::identify(Credentials credentials) {
  if (auto known = recall(credentials.token, credentials.user_id)) co_return *std::move(known);
  co_return with_admins(co_await ask_homeserver(std::move(credentials)));
}

std::optional<Result<Requester>> CachingAuthenticator::recall(std::string_view token, std::string_view user_id) {
  auto known = recognize(token, user_id);
  if (known) known = with_admins(*std::move(known));
  return known;
}

Result<Requester> CachingAuthenticator::with_admins(Result<Requester> requester) const {
  const auto& admins = known_.read().admins;
  if (requester && !admins.empty() && admins.contains(requester->user)) requester->admin = true;
  return requester;
}

std::optional<Result<Requester>> CachingAuthenticator::recognize(std::string_view token, std::string_view user_id) {
  if (token.empty()) return fail::with(401, "M_MISSING_TOKEN", "An access token is missing");
  const auto& tokens = known_.read().tokens;
  if (!tokens.empty()) {
    const auto known = tokens.find(sha256(token));
    if (known != tokens.end()) return known->second;
  }
  if (questions_->client_api.empty() || !is_sane(token)) {
    return fail::with(401, "M_UNKNOWN_TOKEN", "Unknown access token");
  }
  if (user_id.size() > kMaxUserIdBytes || has_control_characters(user_id)) {
    return fail::invalid_param("user_id is not a user id");
  }
  return questions_->answer_to(cache_key(token, user_id), clock_.steady());
}

Task<Result<Requester>> CachingAuthenticator::ask_homeserver(Credentials credentials) {
  const AnswerCache::Key key = cache_key(credentials.token, credentials.user_id);
  std::shared_ptr<Signal> signal;
  std::shared_ptr<Flight> flight;
  bool first = false;
  Questions::Shard& shard = questions_->shard_of(key);
  {
    const std::lock_guard lock(shard.mutex);
    if (auto answer = shard.answer_to(key, clock_.steady())) co_return *std::move(answer);
    std::shared_ptr<Flight>& slot = shard.flights[key];
    first = slot == nullptr;
    if (first) slot = std::make_shared<Flight>();
    flight = slot;
    signal = std::make_shared<Signal>(Loop::current());
    flight->waiting.push_back(signal);
  }
  if (first) spawn(fly(questions_, flight, key, std::move(credentials), client_, clock_));
  for (;;) {
    co_await signal->wait();
    const std::lock_guard lock(shard.mutex);
    if (flight->answer) co_return *flight->answer;
  }
}

// Once it has landed, the authenticator, the client and the clock may be gone.
Task<void> CachingAuthenticator::fly(std::shared_ptr<Questions> questions, std::shared_ptr<Flight> flight,
                                     AnswerCache::Key key, Credentials credentials, outbound::Client& client,
                                     const Clock& clock) {
  SteadyTime asked_at = clock.steady();
  Result<Requester> answer;
  switch (co_await questions->turns.take(credentials.client_network, asked_at + questions->limits.timeout)) {
    case Turns::Outcome::kCrowded:
      answer = fail::limit_exceeded("Too many new access tokens at once", kCrowdedRetry);
      break;
    case Turns::Outcome::kTooLate:
      answer = fail::unavailable("The homeserver has too many questions to answer", kCrowdedRetry);
      questions->complain("more new tokens than it can answer for", clock.steady());
      break;
    case Turns::Outcome::kGranted:
      asked_at = clock.steady();
      answer = co_await ask(*questions, credentials, client, clock);
      questions->turns.give_back();
      break;
  }
  questions->land(key, *flight, std::move(answer), asked_at);
}

// Never throws: those who wait must not wait for ever, and there is no one request to break.
Task<Result<Requester>> CachingAuthenticator::ask(Questions& questions, const Credentials& credentials,
                                                  outbound::Client& client, const Clock& clock) {
  try {
    const auto outcome =
        co_await client.get(whoami_request(questions.client_api, questions.limits.timeout, credentials));
    Result<Requester> answer = read_whoami(outcome, questions.server_name);
    if (!answer && answer.error().http_status >= 500) {
      questions.complain(outcome ? answer.error().message : outcome.error().message, clock.steady());
    }
    co_return answer;
  } catch (const std::exception& exception) {
    questions.complain(exception.what(), clock.steady());
    co_return fail::internal("The homeserver could not be asked");
  }
}

}  // namespace

std::unique_ptr<Authenticator> make_authenticator(const config::Homeserver& homeserver,
                                                  const config::Config::Auth& limits, outbound::Client& client,
                                                  const Clock& clock) {
  return std::make_unique<CachingAuthenticator>(homeserver, limits, client, clock);
}

}  // namespace sluice::auth
