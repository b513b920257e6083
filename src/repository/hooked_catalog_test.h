// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "catalog/catalog.h"

namespace sluice::repository {

/// A catalog for tests: passes calls on to a real one, runs what a test wants done just before and after a lookup, and
/// fails where it is told. From any thread.
class HookedCatalog final : public catalog::Catalog {
 public:
  explicit HookedCatalog(catalog::Catalog& real) : real_(real) {}

  struct FindHooks {
    std::function<void(int lookup)> before = [](int) {};
    std::function<void(int lookup)> after = [](int) {};  // the real answer is known and not yet given
  };

  /// From now on the hooks are told of each lookup, with its number from 1, on the thread that looks. What looks while
  /// a hook runs, on whatever thread, is neither told nor counted: a hook may use the repository.
  void set_find_hooks(FindHooks hooks) {
    const std::lock_guard lock(mutex_);
    hooks_ = std::make_shared<const FindHooks>(std::move(hooks));
    lookups_ = 0;
  }
  void clear_find_hooks() {
    const std::lock_guard lock(mutex_);
    hooks_ = nullptr;
  }

  /// Runs before each store, on its thread.
  void set_store_hook(std::function<void()> before_store) {
    const std::lock_guard lock(mutex_);
    before_store_ = std::move(before_store);
  }

  /// Runs before each removal, on its thread.
  void set_remove_hook(std::function<void()> before_remove) {
    const std::lock_guard lock(mutex_);
    before_remove_ = std::move(before_remove);
  }

  /// The next call of that kind fails, in the order of these calls.
  void fail_find(Error error) { push(find_errors_, std::move(error)); }
  void fail_store(Error error) { push(store_errors_, std::move(error)); }
  void fail_reserve(Error error) { push(reserve_errors_, std::move(error)); }
  /// Also takes back all that was changed together.
  void fail_commit(Error error) { push(commit_errors_, std::move(error)); }
  void fail_check(Error error) { push(check_errors_, std::move(error)); }

  /// How often something was changed together.
  std::size_t commits() const { return commits_; }

  Result<> reserve(const catalog::Reservation& reservation, std::uint32_t max_pending) override {
    if (const auto error = pop(reserve_errors_)) return Failure(*error);
    return real_.reserve(reservation, max_pending);
  }
  Result<catalog::Record> find(const Mxc& mxc) override {
    const auto [hooks, lookup] = count_lookup();
    if (hooks) run(hooks->before, lookup);
    Result<catalog::Record> record = real_.find(mxc);
    if (hooks) run(hooks->after, lookup);
    if (const auto error = pop(find_errors_)) return Failure(*error);
    return record;
  }
  using Catalog::store;
  Result<> store(const catalog::StoredMedia& media, const catalog::Allowance& allowance) override {
    if (const auto before_store = store_hook()) before_store();
    if (const auto error = pop(store_errors_)) return Failure(*error);
    return real_.store(media, allowance);
  }
  Result<catalog::Usage> usage(std::string_view user) override { return real_.usage(user); }
  Result<std::uint64_t> check_room(std::string_view user, const catalog::Usage& wanted,
                                   const catalog::Allowance& allowance, WallTime now) override {
    return real_.check_room(user, wanted, allowance, now);
  }
  Result<bool> remove(const catalog::Record& found) override {
    if (const auto before_remove = remove_hook()) before_remove();
    return real_.remove(found);
  }
  Result<std::size_t> quarantine(std::span<const Sha256Digest> contents) override { return real_.quarantine(contents); }
  Result<std::size_t> release(std::span<const Sha256Digest> contents) override { return real_.release(contents); }
  Result<std::vector<catalog::StoredMedia>> stored_by(std::string_view user,
                                                      const std::optional<catalog::StoredMedia>& last,
                                                      std::size_t limit) override {
    return real_.stored_by(user, last, limit);
  }
  Result<bool> refers_to(const Sha256Digest& sha256) override { return real_.refers_to(sha256); }
  Result<std::size_t> reap(WallTime now, std::size_t limit) override { return real_.reap(now, limit); }
  Result<> in_one_transaction(const std::function<void()>& work) override {
    ++commits_;
    const auto error = pop(commit_errors_);
    if (!error) return real_.in_one_transaction(work);
    struct TakenBack {};
    try {
      (void)real_.in_one_transaction([&] {
        work();
        throw TakenBack();
      });
    } catch (const TakenBack&) {
    }
    return Failure(*error);
  }
  Result<> check() override {
    if (const auto error = pop(check_errors_)) return Failure(*error);
    return real_.check();
  }

 private:
  struct Lookup {
    std::shared_ptr<const FindHooks> hooks;  // null: tell nobody
    int number = 0;
  };

  Lookup count_lookup() {
    const std::lock_guard lock(mutex_);
    if (!hooks_ || is_in_hook_) return {};
    return {hooks_, ++lookups_};
  }
  void run(const std::function<void(int)>& hook, int lookup) {
    set_in_hook(true);
    hook(lookup);
    set_in_hook(false);
  }
  void set_in_hook(bool is_in_hook) {
    const std::lock_guard lock(mutex_);
    is_in_hook_ = is_in_hook;
  }

  std::function<void()> store_hook() {
    const std::lock_guard lock(mutex_);
    return before_store_;
  }

  std::function<void()> remove_hook() {
    const std::lock_guard lock(mutex_);
    return before_remove_;
  }

  void push(std::deque<Error>& errors, Error error) {
    const std::lock_guard lock(mutex_);
    errors.push_back(std::move(error));
  }
  std::optional<Error> pop(std::deque<Error>& errors) {
    const std::lock_guard lock(mutex_);
    if (errors.empty()) return std::nullopt;
    Error error = std::move(errors.front());
    errors.pop_front();
    return error;
  }

  catalog::Catalog& real_;
  std::atomic<std::size_t> commits_{0};
  std::mutex mutex_;  // guards all below
  std::shared_ptr<const FindHooks> hooks_;
  int lookups_ = 0;
  bool is_in_hook_ = false;
  std::function<void()> before_store_, before_remove_;
  std::deque<Error> find_errors_, store_errors_, reserve_errors_, commit_errors_, check_errors_;
};

}  // namespace sluice::repository
