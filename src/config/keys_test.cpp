// SPDX-License-Identifier: Apache-2.0
#include "config/keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "config/config.h"

namespace sluice::config {
namespace {

using testing::HasSubstr;

std::string file_text(const std::string& path) {
  std::ifstream file(SLUICE_SOURCE_DIR "/" + path);
  EXPECT_TRUE(file.is_open()) << path;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(Keys, EveryKeyHasItsOwnVariable) {
  std::set<std::string> names;
  for (const KnownKey& known : known_keys()) EXPECT_TRUE(names.insert(variable_of(known.key)).second) << known.key;
  EXPECT_EQ(variable_of("homeservers[0].tokens[12].token"), "SLUICE_HOMESERVERS_0_TOKENS_12_TOKEN");
}

TEST(Keys, TheExampleIsGoodAndShowsEveryKey) {
  const auto config = load(SLUICE_SOURCE_DIR "/docs/examples/sluice.yaml", {});
  ASSERT_TRUE(config) << config.error().front().to_string();
  const std::string text = file_text("docs/examples/sluice.yaml");
  for (const KnownKey& known : known_keys()) {
    EXPECT_THAT(text, HasSubstr(known.key.substr(known.key.rfind('.') + 1) + ":")) << known.key;
  }
}

TEST(Keys, EveryKeyIsDocumentedWithItsDefaultAndVariable) {
  std::map<std::string, std::string> rows;  // of the tables, by key
  std::stringstream text(file_text("docs/configuration.md"));
  for (std::string line; std::getline(text, line);) {
    if (line.starts_with("| `")) rows[line.substr(3, line.find('`', 3) - 3)] = line;
  }
  for (const auto& [key, default_value] : known_keys()) {
    std::string variable = variable_of(key);
    for (std::size_t at; (at = variable.find("__")) != std::string::npos;) variable.insert(at + 1, "0");
    EXPECT_THAT(rows[key], HasSubstr("`" + variable + "`")) << key;
    if (!default_value.empty()) EXPECT_THAT(rows[key], HasSubstr("| `" + default_value + "` |")) << key;
    rows.erase(key);
  }
  for (const auto& [key, row] : rows) ADD_FAILURE() << "documented, but no key: " << key;
}

}  // namespace
}  // namespace sluice::config
