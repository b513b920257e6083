// SPDX-License-Identifier: Apache-2.0
#include "config/consistency.h"

#include <fmt/format.h>

#include <map>
#include <string>

#include "base/text.h"
#include "base/units.h"
#include "config/keys.h"
#include "config/schema.h"

namespace sluice::config {
namespace {

/// Remembers names with the key that brought them, and complains of the second that brings the same.
class Unique {
 public:
  Unique(Report& report, std::string_view complaint) : report_(report), complaint_(complaint) {}

  void add(const std::string& name, const std::string& key) {
    if (name.empty()) return;
    const auto [first, is_new] = keys_.emplace(name, key);
    if (!is_new) report_.complain_once(key, fmt::format("{} {}", complaint_, first->second));
  }

 private:
  Report& report_;
  std::string_view complaint_;
  std::map<std::string, std::string> keys_;
};

void check_user(const std::string& user, const Homeserver& homeserver, const std::string& key, Report& report) {
  if (user.substr(user.find(':') + 1) == homeserver.server_name) return;
  report.complain_once(key, fmt::format("must be a user of this homeserver, {}", printable(homeserver.server_name)));
}

void check_tokens(const Homeserver& homeserver, const std::string& key, Report& report) {
  Unique tokens(report, "is the same token as");
  for (std::size_t i = 0; i < homeserver.tokens.size(); ++i) {
    const StaticToken& token = homeserver.tokens[i];
    const std::string element = element_key(key + ".tokens", i);
    if (token.token.empty()) {
      report.complain_once(element + ".token", "is missing");
    } else if (token.token == kMaskedToken) {
      report.complain_once(element + ".token", fmt::format("is only the mask of a printed configuration; write the "
                                                           "token itself, here or in {}",
                                                           variable_of(element + ".token")));
    }
    tokens.add(token.token, element + ".token");
    if (token.user.empty()) {
      report.complain_once(element + ".user", "is missing; write the full user id whom the token stands for");
    } else {
      check_user(token.user, homeserver, element + ".user", report);
    }
  }
}

void check_homeservers(const Config& config, Report& report) {
  if (config.homeservers.empty()) {
    report.complain_once("homeservers",
                         "at least one homeserver is needed; write \"homeservers: [{server_name: example.org}]\" with "
                         "your server's name, or set SLUICE_HOMESERVERS_0_SERVER_NAME");
  }
  Unique names(report, "names a homeserver that is named already by");
  for (std::size_t i = 0; i < config.homeservers.size(); ++i) {
    const Homeserver& homeserver = config.homeservers[i];
    const std::string key = element_key("homeservers", i);
    if (homeserver.server_name.empty()) {
      report.complain_once(key + ".server_name", "is missing; write the name that stands in user ids, as example.org");
    }
    names.add(to_lower(homeserver.server_name), key + ".server_name");
    for (std::size_t j = 0; j < homeserver.hosts.size(); ++j) {
      names.add(to_lower(homeserver.hosts[j]), element_key(key + ".hosts", j));
    }
    check_tokens(homeserver, key, report);
    for (std::size_t j = 0; j < homeserver.admins.size(); ++j) {
      check_user(homeserver.admins[j], homeserver, element_key(key + ".admins", j), report);
    }
  }
}

bool takes_every_address(const Endpoint& endpoint) { return endpoint.host == "0.0.0.0" || endpoint.host == "::"; }

bool collide(const Endpoint& a, const Endpoint& b) {
  return a.port != 0 && a.port == b.port && (a.host == b.host || takes_every_address(a) || takes_every_address(b));
}

}  // namespace

void check_consistency(const Config& config, Report& report) {
  check_homeservers(config, report);
  const Config::Downloads& downloads = config.downloads;
  if (downloads.default_wait > downloads.max_wait) {
    // The one that was written is the one to mend.
    const bool default_was_set = report.was_set("downloads.default_wait");
    report.complain_once(default_was_set ? "downloads.default_wait" : "downloads.max_wait",
                         fmt::format("default_wait ({}) must not be longer than max_wait ({})",
                                     format_duration(downloads.default_wait), format_duration(downloads.max_wait)));
  }
  if (config.metrics.listen && collide(*config.metrics.listen, config.listen)) {
    report.complain_once("metrics.listen", fmt::format("must be another port than listen ({}), which clients can reach",
                                                       config.listen.to_string()));
  }
}

}  // namespace sluice::config
