// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "config/config.h"

namespace sluice::config {

/// A key whose value differs between two configurations.
struct Change {
  std::string key;  // dotted; homeservers by name: "homeservers[example.org].uploads.max_size"
  std::string before;
  std::string after;
  bool is_secret = false;  // tokens: then both values are empty
  /// "uploads.max_size: now 200MiB, was 100MiB"
  std::string to_string() const;
};

/// What becomes of a running server's configuration when another one is read.
struct Reload {
  Config in_force;                      // what was read, with the running values of the keys that need a restart
  std::vector<Change> applied;          // from the running one to that
  std::vector<Change> needing_restart;  // from that to what was read
};

/// Homeservers stay those that run, in their order: their tokens, administrators and own limits are taken from what was
/// read, found by name.
Reload plan_reload(const Config& running, const Config& read);

}  // namespace sluice::config
