// SPDX-License-Identifier: Apache-2.0
#include "config/environment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "config/config_test.h"

namespace sluice::config {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(Environment, TheEnvironmentOverridesTheFile) {
  const Config config =
      parsed("listen: 1.2.3.4:1\nuploads: {max_size: 1MiB}\nmetrics: {listen: 1.2.3.4:9}\n" + kMinimal,
             {{"SLUICE_UPLOADS_MAX_SIZE", "1GiB"},
              {"SLUICE_LISTEN", "[::1]:8090"},
              {"SLUICE_UPLOADS_CREATE_RATE_PER_SECOND", "2.5"},
              {"SLUICE_METRICS_LISTEN", ""},
              {"SLUICE_DOWNLOADS_FROZEN_SINCE", "2024-09-01"},
              {"SLUICE_CONFIG", "x"},
              {"SLUICE_TOKEN", "x"},
              {"SLUICE_SERVER", "x"},
              {"SLUICED", "x"}});
  EXPECT_EQ(config.uploads.max_size, 1u << 30);
  EXPECT_EQ(config.listen, (Endpoint{"::1", 8090}));
  EXPECT_EQ(config.uploads.create_rate.per_second, 2.5);
  EXPECT_EQ(config.metrics.listen, std::nullopt) << "an empty variable takes an optional value away";
  EXPECT_EQ(config.downloads.frozen_since, WallTime(1'725'148'800s));
}

TEST(Environment, TheEnvironmentReachesIntoLists) {
  const Config config = parsed(kMinimal, {{"SLUICE_HOMESERVERS_0_TOKENS_0_TOKEN", "secret"},
                                          {"SLUICE_HOMESERVERS_0_TOKENS_0_USER", "@a:example.org"},
                                          {"SLUICE_HOMESERVERS_0_HOSTS", "a.example.org, b.example.org"},
                                          {"SLUICE_HOMESERVERS_1_SERVER_NAME", "example.com"},
                                          {"SLUICE_HOMESERVERS_1_HOSTS_0", "c.example.org"},
                                          {"SLUICE_HTTP_TRUSTED_PROXIES_0", "10.0.0.0/8"},
                                          {"SLUICE_HTTP_TRUSTED_PROXIES_2", "fd00::/8"}});
  ASSERT_EQ(config.homeservers.size(), 2u);
  EXPECT_EQ(config.homeservers[0].server_name, "example.org");
  EXPECT_EQ(config.homeservers[0].tokens.at(0).token, "secret");
  EXPECT_THAT(config.homeservers[0].hosts, ElementsAre("a.example.org", "b.example.org"));
  EXPECT_EQ(config.homeservers[1].server_name, "example.com");
  EXPECT_THAT(config.homeservers[1].hosts, ElementsAre("c.example.org"));
  EXPECT_THAT(config.http.trusted_proxies, ElementsAre("10.0.0.0/8", "::1", "fd00::/8"));
  EXPECT_THAT(parsed(kMinimal, {{"SLUICE_HTTP_TRUSTED_PROXIES", "10.0.0.0/8,::1"}}).http.trusted_proxies,
              ElementsAre("10.0.0.0/8", "::1"));
  EXPECT_THAT(parsed(kMinimal, {{"SLUICE_HTTP_TRUSTED_PROXIES", ""}}).http.trusted_proxies, IsEmpty());
}

TEST(Environment, TheEnvironmentReachesWhatAHomeserverHasOfItsOwn) {
  const Config config = parsed(kMinimal, {{"SLUICE_HOMESERVERS_0_UPLOADS_MAX_SIZE", "1MiB"},
                                          {"SLUICE_HOMESERVERS_0_UPLOADS_CONTENT_TYPES_ALLOW", "image/*, video/*"},
                                          {"SLUICE_HOMESERVERS_0_UPLOADS_CONTENT_TYPES_DENY_0", "text/html"},
                                          {"SLUICE_HOMESERVERS_1_SERVER_NAME", "example.net"},
                                          {"SLUICE_HOMESERVERS_1_UPLOADS_CONTENT_TYPES_DENY", ""}});
  ASSERT_EQ(config.homeservers.size(), 2u);
  const Homeserver::Uploads& first = config.homeservers[0].uploads;
  EXPECT_EQ(first.max_size, 1u << 20);
  EXPECT_THAT(first.content_types.allow, testing::Optional(ElementsAre("image/*", "video/*")));
  EXPECT_THAT(first.content_types.deny, testing::Optional(ElementsAre("text/html")));
  const Homeserver::Uploads& second = config.homeservers[1].uploads;
  EXPECT_EQ(second.max_size, std::nullopt);
  EXPECT_EQ(second.content_types.allow, std::nullopt);
  EXPECT_THAT(second.content_types.deny, testing::Optional(IsEmpty())) << "given, and none";
}

TEST(Environment, MistakesInTheEnvironmentNameTheVariable) {
  EXPECT_THAT(mistakes_in(kMinimal, {{"SLUICE_UPLOADS_MAX_SISE", "1"}}),
              ElementsAre("SLUICE_UPLOADS_MAX_SISE: unknown variable; did you mean SLUICE_UPLOADS_MAX_SIZE?"));
  EXPECT_THAT(mistakes_in(kMinimal, {{"SLUICE_UPLOADS_MAX_SIZE", "big"}}),
              ElementsAre("SLUICE_UPLOADS_MAX_SIZE: uploads.max_size: must be a size such as 50MiB or 1GB"));
  EXPECT_THAT(mistakes_in(kMinimal, {{"SLUICE_HTTP_TRUSTED_PROXIES", "::1,x"}}),
              ElementsAre(HasSubstr("SLUICE_HTTP_TRUSTED_PROXIES: http.trusted_proxies[1]: must be an IP")));
  EXPECT_THAT(mistakes_in(kMinimal, {{"SLUICE_HOMESERVERS_1_TOKENS_0_TOKEN", "x"}}),
              testing::Contains(HasSubstr("SLUICE_HOMESERVERS_1: homeservers[1].server_name: is missing")));
  EXPECT_THAT(mistakes_in(kMinimal, {{"SLUICE_HOMESERVERS_7_SERVER_NAME", "x"}}),
              ElementsAre("SLUICE_HOMESERVERS_7_SERVER_NAME: unknown variable; did you mean "
                          "SLUICE_HOMESERVERS_0_SERVER_NAME?"));
  EXPECT_THAT(mistakes_in(kMinimal, {{"SLUICE_DOWNLOADS_MAX_WAIT", "1s"}}),
              ElementsAre(HasSubstr("SLUICE_DOWNLOADS_MAX_WAIT: downloads.max_wait: default_wait (20s)")));
  EXPECT_THAT(mistakes_in(kMinimal, {{"SLUICE_PORT_8090_TCP_ADDR", "x"}}),
              ElementsAre(HasSubstr("enableServiceLinks")));
  EXPECT_THAT(mistakes_in(kMinimal, {{"SLUICE_", "x"}, {"SLUICE_HTTP", "x"}, {"SLUICE_LISTEN", "\xff"}}).size(), 3u);
}

TEST(Environment, ReadsTheEnvironmentOfTheProcess) {
  ::setenv("SLUICE_CONFIG_TEST", "=a=b", 1);
  const Environment environment = Environment::of_process();
  EXPECT_THAT(environment.names(), testing::Contains("SLUICE_CONFIG_TEST"));
  EXPECT_THAT(environment.names(), testing::Each(testing::StartsWith("SLUICE_")));
  EXPECT_EQ(environment.get("SLUICE_CONFIG_TEST"), "=a=b");
  ::unsetenv("SLUICE_CONFIG_TEST");
  EXPECT_EQ(environment.get("SLUICE_CONFIG_TEST"), std::nullopt);
}

}  // namespace
}  // namespace sluice::config
