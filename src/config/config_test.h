// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"

namespace sluice::config {

using Variables = std::map<std::string, std::string>;

inline Environment environment_of(const Variables& variables) {
  Environment environment;
  environment.names = [variables] {
    std::vector<std::string> names;
    for (const auto& [name, value] : variables) names.push_back(name);
    return names;
  };
  environment.get = [variables](const std::string& name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    if (found == variables.end()) return std::nullopt;
    return found->second;
  };
  return environment;
}

inline std::vector<std::string> mistakes_in(std::string_view yaml, const Variables& variables = {}) {
  const auto config = parse(yaml, "s.yaml", environment_of(variables));
  std::vector<std::string> texts;
  if (!config) {
    for (const Mistake& mistake : config.error()) texts.push_back(mistake.to_string());
  }
  return texts;
}

inline Config parsed(std::string_view yaml, const Variables& variables = {}) {
  auto config = parse(yaml, "s.yaml", environment_of(variables));
  EXPECT_TRUE(config) << (config ? "" : config.error().front().to_string());
  return config.value_or(Config{});
}

inline const std::string kMinimal = "homeservers: [{server_name: example.org}]\n";

}  // namespace sluice::config
