// SPDX-License-Identifier: Apache-2.0
#include "transfer/text_table.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>

namespace sluice::transfer {
namespace {

struct Number {
  int number = 0;
};

TEST(TextTable, FindsWhatWasAddedOnly) {
  TextTable<Number> table;
  EXPECT_EQ(table.find(TextKey("one")), nullptr);
  auto& entry = table.add(TextKey("one"));
  EXPECT_EQ(entry.text(), "one");
  EXPECT_EQ(table.find(TextKey("one")), &entry);
  EXPECT_EQ(table.find(TextKey("two")), nullptr);
  table.remove(entry);
  EXPECT_EQ(table.find(TextKey("one")), nullptr);
  EXPECT_EQ(table.size(), 0u);
}

TEST(TextTable, TellsTextsOfOneHashApart) {
  TextTable<Number> table;
  TextKey one("one");
  TextKey two("two");
  TextKey three("three");
  one.hash = two.hash = three.hash = 7;
  auto& first = table.add(one);
  auto& second = table.add(two);
  EXPECT_EQ(table.find(one), &first);
  EXPECT_EQ(table.find(two), &second);
  EXPECT_EQ(table.find(three), nullptr);
  table.remove(first);
  EXPECT_EQ(table.find(one), nullptr);
  EXPECT_EQ(table.find(two), &second);
}

TEST(TextTable, KeepsTextsOfAnyLengthAndContent) {
  TextTable<Number> table;
  const std::string texts[] = {"", std::string(1, '\0'), std::string(100'000, 'x'), std::string(100'001, 'x')};
  for (const std::string& text : texts) table.add(TextKey(text));
  for (const std::string& text : texts) {
    ASSERT_NE(table.find(TextKey(text)), nullptr);
    EXPECT_EQ(table.find(TextKey(text))->text(), text);
  }
}

// Through growing and shrinking, beside a std::map.
TEST(TextTable, DoesWhatAMapDoes) {
  for (unsigned seed = 1; seed <= 5; ++seed) {
    std::minstd_rand random(seed);
    TextTable<Number> table;
    std::map<std::string, TextTable<Number>::Entry*> model;
    for (int act = 0; act < 20'000; ++act) {
      const std::string text = "text " + std::to_string(random() % 3'000);
      const TextKey key(text);
      const bool is_growing = act / 5'000 % 2 == 0;
      const auto known = model.find(text);
      ASSERT_EQ(table.find(key), known == model.end() ? nullptr : known->second) << "seed " << seed;
      if (known == model.end()) {
        if (!is_growing && random() % 8 != 0) continue;
        auto& entry = table.add(key);
        entry.value.number = act;
        model[text] = &entry;
      } else if (!is_growing || random() % 8 == 0) {
        table.remove(*known->second);
        model.erase(known);
      }
      ASSERT_EQ(table.size(), model.size());
    }
    std::size_t visited = 0;
    table.for_each([&](TextTable<Number>::Entry& entry) {
      ++visited;
      EXPECT_EQ(model.at(std::string(entry.text())), &entry);
    });
    EXPECT_EQ(visited, model.size());
  }
}

}  // namespace
}  // namespace sluice::transfer
