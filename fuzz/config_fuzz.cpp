// SPDX-License-Identifier: Apache-2.0
// Input: YAML, then for each variable a NUL byte and `NAME=VALUE`, where NAME lacks its SLUICE_. Whatever it is, parse
// gives a Config or mistakes; and a Config, printed and given its tokens again, is read back to the same.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/text.h"
#include "config/config.h"

namespace {

using sluice::config::Config;
using sluice::config::Environment;

Environment environment_of(const std::map<std::string, std::string>& variables) {
  Environment environment;
  environment.names = [&variables] {
    std::vector<std::string> names;
    for (const auto& [name, value] : variables) names.push_back(name);
    return names;
  };
  environment.get = [&variables](const std::string& name) { return std::optional(variables.at(name)); };
  return environment;
}

void require(bool condition) {
  if (!condition) std::abort();
}

void check_reading_back(const Config& config) {
  std::map<std::string, std::string> tokens;
  for (std::size_t i = 0; i < config.homeservers.size(); ++i) {
    for (std::size_t j = 0; j < config.homeservers[i].tokens.size(); ++j) {
      const std::string name = "SLUICE_HOMESERVERS_" + std::to_string(i) + "_TOKENS_" + std::to_string(j) + "_TOKEN";
      tokens[name] = config.homeservers[i].tokens[j].token;
    }
  }
  const std::string text = to_yaml(config);
  const auto again = sluice::config::parse(text, "printed", environment_of(tokens));
  require(again.has_value());
  require(to_yaml(*again) == text);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string input(data, data + size);
  const std::vector<std::string_view> parts = sluice::split(input, '\0');
  std::map<std::string, std::string> variables;
  for (const std::string_view part : std::span(parts).subspan(1)) {
    const std::size_t equals = std::min(part.find('='), part.size());
    variables["SLUICE_" + std::string(part.substr(0, equals))] = part.substr(std::min(equals + 1, part.size()));
  }
  const auto config = sluice::config::parse(parts.front(), "fuzz.yaml", environment_of(variables));
  if (config) {
    check_reading_back(*config);
  } else {
    require(!config.error().empty());
    for (const auto& mistake : config.error()) {
      const std::string text = mistake.to_string();
      require(sluice::is_utf8(text) && !sluice::has_control_characters(text));
    }
  }
  return 0;
}
