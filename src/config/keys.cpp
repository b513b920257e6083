// SPDX-License-Identifier: Apache-2.0
#include "config/keys.h"

#include <fmt/ranges.h>

#include "config/schema.h"

namespace sluice::config {
namespace {

/// The visitor that only looks which keys there are.
class KeyCollector {
 public:
  KeyCollector(std::string section, std::vector<KnownKey>& keys) : section_(std::move(section)), keys_(keys) {}

  template <class T, class R = decltype(kAnything)>
  void operator()(std::string_view key, T& member, const R& = kAnything) {
    collect(join_key(section_, key), member);
  }

 private:
  template <Section T>
  void collect(std::string key, T& section) {
    describe(KeyCollector(std::move(key), keys_), section);
  }
  template <Section T>
  void collect(const std::string& key, std::vector<T>&) {
    T element;
    collect(key + "[]", element);
  }
  void collect(std::string key, std::vector<std::string>& list) {
    keys_.push_back({std::move(key), fmt::format("[{}]", fmt::join(list, ", "))});
  }
  template <class T>
  void collect(std::string key, std::optional<T>&) {
    keys_.push_back({std::move(key), ""});
  }
  template <Scalar T>
  void collect(std::string key, T& member) {
    keys_.push_back({std::move(key), Form<T>::write(member)});
  }

  std::string section_;
  std::vector<KnownKey>& keys_;
};

}  // namespace

const std::vector<KnownKey>& known_keys() {
  static const std::vector<KnownKey> known = [] {
    std::vector<KnownKey> keys;
    Config defaults;
    describe(KeyCollector("", keys), defaults);
    return keys;
  }();
  return known;
}

std::string variable_of(std::string_view key) {
  std::string name = "SLUICE_";
  for (const char c : key) {
    if (c == '.' || c == '[') {
      name.push_back('_');
    } else if (c != ']') {
      name.push_back(c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c);
    }
  }
  return name;
}

}  // namespace sluice::config
