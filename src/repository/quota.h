// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "catalog/catalog.h"
#include "config/config.h"

namespace sluice::repository {

/// True when `text` is what `pattern` says, in which each * stands for any characters, or none.
bool matches_pattern(std::string_view pattern, std::string_view text);

/// Which quota is whose, and what the running uploads of those who have one will add to what is stored: so uploads that
/// run at the same time cannot pass it together. What is stored the catalog counts. From any thread.
class Quotas {
 public:
  explicit Quotas(const std::vector<config::Quota>& quotas) { replace(quotas); }
  /// For what begins from now on.
  void replace(const std::vector<config::Quota>& quotas);

  /// What one running upload will add, from construction to destruction. Used by one thread at a time.
  class Share {
   public:
    /// Without a size, it grows as bytes come.
    Share(Quotas& quotas, const catalog::Allowance& allowance, std::string user, std::optional<std::uint64_t> size);
    Share(const Share&) = delete;
    Share& operator=(const Share&) = delete;
    ~Share();

    const catalog::Allowance& allowance() const { return allowance_; }
    /// Of all running uploads of the user, this one included.
    catalog::Usage running() const;
    /// How far it may grow.
    void set_room(std::uint64_t room) { room_ = room; }
    /// 403 M_FORBIDDEN beyond the room. A share that came with its size has counted the bytes already.
    Result<> grow(std::uint64_t bytes);

   private:
    Quotas& quotas_;
    const catalog::Allowance allowance_;
    const std::string user_;
    const bool may_grow_;
    std::uint64_t bytes_;
    std::uint64_t room_ = 0;
  };

  /// Null when nothing limits the user.
  std::unique_ptr<Share> begin(const std::string& user, std::optional<std::uint64_t> size);
  /// Nothing when nothing limits the user.
  std::optional<catalog::Allowance> find(std::string_view user) const;

 private:
  struct Rule {
    std::string users;
    catalog::Allowance allowance;
  };

  mutable std::mutex mutex_;  // guards the next two
  std::vector<Rule> rules_;
  std::unordered_map<std::string, catalog::Usage> running_;  // as many as there are uploads, at most
};

}  // namespace sluice::repository
