// SPDX-License-Identifier: Apache-2.0
#include "config/reload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "config/config_test.h"

namespace sluice::config {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<std::string> texts(const std::vector<Change>& changes) {
  std::vector<std::string> texts;
  for (const Change& change : changes) texts.push_back(change.to_string());
  return texts;
}

TEST(Reload, OfTheSameChangesNothing) {
  const Config config = parsed(kMinimal);
  const Reload plan = plan_reload(config, config);
  EXPECT_THAT(plan.applied, IsEmpty());
  EXPECT_THAT(plan.needing_restart, IsEmpty());
  EXPECT_EQ(to_yaml(plan.in_force), to_yaml(config));
}

TEST(Reload, PutsLimitsInForce) {
  const Config running = parsed(kMinimal);
  const Config read = parsed(kMinimal + R"(
uploads: {max_size: 1GiB, content_types: {deny: [text/html, image/*]}}
downloads: {frozen_since: 2024-09-01, rate: {per_user: {bytes_per_second: 1MiB}}}
log: {level: debug}
shutdown_grace: 5s
)");
  const Reload plan = plan_reload(running, read);
  EXPECT_THAT(texts(plan.applied), ElementsAre("downloads.frozen_since: now 2024-09-01T00:00:00Z, was null",
                                               "downloads.rate.per_user.bytes_per_second: now 1MiB, was 0B",
                                               "log.level: now debug, was info", "shutdown_grace: now 5s, was 30s",
                                               "uploads.content_types.deny: now [text/html, image/*], was []",
                                               "uploads.max_size: now 1GiB, was 100MiB"));
  EXPECT_THAT(plan.needing_restart, IsEmpty());
  EXPECT_EQ(to_yaml(plan.in_force), to_yaml(read));
}

TEST(Reload, KeepsWhatNeedsARestart) {
  const Config running = parsed(kMinimal);
  const Config read = parsed(R"(
homeservers: [{server_name: example.org, hosts: [media.example.org], client_api: "http://127.0.0.1:8008"}]
listen: 127.0.0.1:9000
data_dir: /elsewhere
auth: {cache_age: 1s}
http: {threads: 3}
log: {format: json}
metrics: {listen: 127.0.0.1:9001}
demo: true
)");
  const Reload plan = plan_reload(running, read);
  EXPECT_THAT(plan.applied, IsEmpty());
  EXPECT_THAT(texts(plan.needing_restart),
              ElementsAre("auth.cache_age: now 1s, was 1m", "data_dir: now /elsewhere, was ./sluice-data",
                          "demo: now true, was false",
                          "homeservers[example.org].client_api: now http://127.0.0.1:8008, was null",
                          "homeservers[example.org].hosts: now [media.example.org], was []",
                          "http.threads: now 3, was 0", "listen: now 127.0.0.1:9000, was 127.0.0.1:8090",
                          "log.format: now json, was text", "metrics.listen: now 127.0.0.1:9001, was null"));
  EXPECT_EQ(to_yaml(plan.in_force), to_yaml(running));
}

TEST(Reload, TakesTokensAndTheHomeserversOwnLimitsByName) {
  const Config running = parsed(R"(
homeservers:
  - {server_name: example.org, tokens: [{token: old-secret, user: "@alice:example.org"}]}
  - {server_name: example.net, uploads: {max_size: 1MiB}}
)");
  const Config read = parsed(R"(
homeservers:
  - {server_name: example.net, admins: ["@root:example.net"], downloads: {unauthenticated: deny}}
  - {server_name: example.org, tokens: [{token: new-secret, user: "@alice:example.org"}]}
)");
  const Reload plan = plan_reload(running, read);
  EXPECT_THAT(texts(plan.applied), ElementsAre("homeservers[example.net].admins: now [@root:example.net], was []",
                                               "homeservers[example.net].downloads.unauthenticated: now deny, was null",
                                               "homeservers[example.net].uploads.max_size: now null, was 1MiB",
                                               "homeservers[example.org].tokens: changed"));
  EXPECT_THAT(texts(plan.needing_restart),
              ElementsAre("homeservers: now [example.net, example.org], was [example.org, example.net]"));
  ASSERT_EQ(plan.in_force.homeservers.size(), 2u);
  EXPECT_EQ(plan.in_force.homeservers[0].server_name, "example.org");
  EXPECT_EQ(plan.in_force.homeservers[0].tokens.at(0).token, "new-secret");
  EXPECT_THAT(plan.in_force.homeservers[1].admins, ElementsAre("@root:example.net"));
}

TEST(Reload, NeedsARestartForAHomeserverThatComesOrGoes) {
  const Config running = parsed("homeservers: [{server_name: example.org, admins: ['@root:example.org']}]");
  const Config read = parsed("homeservers: [{server_name: example.net, uploads: {max_size: 1MiB}}]");
  const Reload plan = plan_reload(running, read);
  EXPECT_THAT(plan.applied, IsEmpty());
  EXPECT_THAT(texts(plan.needing_restart), ElementsAre("homeservers: now [example.net], was [example.org]"));
  EXPECT_EQ(to_yaml(plan.in_force), to_yaml(running));
}

}  // namespace
}  // namespace sluice::config
