// SPDX-License-Identifier: Apache-2.0
#include "repository/quota.h"

#include <algorithm>
#include <utility>

#include "repository/repository.h"

namespace sluice::repository {

bool matches_pattern(std::string_view pattern, std::string_view text) {
  // Where the last * was, and how much of the text it stands for: what does not fit is tried again with one more. That
  // an earlier * might stand for more need never be tried.
  std::optional<std::string_view> after_star;
  std::string_view retry;
  while (!text.empty()) {
    if (!pattern.empty() && pattern.front() == '*') {
      pattern.remove_prefix(1);
      after_star = pattern;
      retry = text;
    } else if (!pattern.empty() && pattern.front() == text.front()) {
      pattern.remove_prefix(1);
      text.remove_prefix(1);
    } else if (after_star) {
      retry.remove_prefix(1);
      pattern = *after_star;
      text = retry;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*') == std::string_view::npos;
}

void Quotas::replace(const std::vector<config::Quota>& quotas) {
  std::vector<Rule> rules;
  for (const config::Quota& quota : quotas) {
    Rule rule{quota.users, {.max_files = quota.max_files, .max_bytes = quota.max_bytes, .window = {}}};
    if (quota.window.bytes) rule.allowance.window = {*quota.window.bytes, quota.window.per};
    rules.push_back(std::move(rule));
  }
  const std::lock_guard lock(mutex_);
  rules_ = std::move(rules);
}

std::optional<catalog::Allowance> Quotas::find(std::string_view user) const {
  const std::lock_guard lock(mutex_);
  const auto rule = std::ranges::find_if(rules_, [user](const Rule& r) { return matches_pattern(r.users, user); });
  if (rule == rules_.end() || rule->allowance.is_unlimited()) return std::nullopt;
  return rule->allowance;
}

std::unique_ptr<Quotas::Share> Quotas::begin(const std::string& user, std::optional<std::uint64_t> size) {
  const std::optional<catalog::Allowance> allowance = find(user);
  if (!allowance) return nullptr;
  return std::make_unique<Share>(*this, *allowance, user, size);
}

Quotas::Share::Share(Quotas& quotas, const catalog::Allowance& allowance, std::string user,
                     std::optional<std::uint64_t> size)
    : quotas_(quotas),
      allowance_(allowance),
      user_(std::move(user)),
      may_grow_(!size.has_value()),
      bytes_(size.value_or(0)) {
  const std::lock_guard lock(quotas_.mutex_);
  catalog::Usage& running = quotas_.running_[user_];
  ++running.files;
  running.bytes += bytes_;
}

Quotas::Share::~Share() {
  const std::lock_guard lock(quotas_.mutex_);
  const auto found = quotas_.running_.find(user_);
  found->second.bytes -= bytes_;
  if (--found->second.files == 0) quotas_.running_.erase(found);
}

catalog::Usage Quotas::Share::running() const {
  const std::lock_guard lock(quotas_.mutex_);
  return quotas_.running_.at(user_);
}

Result<> Quotas::Share::grow(std::uint64_t bytes) {
  if (!may_grow_) return {};
  if (bytes > room_ - bytes_) return fail::forbidden("This is more than you may store here");
  bytes_ += bytes;
  const std::lock_guard lock(quotas_.mutex_);
  quotas_.running_.at(user_).bytes += bytes;
  return {};
}

// ---- the seam ----

Task<Result<std::unique_ptr<Quotas::Share>>> Repository::take_share(const std::string& user,
                                                                    std::optional<std::uint64_t> size) {
  std::unique_ptr<Quotas::Share> share = quotas_.begin(user, size);
  if (!share) co_return nullptr;
  const auto& window = share->allowance().window;
  if (window && size.value_or(0) > window->max_bytes) {
    co_return fail::forbidden("This is more than you may upload, however long you wait");
  }
  // The share first, then what is stored: an upload that ends in between counts twice, and never not at all.
  const Result<std::uint64_t> room = co_await look_pool_.run(
      [&, running = share->running()] { return catalog_.check_room(user, running, share->allowance(), clock_.now()); });
  if (!room) co_return std::unexpected(room.error());
  share->set_room(*room);
  co_return share;
}

Task<Result<catalog::Usage>> Repository::usage(std::string user) {
  co_return co_await look_pool_.run([&] { return catalog_.usage(user); });
}

}  // namespace sluice::repository
