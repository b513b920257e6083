// SPDX-License-Identifier: Apache-2.0
#include "config/reload.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "config/schema.h"

namespace sluice::config {
namespace {

struct Value {
  std::string text;
  bool is_secret = false;
};
using Values = std::map<std::string, Value>;

/// The visitor that writes down every value with its key.
class ValueCollector {
 public:
  ValueCollector(std::string section, Values& values) : section_(std::move(section)), values_(values) {}

  template <class T, class R = decltype(kAnything)>
  void operator()(std::string_view key, T& member, const R& = kAnything) {
    collect(join_key(section_, key), member);
  }

 private:
  template <Section T>
  void collect(const std::string& key, T& section) {
    describe(ValueCollector(key, values_), section);
  }
  void collect(const std::string& key, std::vector<Homeserver>& homeservers) {
    std::vector<std::string> names;
    for (Homeserver& homeserver : homeservers) {
      names.push_back(homeserver.server_name);
      collect(fmt::format("{}[{}]", key, homeserver.server_name), homeserver);
    }
    values_[key].text = fmt::format("[{}]", fmt::join(names, ", "));
  }
  void collect(const std::string& key, std::vector<StaticToken>& tokens) {
    Value& value = values_[key];
    value.is_secret = true;
    for (const StaticToken& token : tokens) {
      value.text += fmt::format("{}\n{}\n{}\n", token.token, token.user, token.admin);
    }
  }
  template <Section T>
  void collect(const std::string& key, std::vector<T>& list) {
    std::vector<std::string> elements;
    for (T& element : list) {
      Values members;
      describe(ValueCollector("", members), element);
      std::vector<std::string> texts;
      for (const auto& [name, value] : members) texts.push_back(name + ": " + value.text);
      elements.push_back(fmt::format("{{{}}}", fmt::join(texts, ", ")));
    }
    values_[key].text = fmt::format("[{}]", fmt::join(elements, ", "));
  }
  void collect(const std::string& key, std::vector<std::string>& list) {
    values_[key].text = fmt::format("[{}]", fmt::join(list, ", "));
  }
  template <class T>
  void collect(const std::string& key, std::optional<T>& member) {
    if (member) return collect(key, *member);
    values_[key].text = "null";
  }
  template <Scalar T>
  void collect(const std::string& key, T& member) {
    values_[key].text = Form<T>::write(member);
  }

  std::string section_;
  Values& values_;
};

Values values_of(Config config) {
  Values values;
  describe(ValueCollector("", values), config);
  return values;
}

// Of the keys that both have: what is only in one belongs to a homeserver that the other does not have, and the list of
// homeservers tells that.
std::vector<Change> changes_between(const Config& a, const Config& b) {
  std::vector<Change> changes;
  const Values after = values_of(b);
  for (const auto& [key, value] : values_of(a)) {
    const auto found = after.find(key);
    if (found == after.end() || found->second.text == value.text) continue;
    Change change{.key = key, .before = "", .after = "", .is_secret = value.is_secret};
    if (!value.is_secret) {
      change.before = value.text;
      change.after = found->second.text;
    }
    changes.push_back(std::move(change));
  }
  return changes;
}

}  // namespace

std::string Change::to_string() const {
  if (is_secret) return key + ": changed";
  return fmt::format("{}: now {}, was {}", key, after, before);
}

Reload plan_reload(const Config& running, const Config& read) {
  Reload plan;
  Config& in_force = plan.in_force = read;
  in_force.listen = running.listen;
  in_force.data_dir = running.data_dir;
  in_force.auth = running.auth;
  in_force.http = running.http;
  in_force.log.format = running.log.format;
  in_force.metrics = running.metrics;
  in_force.thumbnails = running.thumbnails;
  in_force.demo = running.demo;
  in_force.homeservers = running.homeservers;
  for (Homeserver& homeserver : in_force.homeservers) {
    const auto found = std::ranges::find(read.homeservers, homeserver.server_name, &Homeserver::server_name);
    if (found == read.homeservers.end()) continue;
    homeserver.tokens = found->tokens;
    homeserver.admins = found->admins;
    homeserver.uploads = found->uploads;
    homeserver.downloads = found->downloads;
  }
  plan.applied = changes_between(running, in_force);
  plan.needing_restart = changes_between(in_force, read);
  return plan;
}

}  // namespace sluice::config
