// SPDX-License-Identifier: Apache-2.0
#include "config/config.h"

#include <fmt/format.h>
#include <yaml-cpp/emitter.h>

#include <cerrno>
#include <fstream>
#include <system_error>
#include <utility>

#include "config/consistency.h"
#include "config/document.h"
#include "config/environment.h"
#include "config/reader.h"
#include "config/report.h"
#include "config/schema.h"

namespace sluice::config {
namespace {

constexpr std::size_t kMaxFileBytes = 1 << 20;

std::unexpected<Mistakes> mistake(std::string_view file_name, int line, std::string message) {
  return std::unexpected(Mistakes{{std::string(file_name), line, "", std::move(message)}});
}

/// The visitor that writes a section's values.
class Printer {
 public:
  explicit Printer(YAML::Emitter& out) : out_(out) {}

  template <class T, class R = decltype(kAnything)>
  void operator()(std::string_view key, T& member, const R& = kAnything) {
    out_ << YAML::Key << std::string(key) << YAML::Value;
    print(member);
  }

  template <Section T>
  void print(T& section) {
    out_ << YAML::BeginMap;
    describe(*this, section);
    out_ << YAML::EndMap;
  }

 private:
  template <class T>
  void print(std::vector<T>& list) {
    out_ << YAML::BeginSeq;
    for (T& element : list) print(element);
    out_ << YAML::EndSeq;
  }
  template <class T>
  void print(std::optional<T>& member) {
    if (member) {
      print(*member);
    } else {
      out_ << YAML::LowerNull << YAML::Null;
    }
  }
  template <Scalar T>
  void print(T& member) {
    out_ << Form<T>::write(member);
  }

  YAML::Emitter& out_;
};

}  // namespace

std::string Endpoint::to_string() const {
  return host.contains(':') ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

std::string Mistake::to_string() const {
  std::string text = line > 0 ? fmt::format("{}:{}", source, line) : source;
  if (!key.empty()) text += ": " + key;
  return text + ": " + message;
}

std::string to_string(const Mistakes& mistakes) {
  std::string text;
  for (const Mistake& mistake : mistakes) {
    if (!text.empty()) text += '\n';
    text += mistake.to_string();
  }
  return text;
}

std::expected<Config, Mistakes> parse(std::string_view yaml, std::string_view file_name,
                                      const Environment& environment) {
  if (yaml.size() > kMaxFileBytes) return mistake(file_name, 0, "is larger than 1MiB");
  const std::expected<Node, SyntaxError> document = parse_document(yaml);
  if (!document) return mistake(file_name, document.error().line, document.error().message);

  Config config;
  Report report(file_name);
  read_document(*document, config, report);
  overlay_environment(environment, config, report);
  check_consistency(config, report);
  if (Mistakes mistakes = std::move(report).take(); !mistakes.empty()) return std::unexpected(std::move(mistakes));

  for (Homeserver& homeserver : config.homeservers) {
    if (homeserver.client_api && homeserver.client_api->ends_with('/')) homeserver.client_api->pop_back();
  }
  return config;
}

std::expected<Config, Mistakes> load(const std::string& path, const Environment& environment) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string yaml(kMaxFileBytes + 1, '\0');
  file.read(yaml.data(), static_cast<std::streamsize>(yaml.size()));
  if (!file.is_open() || file.bad()) {
    return mistake(path, 0, "cannot be read: " + std::generic_category().message(errno));
  }
  yaml.resize(static_cast<std::size_t>(file.gcount()));
  return parse(yaml, path, environment);
}

std::string to_yaml(const Config& config) {
  Config masked = config;
  for (Homeserver& homeserver : masked.homeservers) {
    for (StaticToken& token : homeserver.tokens) token.token = kMaskedToken;
  }
  YAML::Emitter out;
  Printer(out).print(masked);
  return std::string(out.c_str(), out.size()) + "\n";
}

}  // namespace sluice::config
