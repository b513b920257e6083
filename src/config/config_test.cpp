// SPDX-License-Identifier: Apache-2.0
#include "config/config_test.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::config {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

/// The only mistake in a configuration that is good but for `line`, which stands on line 2.
std::string mistake_of(const std::string& line) {
  const auto mistakes = mistakes_in("homeservers: [{server_name: example.org}]\n" + line + "\n");
  if (mistakes.size() != 1) return fmt::format("{} mistakes", mistakes.size());
  return mistakes.front();
}

/// As mistake_of, inside the one homeserver.
std::string homeserver_mistake(const std::string& more) {
  const auto mistakes = mistakes_in("homeservers:\n  - server_name: example.org\n    " + more + "\n");
  if (mistakes.size() != 1) return fmt::format("{} mistakes", mistakes.size());
  return mistakes.front();
}

TEST(Config, ReadsEveryKindOfValue) {
  const Config config = parsed(R"(
listen: "[::1]:8090"
data_dir: /var/lib/sluice
homeservers:
  - server_name: example.org
    hosts: [media.example.org, "[2001:db8::1]"]
    client_api: http://127.0.0.1:8008/
    tokens:
      - {token: "secret", user: "@alice:example.org", admin: true}
      - {token: "other", user: "@bob:example.org"}
  - server_name: example.com:8448
uploads:
  max_size: 50MiB
  max_pending_per_user: 7
  unused_expiry: 12h
  create_rate: {per_second: 0.5, burst: 20}
downloads:
  default_wait: 500ms
  max_waiting_per_media: 12
  live: false
  unauthenticated: allow
  frozen_since: 2024-09-01T02:00:00+02:00
http: {min_body_rate: 1kB, trusted_proxies: [10.0.0.0/8, "fd00::/8"]}
log: {format: json, level: warn}
shutdown_grace: 0
metrics: {listen: localhost:0}
demo: true
)");
  EXPECT_EQ(config.listen, (Endpoint{"::1", 8090}));
  EXPECT_EQ(config.data_dir, "/var/lib/sluice");
  ASSERT_EQ(config.homeservers.size(), 2u);
  const Homeserver& first = config.homeservers.front();
  EXPECT_EQ(first.server_name, "example.org");
  EXPECT_THAT(first.hosts, ElementsAre("media.example.org", "[2001:db8::1]"));
  EXPECT_EQ(first.client_api, "http://127.0.0.1:8008");
  ASSERT_EQ(first.tokens.size(), 2u);
  EXPECT_EQ(first.tokens[0].token, "secret");
  EXPECT_EQ(first.tokens[0].user, "@alice:example.org");
  EXPECT_TRUE(first.tokens[0].admin);
  EXPECT_FALSE(first.tokens[1].admin);
  EXPECT_EQ(config.homeservers[1].server_name, "example.com:8448");
  EXPECT_EQ(config.homeservers[1].client_api, std::nullopt);
  EXPECT_EQ(config.uploads.max_size, 50u << 20);
  EXPECT_EQ(config.uploads.max_pending_per_user, 7u);
  EXPECT_EQ(config.uploads.unused_expiry, 12h);
  EXPECT_EQ(config.uploads.create_rate.per_second, 0.5);
  EXPECT_EQ(config.uploads.create_rate.burst, 20);
  EXPECT_EQ(config.downloads.default_wait, 500ms);
  EXPECT_EQ(config.downloads.max_wait, 60s);
  EXPECT_EQ(config.downloads.max_waiting_per_media, 12u);
  EXPECT_FALSE(config.downloads.live);
  EXPECT_EQ(config.downloads.unauthenticated, UnauthenticatedAccess::kAllow);
  EXPECT_EQ(config.downloads.frozen_since, WallTime(1'725'148'800s));
  EXPECT_EQ(config.http.min_body_rate, 1000u);
  EXPECT_THAT(config.http.trusted_proxies, ElementsAre("10.0.0.0/8", "fd00::/8"));
  EXPECT_EQ(config.log.format, LogFormat::kJson);
  EXPECT_EQ(config.log.level, LogLevel::kWarn);
  EXPECT_EQ(config.shutdown_grace, 0ms);
  EXPECT_EQ(config.metrics.listen, (Endpoint{"localhost", 0}));
  EXPECT_TRUE(config.demo);
}

TEST(Config, ReadsQuotas) {
  const Config config = parsed(kMinimal + R"(
quotas:
  - {users: "@bot_*:example.org", max_files: 5}
  - max_bytes: 10GiB
    window: {bytes: 1GiB, per: 12h}
)");
  ASSERT_EQ(config.quotas.size(), 2u);
  EXPECT_EQ(config.quotas[0].users, "@bot_*:example.org");
  EXPECT_EQ(config.quotas[0].max_files, 5u);
  EXPECT_EQ(config.quotas[0].max_bytes, std::nullopt);
  EXPECT_EQ(config.quotas[0].window.bytes, std::nullopt);
  EXPECT_EQ(config.quotas[1].users, "*");
  EXPECT_EQ(config.quotas[1].max_files, std::nullopt);
  EXPECT_EQ(config.quotas[1].max_bytes, 10ull << 30);
  EXPECT_EQ(config.quotas[1].window.bytes, 1ull << 30);
  EXPECT_EQ(config.quotas[1].window.per, 12h);
  EXPECT_THAT(mistake_of("quotas: [{window: {per: 0}}]"), HasSubstr("quotas[0].window.per: must be more than 0"));
  EXPECT_THAT(mistake_of("quotas: [{max_byte: 1GB}]"), HasSubstr("did you mean max_bytes?"));
}

TEST(Config, KeepsTheDefaultsOfWhatIsNotNamed) {
  const Config config = parsed(kMinimal + "uploads:\n  # max_size: 1GB\ndownloads: {frozen_since: null}\n");
  EXPECT_EQ(config.listen, (Endpoint{"127.0.0.1", 8090}));
  EXPECT_EQ(config.uploads.max_size, 100u << 20);
  EXPECT_EQ(config.downloads.frozen_since, std::nullopt);
  EXPECT_THAT(config.http.trusted_proxies, ElementsAre("127.0.0.0/8", "::1"));
  EXPECT_THAT(parsed(kMinimal + "http: {trusted_proxies: []}").http.trusted_proxies, IsEmpty());
  EXPECT_FALSE(config.demo) << "what the world need not see is off";
}

TEST(Config, AHomeserverIsNeeded) {
  for (const char* yaml : {"", "# nothing\n", "homeservers: []\n"}) {
    const auto mistakes = mistakes_in(yaml);
    ASSERT_EQ(mistakes.size(), 1u) << yaml;
    EXPECT_THAT(mistakes[0], HasSubstr("write \"homeservers: [{server_name: example.org}]\"")) << yaml;
  }
  EXPECT_TRUE(parse("", "s.yaml", environment_of({{"SLUICE_HOMESERVERS_0_SERVER_NAME", "example.org"}})));
}

TEST(Config, UnknownKeysNameTheLineAndTheNearestKey) {
  EXPECT_THAT(mistakes_in(kMinimal + "uploads:\n  max_sise: 1MiB\nlog:\n  levle: info\n"),
              ElementsAre("s.yaml:3: uploads.max_sise: unknown key; did you mean max_size?",
                          "s.yaml:5: log.levle: unknown key; did you mean level?"));
  EXPECT_EQ(homeserver_mistake("tokens: [{user: \"@a:example.org\", token: a, admn: true}]"),
            "s.yaml:3: homeservers[0].tokens[0].admn: unknown key; did you mean admin?");
  // In the wrong section; and like nothing at all.
  EXPECT_EQ(mistake_of("max_wait: 1s"), "s.yaml:2: max_wait: unknown key; did you mean downloads.max_wait?");
  EXPECT_EQ(mistake_of("log: {zzzzzzzz: 1}"), "s.yaml:2: log.zzzzzzzz: unknown key; the keys here are format, level");
}

TEST(Config, TellsEveryMistakeInTheOrderOfLines) {
  EXPECT_THAT(mistakes_in("listen: here\nuploads: {max_size: 0}\nhomeservers: [{}]\nlog: [1]\nlisten: there\n"),
              ElementsAre(HasSubstr("s.yaml:1: listen: must be an address and port"),
                          "s.yaml:2: uploads.max_size: must be more than 0 and less than 8192TiB",
                          HasSubstr("s.yaml:3: homeservers[0].server_name: is missing"),
                          "s.yaml:4: log: must be a mapping of keys",
                          "s.yaml:5: listen: is given twice; the first is on line 1"));
}

TEST(Config, RefusesWhatIsNoValueOfItsType) {
  for (const char* line : {"uploads: {max_size: big}",
                           "uploads: {max_size: -1}",
                           "uploads: {max_size: 1XB}",
                           "uploads: {max_size: 1.5MiB}",
                           "uploads: {max_size: 99999999999999999999}",
                           "uploads: {max_size: 99999999TiB}",
                           "uploads: {max_size: 8192TiB}",
                           "uploads: {max_size: }",
                           "uploads: {max_size: [1]}",
                           "uploads: {max_size: {a: 1}}",
                           "uploads: {max_pending_per_user: 0}",
                           "uploads: {max_pending_per_user: -1}",
                           "uploads: {max_pending_per_user: 4294967296}",
                           "uploads: {max_pending_per_user: 5.5}",
                           "uploads: {max_pending_per_user: 0x10}",
                           "uploads: {unused_expiry: 24}",
                           "uploads: {unused_expiry: 0}",
                           "uploads: {unused_expiry: soon}",
                           "uploads: {unused_expiry: 1000000d}",
                           "uploads: {create_rate: 10}",
                           "uploads: {create_rate: {per_second: 0}}",
                           "uploads: {create_rate: {per_second: -1}}",
                           "uploads: {create_rate: {per_second: .inf}}",
                           "uploads: {create_rate: {per_second: inf}}",
                           "uploads: {create_rate: {per_second: nan}}",
                           "uploads: {create_rate: {per_second: 1e999}}",
                           "uploads: {create_rate: {burst: 0.5}}",
                           "downloads: {live: maybe}",
                           "downloads: {live: 1}",
                           "downloads: {unauthenticated: never}",
                           "downloads: {unauthenticated: Frozen}",
                           "downloads: {max_waiting: many}",
                           "auth: {timeout: 0}",
                           "auth: {cache_entries: 0}",
                           "http: {threads: 1025}",
                           "http: {header_timeout: 0s}",
                           "http: {idle_timeout: 0}",
                           "http: {body_timeout: 0}",
                           "http: {write_timeout: 0}",
                           "log: {format: xml}",
                           "log: {level: loud}",
                           "data_dir: \"\"",
                           "data_dir: ~",
                           "data_dir: \"a\\0b\"",
                           "data_dir: \"a\\nb\"",
                           "shutdown_grace: -5s",
                           "http: {trusted_proxies: 127.0.0.1}",
                           "http: {trusted_proxies: }",
                           "log: text"}) {
    EXPECT_THAT(mistake_of(line), testing::StartsWith("s.yaml:2: ")) << line;
  }
}

TEST(Config, ReadsEndpoints) {
  for (const char* good : {"0.0.0.0:80", "localhost:8090", "LOCALHOST:1", "127.0.0.1:0", "'[::1]:65535'", "'[::]:1'"}) {
    EXPECT_EQ(mistake_of(fmt::format("listen: {}", good)), "0 mistakes") << good;
  }
  for (const char* bad : {"8090", "':8090'", "127.0.0.1", "'127.0.0.1:'", "127.0.0.1:65536", "127.0.0.1:-1",
                          "'::1:8090'", "'[127.0.0.1]:80'", "'[::1]'", "'[::1:80'", "example.org:80", "'127.1:80'",
                          "'1.2.3.4:+8'", "' 1.2.3.4:8'", "'[]:1'", "':'", "'*:80'"}) {
    EXPECT_THAT(mistake_of(fmt::format("listen: {}", bad)), HasSubstr("s.yaml:2: listen: must be an address and port"))
        << bad;
  }
  EXPECT_EQ((Endpoint{"::1", 80}.to_string()), "[::1]:80");
  EXPECT_EQ((Endpoint{"localhost", 80}.to_string()), "localhost:80");
}

TEST(Config, ReadsTimestamps) {
  const std::pair<const char*, WallTime> good[] = {
      {"2024-09-01", WallTime(1'725'148'800s)},
      {"2024-09-01T00:00:00Z", WallTime(1'725'148'800s)},
      {"2024-09-01 00:00:00z", WallTime(1'725'148'800s)},
      {"2024-08-31T22:30:00.1239-01:30", WallTime(1'725'148'800'123ms)},
      {"2024-02-29T23:59:60Z", WallTime(1'709'251'200s)},
      {"1970-01-01", WallTime(0s)},
      {"9999-12-31T23:59:59.999Z", WallTime(253'402'300'799'999ms)},
  };
  for (const auto& [text, time] : good) {
    EXPECT_EQ(parsed(kMinimal + "downloads: {frozen_since: \"" + text + "\"}").downloads.frozen_since, time) << text;
  }
  for (const char* bad : {"yesterday",
                          "2024",
                          "2024-9-1",
                          "2023-02-29",
                          "2024-13-01",
                          "2024-00-01",
                          "2024-01-00",
                          "2024-09-01T",
                          "1969-12-31",
                          "2024-09-01T00:00Z",
                          "2024-09-01T00:00:00",
                          "2024-09-01T24:00:00Z",
                          "2024-09-01T00:60:00Z",
                          "2024-09-01T00:00:61Z",
                          "2024-09-01T00:00:00.Z",
                          "2024-09-01T00:00:00+0200",
                          "2024-09-01T00:00:00Zx",
                          "1970-01-01T00:00:00+01:00",
                          "9999-12-31T23:59:59-00:01",
                          "1725148800",
                          "-024-09-01",
                          ""}) {
    EXPECT_THAT(mistake_of(fmt::format("downloads: {{frozen_since: \"{}\"}}", bad)), HasSubstr("must be a time"))
        << bad;
  }
}

TEST(Config, ChecksHomeservers) {
  for (const char* bad :
       {"hosts: [\"example.com:80\"]", "hosts: [a/b]", "hosts: media.example.org", "hosts: [EXAMPLE.org]",
        "hosts: [a, a]", "client_api: ftp://a", "client_api: 127.0.0.1:8008", "client_api: http://",
        "client_api: http://a:99999", "client_api: http://a:0", "client_api: \"http://a b\"", "client_api: http://a//",
        "client_api: http://a?b=c", "client_api: http://a/#b", "client_api: http://me:secret@a", "client_api: \"\""}) {
    EXPECT_THAT(homeserver_mistake(bad), HasSubstr("s.yaml:3: homeservers[0].")) << bad;
  }
  EXPECT_THAT(mistakes_in("homeservers: [{server_name: a b}]"), ElementsAre(HasSubstr("must be a server name")));
  EXPECT_THAT(mistakes_in("homeservers:\n- server_name: a\n- server_name: b\n- server_name: A\n"),
              ElementsAre("s.yaml:4: homeservers[2].server_name: names a homeserver that is named already by "
                          "homeservers[0].server_name"));
  EXPECT_THAT(mistakes_in("homeservers:\n- {server_name: a, hosts: [h]}\n- {server_name: b, hosts: [c, h]}\n"),
              ElementsAre(HasSubstr("s.yaml:3: homeservers[1].hosts[1]: names a homeserver")));
  EXPECT_EQ(parsed("homeservers: [{server_name: a, client_api: 'https://[::1]:8448/base/'}]").homeservers[0].client_api,
            "https://[::1]:8448/base");
}

TEST(Config, ChecksTokens) {
  for (const char* bad :
       {R"({token: "", user: "@a:example.org"})", R"({token: "a\tb", user: "@a:example.org"})",
        R"({token: "a b", user: "@a:example.org"})", R"({token: "é", user: "@a:example.org"})", R"({token: x})",
        R"({user: "@a:example.org"})", R"({token: x, user: a})", R"({token: x, user: "@a:example.com"})",
        R"({token: "***", user: "@a:example.org"})", R"({token: x, user: "@a:example.org", admin: 2})",
        R"({token: x, user: "@a:example.org"}, {token: x, user: "@b:example.org"})"}) {
    EXPECT_THAT(homeserver_mistake(fmt::format("tokens: [{}]", bad)), HasSubstr("s.yaml:3: homeservers[0].tokens["))
        << bad;
  }
  // Two homeservers do not know each other's tokens.
  parsed(R"(homeservers: [{server_name: a, tokens: [{token: x, user: "@a:a"}]},
                          {server_name: b, tokens: [{token: x, user: "@a:b"}]}])");
}

TEST(Config, ChecksAdmins) {
  EXPECT_THAT(parsed(R"(homeservers: [{server_name: a, admins: ["@root:a", "@ops:a"]}])").homeservers[0].admins,
              ElementsAre("@root:a", "@ops:a"));
  EXPECT_THAT(homeserver_mistake("admins: [root]"), HasSubstr("s.yaml:3: homeservers[0].admins[0]: must be a full"));
  EXPECT_THAT(homeserver_mistake("admins: [\"@root:example.com\"]"),
              HasSubstr("s.yaml:3: homeservers[0].admins[0]: must be a user of this homeserver, example.org"));
}

TEST(Config, AHomeserverMayDifferFromWhatHoldsForAll) {
  const Config config = parsed(R"(
homeservers:
  - server_name: example.org
  - server_name: example.net
    uploads: {max_size: 1MiB, max_pending_per_user: 3, create_rate: {burst: 9}, content_types: {allow: [image/*], deny: []}}
    downloads:
      unauthenticated: deny
      frozen_since: 2024-09-01
      rate: {per_user: {bytes_per_second: 1MiB}, per_address: {burst: 2MiB}}
)");
  EXPECT_EQ(config.homeservers[0].uploads.max_size, std::nullopt);
  EXPECT_EQ(config.homeservers[0].uploads.content_types.allow, std::nullopt);
  const Homeserver& own = config.homeservers[1];
  EXPECT_EQ(own.uploads.max_size, 1u << 20);
  EXPECT_EQ(own.uploads.create_rate.per_second, std::nullopt);
  EXPECT_EQ(own.uploads.create_rate.burst, 9);
  EXPECT_THAT(own.uploads.content_types.allow, testing::Optional(ElementsAre("image/*")));
  EXPECT_THAT(own.uploads.content_types.deny, testing::Optional(IsEmpty()));
  EXPECT_EQ(own.downloads.unauthenticated, UnauthenticatedAccess::kDeny);
  EXPECT_EQ(own.downloads.rate.per_user.bytes_per_second, 1u << 20);
  EXPECT_EQ(own.downloads.rate.per_address.burst, 2u << 20);
  EXPECT_EQ(to_yaml(parsed(to_yaml(config))), to_yaml(config));
  EXPECT_THAT(homeserver_mistake("uploads: {max_size: 0}"), HasSubstr("s.yaml:3: homeservers[0].uploads.max_size"));
  EXPECT_THAT(homeserver_mistake("uploads: {unused_expiry: 1h}"),
              HasSubstr("s.yaml:3: homeservers[0].uploads.unused_expiry: unknown key"));
}

TEST(Config, ChecksContentTypes) {
  parsed(kMinimal + "uploads: {content_types: {allow: [image/*, '*/*', a/b+c], deny: [Text/HTML]}}");
  for (const char* bad :
       {"", "image", "image/", "/png", "*/png", "im*/png", "image/p*", "image/png; a=b", "a/b, c/d"}) {
    EXPECT_THAT(mistake_of(fmt::format("uploads: {{content_types: {{deny: [\"{}\"]}}}}", bad)),
                HasSubstr("s.yaml:2: uploads.content_types.deny[0]: must be a media type"))
        << bad;
  }
}

TEST(Config, ChecksWhatBelongsTogether) {
  EXPECT_EQ(mistake_of("downloads: {default_wait: 2m}"),
            "s.yaml:2: downloads.default_wait: default_wait (2m) must not be longer than max_wait (1m)");
  EXPECT_EQ(mistake_of("downloads: {max_wait: 10s}"),
            "s.yaml:2: downloads.max_wait: default_wait (20s) must not be longer than max_wait (10s)");
  EXPECT_THAT(mistake_of("metrics: {listen: 127.0.0.1:8090}"),
              HasSubstr("s.yaml:2: metrics.listen: must be another port"));
  EXPECT_THAT(mistake_of("metrics: {listen: 0.0.0.0:8090}"), HasSubstr("must be another port"));
  parsed("{listen: '127.0.0.1:0', metrics: {listen: '127.0.0.1:0'}, homeservers: [{server_name: a}]}");
}

TEST(Config, ChecksTrustedProxies) {
  parsed(kMinimal + "http: {trusted_proxies: [1.2.3.4, 0.0.0.0/0, 1.2.3.4/32, '::/0', '::1/128', '::ffff:1.2.3.4']}");
  for (const char* bad : {"1.2.3", "1.2.3.4/33", "1.2.3.4/", "1.2.3.4/-1", "1.2.3.4/8/8", "::1/129", "localhost", "",
                          "[::1]", "1.2.3.4/+8"}) {
    EXPECT_THAT(mistake_of(fmt::format("http: {{trusted_proxies: [127.0.0.1, \"{}\"]}}", bad)),
                HasSubstr("s.yaml:2: http.trusted_proxies[1]: must be an IP address"))
        << bad;
  }
}

TEST(Config, RefusesBrokenAndHostileYaml) {
  EXPECT_THAT(mistakes_in("log:\n  level: info\n format: text\n"), ElementsAre(HasSubstr("s.yaml:3: bad YAML: ")));
  EXPECT_THAT(mistakes_in("log: {level: info\n"), ElementsAre(HasSubstr("bad YAML: ")));
  EXPECT_THAT(mistakes_in("log:\n  &x level: info\nb: *x\n"),
              ElementsAre("s.yaml:2: bad YAML: anchors (&name) are not read here"));
  EXPECT_THAT(mistakes_in("log:\n  level: !!str info\n"),
              ElementsAre("s.yaml:2: bad YAML: tags (!name) are not read here"));
  EXPECT_THAT(mistakes_in("log: {}\n---\nlog: {}\n"), ElementsAre(HasSubstr("a second document")));
  EXPECT_THAT(mistakes_in("[a]: b\n"), ElementsAre("s.yaml:1: bad YAML: a key must be a single word"));
  EXPECT_THAT(mistakes_in("~: b\n"), ElementsAre("s.yaml:1: bad YAML: a key is missing here"));
  EXPECT_THAT(mistakes_in("- a\n"), testing::Contains("s.yaml:1: must be a mapping of keys"));
  EXPECT_THAT(mistakes_in("just words\n"), testing::Contains("s.yaml:1: must be a mapping of keys"));
  EXPECT_THAT(mistakes_in("log: {}\n\xff\n"), ElementsAre("s.yaml:2: is not UTF-8 text"));
  EXPECT_THAT(mistakes_in(std::string_view("\n\nlog\0: {}\n", 11)), ElementsAre("s.yaml:3: holds a control character"));
  EXPECT_THAT(mistakes_in("\"\\"), ElementsAre("s.yaml:1: bad YAML: unknown escape character: ?"));
  EXPECT_THAT(mistakes_in("\"\\\u00e9\""), ElementsAre("s.yaml:1: bad YAML: unknown escape character: ?"));
}

TEST(Config, RefusesAbsurdInputSoon) {
  constexpr std::size_t kMost = 1 << 20;
  std::string dashes;
  while (dashes.size() < kMost) dashes += "- ";
  EXPECT_THAT(mistakes_in(dashes), ElementsAre("s.yaml:1: bad YAML: nested too deeply"));
  EXPECT_THAT(mistakes_in("log: " + std::string(20, '[') + std::string(20, ']')),
              ElementsAre("s.yaml:1: bad YAML: nested too deeply"));
  for (const char brace : {'[', '{'}) {
    EXPECT_THAT(mistakes_in(std::string(kMost, brace)), ElementsAre(HasSubstr("s.yaml:1: bad YAML: "))) << brace;
  }
  EXPECT_THAT(mistakes_in(std::string(kMost + 1, '\n')), ElementsAre("s.yaml: is larger than 1MiB"));
}

TEST(Config, TellsNoMoreThanAHundredMistakes) {
  std::string yaml = kMinimal;
  for (int i = 0; i < 150; ++i) yaml += fmt::format("key{}: 1\n", i);
  const auto mistakes = mistakes_in(yaml);
  ASSERT_EQ(mistakes.size(), 101u);
  EXPECT_EQ(mistakes.back(), "s.yaml: and 50 more mistakes");
}

TEST(Config, MessagesRepeatNoValuesAndStayOnOneLine) {
  for (const std::string& mistake :
       {homeserver_mistake("tokens: [{token: \"hunter2 \", user: \"@a:example.org\"}]"),
        homeserver_mistake("client_api: http://admin:hunter2@example.org"), mistake_of("log: {level: hunter2}")}) {
    EXPECT_THAT(mistake, Not(HasSubstr("hunter2")));
  }
  EXPECT_THAT(mistake_of("\"a\\nb\\x1b[31m\": 1"), HasSubstr("s.yaml:2: a?b?[31m: unknown key"));
  EXPECT_LT(mistake_of("\"" + std::string(5000, 'x') + "\": 1").size(), 300u);
}

TEST(Config, PrintsWhatItReadsBackToTheSame) {
  const Config config = parsed(R"(
listen: "[::1]:8090"
data_dir: "with: odd #characters, 'and' \"quotes\" é"
homeservers:
  - server_name: example.org
    hosts: [a, b]
    client_api: https://matrix.example.org
    tokens: [{token: hunter2, user: "@alice:example.org"}, {token: hunter3, user: "@bob:example.org", admin: true}]
  - {server_name: "null", hosts: []}
uploads: {max_size: 1234567, unused_expiry: 1501ms, create_rate: {per_second: 0.1, burst: 1e300}}
downloads: {frozen_since: 2024-09-01T12:34:56.789Z, unauthenticated: deny}
http: {trusted_proxies: []}
metrics: {listen: 127.0.0.1:9090}
)");
  const std::string yaml = to_yaml(config);
  EXPECT_THAT(yaml, Not(HasSubstr("hunter")));
  EXPECT_THAT(yaml, HasSubstr("token: \"***\""));
  EXPECT_THAT(yaml, HasSubstr("max_size: 1234567B"));
  EXPECT_THAT(yaml, HasSubstr("frozen_since: 2024-09-01T12:34:56.789Z"));
  EXPECT_THAT(mistakes_in(yaml), testing::Contains(HasSubstr("is only the mask of a printed configuration; write the "
                                                             "token itself, here or in "
                                                             "SLUICE_HOMESERVERS_0_TOKENS_0_TOKEN")));
  const Variables tokens = {{"SLUICE_HOMESERVERS_0_TOKENS_0_TOKEN", "hunter2"},
                            {"SLUICE_HOMESERVERS_0_TOKENS_1_TOKEN", "hunter3"}};
  const Config again = parsed(yaml, tokens);
  EXPECT_EQ(to_yaml(again), yaml);
  EXPECT_EQ(again.data_dir, config.data_dir);
  EXPECT_EQ(again.uploads.create_rate.burst, 1e300);
  EXPECT_EQ(again.homeservers.at(0).tokens.at(0).token, "hunter2");
  EXPECT_EQ(to_yaml(parsed(to_yaml(parsed(kMinimal)))), to_yaml(parsed(kMinimal)));
}

TEST(Config, LoadsAFile) {
  EXPECT_THAT(load("/nowhere/s.yaml", {}).error().at(0).to_string(),
              "/nowhere/s.yaml: cannot be read: No such file or directory");
  EXPECT_THAT(load("/", {}).error().at(0).to_string(), HasSubstr("/: cannot be read"));
  EXPECT_THAT(load("/dev/zero", {}).error().at(0).to_string(), "/dev/zero: is larger than 1MiB");
  EXPECT_THAT(load("/dev/null", {}).error().at(0).to_string(), HasSubstr("/dev/null: homeservers: at least one"));
}

}  // namespace
}  // namespace sluice::config
