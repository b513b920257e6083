// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"

namespace sluice::config {

/// `host:port`; the host is an IPv4 literal, a bracketed IPv6 literal or `localhost`. Port 0 lets the kernel choose.
struct Endpoint {
  std::string host;
  std::uint16_t port = 0;
  std::string to_string() const;  // brackets an IPv6 literal
  bool operator==(const Endpoint&) const = default;
};

struct StaticToken {
  std::string token;
  std::string user;  // a full user id
  bool admin = false;
};

struct Rate {
  double per_second = 10;
  double burst = 50;
};

struct ByteRate {
  std::uint64_t bytes_per_second = 0;  // 0: any
  std::uint64_t burst = 256ull << 20;
};

/// How fast content may be downloaded: by a user, or without one by a client address.
struct DownloadRate {
  ByteRate per_user;
  ByteRate per_address;
};

/// Patterns of media types, "image/png" or "image/*". What is denied is not allowed; an empty `allow` is for all.
struct ContentTypes {
  std::vector<std::string> allow;
  std::vector<std::string> deny;
};

enum class UnauthenticatedAccess { kAllow, kFrozen, kDeny };

struct Homeserver {
  std::string server_name;
  std::vector<std::string> hosts;         // further Host headers that mean this homeserver; no ports
  std::optional<std::string> client_api;  // http(s) base URL without a trailing slash
  std::vector<StaticToken> tokens;
  std::vector<std::string> admins;  // full user ids; whoami does not tell who is one

  // What holds here in the place of the keys of the same names for all; what is absent does not differ.
  struct Uploads {
    std::optional<std::uint64_t> max_size;
    std::optional<std::uint32_t> max_pending_per_user;
    struct Rate {
      std::optional<double> per_second;
      std::optional<double> burst;
    } create_rate;
    struct ContentTypes {
      std::optional<std::vector<std::string>> allow;
      std::optional<std::vector<std::string>> deny;
    } content_types;
  } uploads;

  struct Downloads {
    std::optional<UnauthenticatedAccess> unauthenticated;
    std::optional<WallTime> frozen_since;
    struct ByteRate {
      std::optional<std::uint64_t> bytes_per_second;
      std::optional<std::uint64_t> burst;
    };
    struct Rate {
      ByteRate per_user;
      ByteRate per_address;
    } rate;
  } downloads;
};

/// What each user that is meant may have stored. What is absent is not limited.
struct Quota {
  std::string users = "*";  // full user ids; * stands for any characters
  std::optional<std::uint32_t> max_files;
  std::optional<std::uint64_t> max_bytes;
  struct Window {
    std::optional<std::uint64_t> bytes;
    std::chrono::milliseconds per = std::chrono::hours(24);
  } window;
};

enum class ThumbnailMethod { kScale, kCrop };

struct ThumbnailSize {
  std::uint32_t width = 0;  // pixels
  std::uint32_t height = 0;
  ThumbnailMethod method = ThumbnailMethod::kScale;
};

enum class SandboxDemand { kPreferred, kRequired };
enum class LogFormat { kText, kJson };
enum class LogLevel { kDebug, kInfo, kWarn, kError };

/// What the server is told, complete: every default is here, and docs/configuration.md explains each key.
/// A plain value; read it from any thread.
struct Config {
  Endpoint listen{"127.0.0.1", 8090};
  std::string data_dir = "./sluice-data";
  std::vector<Homeserver> homeservers;  // never empty in a loaded Config; the first is the default

  struct Uploads {
    std::uint64_t max_size = 100ull << 20;
    std::uint32_t max_pending_per_user = 5;
    std::chrono::milliseconds unused_expiry = std::chrono::hours(24);
    Rate create_rate;
    ContentTypes content_types;
  } uploads;

  std::vector<Quota> quotas;  // the first that means a user counts

  struct Downloads {
    std::chrono::milliseconds default_wait = std::chrono::seconds(20);
    std::chrono::milliseconds max_wait = std::chrono::seconds(60);
    std::uint32_t max_waiting = 10'000;
    std::optional<std::uint32_t> max_waiting_per_media;  // absent: as max_waiting
    std::uint32_t max_waiting_per_address = 256;         // addresses of clients, as trusted proxies tell them
    bool live = true;
    UnauthenticatedAccess unauthenticated = UnauthenticatedAccess::kFrozen;
    std::optional<WallTime> frozen_since;  // absent: everything is newer
    DownloadRate rate;
  } downloads;

  struct Thumbnails {
    std::vector<ThumbnailSize> sizes = {{32, 32, ThumbnailMethod::kCrop},
                                        {96, 96, ThumbnailMethod::kCrop},
                                        {320, 240},
                                        {640, 480},
                                        {800, 600}};  // client-server API, "Thumbnails"
    bool at_upload = false;                           // makes them all when the upload ends, not when one is asked for
    std::optional<std::uint32_t> workers;             // processes; absent: one per core; 0: there are no thumbnails
    std::optional<std::string> worker;                // the path of sluice-thumbnailer; absent: it is looked for
    std::uint32_t max_pixels = 100'000'000;           // of a source
    std::uint32_t max_frames = 200;                   // of an animation; the rest is left out
    std::uint32_t max_queued = 512;
    std::chrono::milliseconds queue_time = std::chrono::seconds(20);
    std::chrono::milliseconds time = std::chrono::seconds(20);  // for one thumbnail
    std::uint64_t memory = 1ull << 30;                          // of one worker
    std::chrono::milliseconds failure_age = std::chrono::minutes(10);
    SandboxDemand sandbox = SandboxDemand::kPreferred;
  } thumbnails;

  struct Auth {
    std::chrono::milliseconds timeout = std::chrono::seconds(10);    // for one whoami
    std::chrono::milliseconds cache_age = std::chrono::seconds(60);  // how long a revoked token may go on working
    std::chrono::milliseconds refusal_cache_age = std::chrono::seconds(5);
    std::uint32_t cache_entries = 100'000;
  } auth;

  struct Http {
    std::uint32_t threads = 0;                                            // event loops; 0: one per core
    std::uint32_t max_connections = 0;                                    // 0: what the descriptor limit leaves
    std::chrono::milliseconds header_timeout = std::chrono::seconds(15);  // for a whole request head
    std::chrono::milliseconds idle_timeout = std::chrono::seconds(75);    // between requests
    std::chrono::milliseconds body_timeout = std::chrono::seconds(30);    // the window over which min_body_rate counts
    std::uint64_t min_body_rate = 64;                                     // bytes per second
    std::chrono::milliseconds write_timeout = std::chrono::seconds(60);   // a reader that takes nothing so long is cut
    std::vector<std::string> trusted_proxies = {"127.0.0.0/8", "::1"};    // whose X-Forwarded-For is believed
  } http;

  struct Log {
    LogFormat format = LogFormat::kText;
    LogLevel level = LogLevel::kInfo;
  } log;

  std::chrono::milliseconds shutdown_grace = std::chrono::seconds(30);

  struct Metrics {
    std::optional<Endpoint> listen;  // absent: no metrics
  } metrics;

  bool demo = false;  // whether the page under /_sluice/demo is there
};

/// One mistake in a configuration. `line` counts from 1; 0 when it came from the environment or concerns no line.
struct Mistake {
  std::string source;  // the file's name, or the environment variable's
  int line = 0;
  std::string key;  // dotted: "uploads.max_size", "homeservers[0].server_name"
  std::string message;
  std::string to_string() const;  // "sluice.yaml:3: uploads.max_sise: unknown key; did you mean max_size?"
};

using Mistakes = std::vector<Mistake>;

/// One line for each mistake, without a newline at the end.
std::string to_string(const Mistakes& mistakes);

/// Looks a variable up; `names` lists every variable that begins with SLUICE_. Comes from outside so that tests set it.
struct Environment {
  std::function<std::vector<std::string>()> names;
  std::function<std::optional<std::string>(const std::string&)> get;
  static Environment of_process();
};

/// Reads YAML, then lays the environment over it, then checks what belongs together. All mistakes are reported (up to
/// 100), not only the first; after a YAML syntax error there is that one alone. An empty text is valid as far as it
/// goes: homeservers may then come from the environment. Text or files above 1 MiB are a mistake. No message repeats a
/// token, a URL or a value that could not be read. Never throws for what it reads.
std::expected<Config, Mistakes> parse(std::string_view yaml, std::string_view file_name,
                                      const Environment& environment);
std::expected<Config, Mistakes> load(const std::string& path, const Environment& environment);

/// The whole configuration in force as YAML that `parse` reads back to the same, but for the tokens: they are replaced
/// by "***", which `parse` refuses as a token until the environment overrides it, lest "***" open the door.
std::string to_yaml(const Config& config);

}  // namespace sluice::config
