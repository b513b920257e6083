// SPDX-License-Identifier: Apache-2.0
#include "config/environment.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <map>
#include <set>

#include "base/text.h"
#include "config/keys.h"
#include "config/schema.h"

namespace sluice::config {
namespace {

constexpr std::string_view kPrefix = "SLUICE_";
constexpr std::array<std::string_view, 3> kOfCommandLine = {"SLUICE_TOKEN", "SLUICE_SERVER", "SLUICE_CONFIG"};

/// The variables, and which of them have found their key.
class Variables {
 public:
  explicit Variables(const Environment& environment) {
    if (!environment.names || !environment.get) return;
    for (const std::string& name : environment.names()) {
      if (!name.starts_with(kPrefix) || std::ranges::find(kOfCommandLine, name) != kOfCommandLine.end()) continue;
      if (std::optional<std::string> value = environment.get(name)) values_.emplace(name, *std::move(value));
    }
  }

  /// The variable for `key`, if it is set. Either way its name is known from now on.
  const std::string* find(const std::string& key) {
    const auto found = values_.find(*known_.insert(variable_of(key)).first);
    return found == values_.end() ? nullptr : &found->second;
  }

  /// True if a variable is set for anything inside `key`.
  bool any_inside(std::string_view key) const {
    const std::string prefix = variable_of(key) + "_";
    const auto first = values_.lower_bound(prefix);
    return first != values_.end() && first->first.starts_with(prefix);
  }

  void report_unknown(Report& report) const {
    const std::vector<std::string_view> candidates(known_.begin(), known_.end());
    for (const auto& [name, value] : values_) {
      if (!known_.contains(name)) {
        report.complain(Place{printable(name), 0}, "", "unknown variable; " + suggest(name, candidates));
      }
    }
  }

 private:
  static std::string suggest(std::string_view name, const std::vector<std::string_view>& candidates) {
    // The names that Docker links and Kubernetes services called "sluice" bring along; nobody wrote them.
    if (name.starts_with("SLUICE_PORT") || name.starts_with("SLUICE_SERVICE_")) {
      return "if Kubernetes sets it for a service named sluice, put enableServiceLinks: false into the pod";
    }
    if (const auto known = nearest(name, candidates)) return fmt::format("did you mean {}?", *known);
    return "each key's variable is in docs/configuration.md";
  }

  std::map<std::string, std::string, std::less<>> values_;
  std::set<std::string, std::less<>> known_;
};

/// The visitor that takes a section's values from variables.
class Overlay {
 public:
  Overlay(std::string section, Variables& variables, Report& report)
      : section_(std::move(section)), variables_(variables), report_(report) {}

  template <class T, class R = decltype(kAnything)>
  void operator()(std::string_view key, T& member, const R& rule = kAnything) {
    overlay(join_key(section_, key), member, rule);
  }

 private:
  template <Section T, class R>
  void overlay(const std::string& key, T& section, const R&) {
    describe(Overlay(key, variables_, report_), section);
  }

  template <Section T, class R>
  void overlay(const std::string& key, std::vector<T>& list, const R& rule) {
    for (std::size_t i = 0;; ++i) {
      const std::string element = element_key(key, i);
      if (i == list.size()) {
        if (!variables_.any_inside(element)) break;
        list.emplace_back();
        report_.remember(element, Place{variable_of(element), 0});
      }
      overlay(element, list[i], rule);
    }
    // Nothing is set one past the end, but a misspelled name may have meant it.
    T nobody;
    overlay(element_key(key, list.size()), nobody, rule);
  }

  template <class R>
  void overlay(const std::string& key, std::vector<std::string>& list, const R& rule) {
    if (const std::string* value = variables_.find(key)) {
      list.clear();
      report_.remember(key, Place{variable_of(key), 0});
      if (!value->empty()) {
        for (const std::string_view part : split(*value, ',')) {
          take(trim(part), variable_of(key), element_key(key, list.size()), list.emplace_back(), rule);
        }
      }
    }
    for (std::size_t i = 0;; ++i) {
      const std::string element = element_key(key, i);
      const std::string* value = variables_.find(element);
      if (i == list.size()) {
        if (value == nullptr) break;
        list.emplace_back();
      }
      if (value != nullptr) take(*value, variable_of(element), element, list[i], rule);
    }
  }

  template <class R>
  void overlay(const std::string& key, std::optional<std::vector<std::string>>& member, const R& rule) {
    std::vector<std::string> list = member.value_or(std::vector<std::string>());
    const bool is_set = variables_.find(key) != nullptr || variables_.find(element_key(key, list.size())) != nullptr;
    overlay(key, list, rule);
    if (member || is_set) member = std::move(list);
  }

  template <class T, class R>
  void overlay(const std::string& key, std::optional<T>& member, const R& rule) {
    const std::string* value = variables_.find(key);
    if (value == nullptr) return;
    if (!value->empty()) return take(*value, variable_of(key), key, member.emplace(), rule);
    report_.remember(key, Place{variable_of(key), 0});
    member.reset();
  }

  template <Scalar T, class R>
  void overlay(const std::string& key, T& member, const R& rule) {
    if (const std::string* value = variables_.find(key)) take(*value, variable_of(key), key, member, rule);
  }

  template <Scalar T, class R>
  void take(std::string_view text, std::string variable, const std::string& key, T& member, const R& rule) {
    const Place place{std::move(variable), 0};
    report_.remember(key, place);
    if (const auto complaint = assign(text, member, rule)) report_.complain(place, key, *complaint);
  }

  std::string section_;
  Variables& variables_;
  Report& report_;
};

}  // namespace

void overlay_environment(const Environment& environment, Config& config, Report& report) {
  Variables variables(environment);
  describe(Overlay("", variables, report), config);
  variables.report_unknown(report);
}

Environment Environment::of_process() {
  Environment environment;
  environment.names = [] {
    std::vector<std::string> names;
    for (char** entry = ::environ; entry != nullptr && *entry != nullptr; ++entry) {
      const std::string_view text(*entry);
      if (text.starts_with(kPrefix)) names.emplace_back(text.substr(0, text.find('=')));
    }
    return names;
  };
  environment.get = [](const std::string& name) -> std::optional<std::string> {
    const char* const value = std::getenv(name.c_str());
    if (value == nullptr) return std::nullopt;
    return value;
  };
  return environment;
}

}  // namespace sluice::config
