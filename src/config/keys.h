// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sluice::config {

struct KnownKey {
  std::string key;            // dotted, a list's element as []: "homeservers[].server_name"
  std::string default_value;  // as in YAML; empty when there is none
};

/// Every key that holds a value, in the order of the documentation. Callable from any thread.
const std::vector<KnownKey>& known_keys();

/// The environment variable that sets a dotted key: SLUICE_HOMESERVERS_0_SERVER_NAME for "homeservers[0].server_name".
std::string variable_of(std::string_view key);

}  // namespace sluice::config
