// SPDX-License-Identifier: Apache-2.0
#include "cli/serve.h"

#include <fmt/format.h>
#include <sched.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <csignal>
#include <expected>
#include <functional>
#include <iostream>
#include <thread>

#include "api/api.h"
#include "api/responses.h"
#include "base/text.h"
#include "base/units.h"
#include "blobs/folder_store.h"
#include "catalog/sqlite_catalog.h"
#include "cli/default_setup.h"
#include "cli/thumbnail_setup.h"
#include "config/config.h"
#include "config/reload.h"
#include "http/server.h"
#include "outbound/client.h"
#include "repository/repository.h"
#include "telemetry/metrics.h"
#include "telemetry/request_log.h"
#include "thumbnails/thumbnails.h"

namespace sluice::cli {
namespace {

constexpr int kCannotStart = 2;
constexpr std::size_t kDescriptorReserve = 256;  // for the catalog, the log, files being opened
// Of the descriptors, one in so many is for files of hot media; 8,192 of them are more than any machine has thumbnails
// that are asked for again and again.
constexpr std::size_t kCachedFilesShare = 32;
constexpr std::size_t kMaxCachedFiles = 8192;
constexpr Milliseconds kReapEvery = std::chrono::seconds(30);  // or sooner, when ids live shorter
constexpr std::size_t kMaxRunningUploads = 1024;
constexpr Milliseconds kDrainPoll{10};
constexpr Milliseconds kAbortTime = std::chrono::seconds(5);  // for what was cut to notice it

/// Thrown by what cannot be done at start; the message is for the user.
struct CannotStart {
  std::string message;
};

template <class T>
T or_cannot_start(Result<T> result, std::string_view doing) {
  if (!result) throw CannotStart{fmt::format("{}: {}", doing, result.error().message)};
  if constexpr (!std::is_void_v<T>) return *std::move(result);
}

/// Keeps a second server off the same data.
FileDescriptor lock_data_dir(const std::string& data_dir) {
  PosixFileSystem files;
  if (const auto made = files.make_directories(data_dir); !made) {
    throw CannotStart{fmt::format("cannot create data_dir {}: {}", data_dir, made.error().message())};
  }
  const std::string path = data_dir + "/lock";
  auto lock = files.create(path);
  if (!lock) lock = files.open_read(path);
  if (!lock) throw CannotStart{fmt::format("cannot open {}: {}", path, lock.error().message())};
  if (::flock(lock->get(), LOCK_EX | LOCK_NB) != 0) {
    throw CannotStart{fmt::format("another sluice is running on {}; stop it, or choose another data_dir", data_dir)};
  }
  return *std::move(lock);
}

/// As many descriptors as the system lets us have; yields how many.
std::size_t raise_descriptor_limit() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  ::getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}

/// SIGTERM, SIGINT and SIGHUP, taken by the main thread alone when it asks. Construct before any other thread starts.
class Signals {
 public:
  Signals() {
    sigemptyset(&set_);
    for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set_, signal);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
    std::signal(SIGXFSZ, SIG_IGN);  // a file over the process's limit is an error like a full disk, not the end
  }
  enum class Wish { kNone, kReload, kStop };
  /// What somebody wishes within the time.
  Wish next_within(Milliseconds time) const {
    const timespec limit{time.count() / 1000, (time.count() % 1000) * 1'000'000};
    const int signal = sigtimedwait(&set_, nullptr, &limit);
    if (signal < 0) return Wish::kNone;
    return signal == SIGHUP ? Wish::kReload : Wish::kStop;
  }

 private:
  sigset_t set_;
};

/// One for each processor that we may use, if that is more than one: then what a loop does not hash, another can.
std::size_t hash_threads() {
  constexpr int kMost = 16;
  cpu_set_t usable;
  if (::sched_getaffinity(0, sizeof usable, &usable) != 0) return 0;
  const int processors = CPU_COUNT(&usable);
  return processors < 2 ? 0 : static_cast<std::size_t>(std::min(processors, kMost));
}

/// The event loops, each on a thread of its own.
class LoopThreads {
 public:
  explicit LoopThreads(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) loops_.push_back(std::make_unique<Loop>());
    for (const auto& loop : loops_) {
      threads_.emplace_back([&loop = *loop] { loop.run(); });
      pthread_setname_np(threads_.back().native_handle(), "sluice-loop");
    }
  }
  ~LoopThreads() { stop(); }
  void stop() {
    for (const auto& loop : loops_) loop->stop();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }
  std::vector<Loop*> all() const {
    std::vector<Loop*> loops;
    for (const auto& loop : loops_) loops.push_back(loop.get());
    return loops;
  }
  Loop& first() { return *loops_.front(); }

 private:
  std::vector<std::unique_ptr<Loop>> loops_;
  std::vector<std::thread> threads_;
};

http::ServerOptions server_options(const config::Config& config, const config::Endpoint& endpoint,
                                   std::size_t max_connections) {
  return {
      .host = endpoint.host,
      .port = endpoint.port,
      .max_connections = max_connections,
      .header_timeout = config.http.header_timeout,
      .idle_timeout = config.http.idle_timeout,
      .body_timeout = config.http.body_timeout,
      .min_body_rate = config.http.min_body_rate,
      .write_timeout = config.http.write_timeout,
      .trusted_proxies = config.http.trusted_proxies,
      .common_fields = api::common_fields(),
  };
}

std::vector<api::Site> make_sites(const config::Config& config, outbound::Client& client, const Clock& clock) {
  std::vector<api::Site> sites;
  for (const config::Homeserver& homeserver : config.homeservers) {
    sites.push_back(
        {homeserver.server_name, homeserver.hosts, auth::make_authenticator(homeserver, config.auth, client, clock)});
  }
  return sites;
}

Task<> reap_once(repository::Repository& repository, std::atomic<bool>& is_running) {
  const Result<std::size_t> reaped = co_await repository.reap();
  if (!reaped) spdlog::error("removing expired media ids: {}", reaped.error().message);
  if (reaped && *reaped > 0) spdlog::debug("removed {} expired media ids", *reaped);
  is_running = false;
}

/// Reads the configuration anew.
using ReadConfig = std::function<std::expected<config::Config, config::Mistakes>()>;

/// The running server: everything that `serve` wires together, in the order in which it depends on each other.
class Service {
 public:
  /// Without `read_config` there is nothing to read anew.
  Service(config::Config config, ReadConfig read_config)
      : config_(std::move(config)),
        read_config_(std::move(read_config)),
        log_format_(config_.log.format),
        lock_(lock_data_dir(config_.data_dir)),
        catalog_(or_cannot_start(catalog::open_sqlite_catalog(config_.data_dir + "/catalog.sqlite"), "the catalog")),
        blobs_(or_cannot_start(blobs::open_folder_store(files_, random_, config_.data_dir), "the blob store")),
        client_(outbound::make_curl_client()),
        descriptors_(raise_descriptor_limit()),
        max_connections_(connection_limit(config_)),
        loops_(config_.http.threads > 0 ? config_.http.threads : std::max(1u, std::thread::hardware_concurrency())),
        thumbnails_(
            thumbnail_limits(config_.thumbnails, cached_files()),
            or_cannot_start(thumbnails::ThumbnailStore::open(files_, random_, config_.data_dir + "/thumbnails"),
                            "the folder of thumbnails"),
            [this](const Sha256Digest& digest) { return catalog_->refers_to(digest).value_or(true); }, clock_),
        repository_(repository::policies_of(config_),
                    {.max_running_uploads = upload_limit(),
                     .max_cached_files = cached_files(),
                     .quotas = config_.quotas,
                     .thumbnail_sizes = thumbnail_sizes(config_.thumbnails),
                     .thumbnails_at_upload = config_.thumbnails.at_upload,
                     .hash_threads = hash_threads()},
                    *catalog_, *blobs_, clock_, random_, &thumbnails_),
        api_(make_sites(config_, *client_, clock_), repository_, clock_, config_.demo),
        server_(
            server_options(config_, config_.listen, max_connections_), loops_.all(),
            [this](http::Exchange& exchange) { return api_.handle(exchange); }, api::error_response,
            [this](const http::ExchangeReport& report) {
              metrics_.record(report);
              telemetry::log_exchange(report, log_format_);
              api_.settle(report);
            }) {
    sweep();
    or_cannot_start(thumbnails_.start(), "thumbnails");
  }

  // A start that fails leaves connections behind that live on the loops and use everything else.
  ~Service() { loops_.stop(); }

  std::string start() {
    const auto port = server_.start();
    if (!port) throw CannotStart{port.error()};
    if (config_.metrics.listen) start_metrics(*config_.metrics.listen);
    const std::string url = fmt::format("http://{}", config::Endpoint{config_.listen.host, *port}.to_string());
    spdlog::info("listening on {}", url);
    return url;
  }

  void run(const Signals& signals) {
    for (;;) {
      const Milliseconds reap_every = std::clamp(config_.uploads.unused_expiry, Milliseconds(1000), kReapEvery);
      const Signals::Wish wish = signals.next_within(reap_every);
      if (wish == Signals::Wish::kNone) reap();
      // Without a file the closing of a terminal means what it always did.
      if (wish == Signals::Wish::kStop || (wish == Signals::Wish::kReload && !read_config_)) break;
      if (wish == Signals::Wish::kReload) reload();
    }
    stop(signals);
  }

 private:
  // Files of hot media that are kept open, and as many of thumbnails.
  std::size_t cached_files() const { return std::min(kMaxCachedFiles, descriptors_ / kCachedFilesShare); }

  std::size_t connection_limit(const config::Config& config) const {
    const std::size_t reserve = kDescriptorReserve + 2 * cached_files();
    const std::size_t possible = std::max<std::size_t>(descriptors_, reserve + 64) - reserve;
    return config.http.max_connections > 0 ? std::min<std::size_t>(config.http.max_connections, possible) : possible;
  }

  // Uploads cost a descriptor more than the connections that are counted.
  std::size_t upload_limit() const {
    return std::min(kMaxRunningUploads, std::max<std::size_t>(max_connections_ / 4, 16));
  }

  void sweep() {
    const auto is_referenced = [this](const Sha256Digest& digest) {
      Result<bool> referenced = catalog_->refers_to(digest);
      if (referenced && !*referenced) thumbnails_.remove(digest);
      return referenced;
    };
    const std::size_t swept = or_cannot_start(blobs_->sweep(is_referenced), "clearing the spool");
    if (swept > 0) spdlog::info("cleared {} unfinished uploads from the spool", swept);
  }

  void start_metrics(const config::Endpoint& endpoint) {
    constexpr std::size_t kScrapers = 16;
    metrics_server_.emplace(
        server_options(config_, endpoint, kScrapers), std::vector<Loop*>{&loops_.first()},
        [this](http::Exchange& exchange) { return scrape(exchange); }, api::error_response,
        [](const http::ExchangeReport&) {});
    const auto port = metrics_server_->start();
    if (!port) throw CannotStart{"metrics: " + port.error()};
    spdlog::info("metrics on http://{}/metrics", config::Endpoint{endpoint.host, *port}.to_string());
  }

  Task<http::Response> scrape(http::Exchange& exchange) {
    const std::string_view target = exchange.head().target();
    if (target.substr(0, target.find('?')) != "/metrics") {
      co_return api::error_response({404, "M_UNRECOGNIZED", "Only /metrics is here"});
    }
    const http::Traffic traffic = server_.traffic();
    http::Response response;
    response.with("Content-Type", "text/plain; version=0.0.4; charset=utf-8");
    response.body = metrics_.text({
        .stalled_downloads = repository_.stalled_downloads(),
        .live_followers = repository_.live_followers(),
        .running_uploads = repository_.running_uploads(),
        .queued_thumbnails = thumbnails_.queued(),
        .connections = traffic.connections,
        .received_bytes = traffic.received_bytes,
        .sent_bytes = traffic.sent_bytes,
    });
    co_return response;
  }

  void reap() {
    if (is_reaping_.exchange(true)) return;
    loops_.first().post([this] { spawn(reap_once(repository_, is_reaping_)); });
  }

  // Nothing that runs is disturbed: a request sees what is in force when it begins, or wakes.
  void reload() {
    const auto read = read_config_();
    if (!read) {
      for (const config::Mistake& mistake : read.error()) spdlog::error("reload: {}", mistake.to_string());
      spdlog::error("reload: the configuration stays as it was");
      return;
    }
    const config::Reload plan = config::plan_reload(config_, *read);
    config_ = plan.in_force;
    const std::vector<Loop*> loops = loops_.all();
    repository_.replace_policies(repository::policies_of(config_), loops);
    repository_.replace_quotas(config_.quotas);
    api_.replace_known(config_.homeservers, loops);
    telemetry::set_log_level(config_.log.level);
    for (const config::Change& change : plan.applied) spdlog::info("reload: {}", change.to_string());
    for (const config::Change& change : plan.needing_restart) {
      spdlog::warn("reload: {}; this needs a restart", change.to_string());
    }
    spdlog::info("reload: the configuration was read; changes in force: {}, needing a restart: {}", plan.applied.size(),
                 plan.needing_restart.size());
  }

  void stop(const Signals& signals) {
    spdlog::info("stopping; transfers under way have {} to finish, a second signal ends at once",
                 format_duration(config_.shutdown_grace));
    server_.drain();
    repository_.stop_waiting();
    if (!wait_until_idle(signals, config_.shutdown_grace)) {
      spdlog::warn("cutting {} connections", server_.traffic().connections);
      server_.abort();
      if (!wait_until_idle(signals, kAbortTime)) end_at_once(0);  // a disk that does not answer cannot be waited for
    }
    if (metrics_server_) {
      metrics_server_->drain();
      metrics_server_->abort();
      while (metrics_server_->traffic().connections > 0) std::this_thread::sleep_for(kDrainPoll);
    }
    while (is_reaping_) std::this_thread::sleep_for(kDrainPoll);
    loops_.stop();
    spdlog::info("stopped");
  }

  bool wait_until_idle(const Signals& signals, Milliseconds time) {
    const SteadyTime give_up_at = clock_.steady() + time;
    while (server_.traffic().connections > 0) {
      if (clock_.steady() >= give_up_at) return false;
      if (signals.next_within(kDrainPoll) == Signals::Wish::kStop) end_at_once(1);
    }
    return true;
  }

  // Nothing acknowledged can be lost by this: that is what the catalog and the store are for.
  [[noreturn]] static void end_at_once(int exit_code) {
    spdlog::warn("ending at once");
    spdlog::shutdown();
    std::_Exit(exit_code);
  }

  config::Config config_;  // of the main thread; loops see what they need of it in snapshots
  const ReadConfig read_config_;
  const config::LogFormat log_format_;
  const SystemClock clock_;
  SystemRandom random_;
  PosixFileSystem files_;
  FileDescriptor lock_;
  std::unique_ptr<catalog::Catalog> catalog_;
  std::unique_ptr<blobs::BlobStore> blobs_;
  std::unique_ptr<outbound::Client> client_;
  const std::size_t descriptors_;
  const std::size_t max_connections_;
  telemetry::Metrics metrics_;
  LoopThreads loops_;
  thumbnails::Thumbnails thumbnails_;
  repository::Repository repository_;
  api::Api api_;
  http::Server server_;
  std::optional<http::Server> metrics_server_;
  std::atomic<bool> is_reaping_{false};
};

void print_welcome(const DefaultSetup& setup, const std::string& url, const std::string& program) {
  // What a newcomer pastes: a download that waits, then the upload that it waits for. The client looks at the default
  // address by itself.
  const bool is_default_url = url == "http://" + config::Config().listen.to_string();
  const std::string server = is_default_url ? "" : " --server " + url;
  const std::string demo = setup.config.demo ? fmt::format("{}/_sluice/demo#token={}", url, percent_encode(setup.token))
                                             : "off; with SLUICE_DEMO=true there is a page to try it in the browser";
  fmt::print(R"(
Sluice is running.
  base URL   {url}
  token      {token}   ({file})
  demo       {demo}

Try it: a download that begins before its upload. In a second terminal:
  export SLUICE_SERVER={url} SLUICE_TOKEN={token}
  MXC=$(curl -sX POST -H "Authorization: Bearer $SLUICE_TOKEN" $SLUICE_SERVER/_matrix/media/v1/create | sed 's/.*mxc:..\([^"]*\).*/\1/')
  echo "In the third terminal:  export SLUICE_SERVER=$SLUICE_SERVER SLUICE_TOKEN=$SLUICE_TOKEN MXC=$MXC"
  curl -N -H "Authorization: Bearer $SLUICE_TOKEN" "$SLUICE_SERVER/_matrix/client/v1/media/download/$MXC?timeout_ms=60000"
and while that waits, in a third, first the line that the second has printed, then:
  for i in 1 2 3 4 5; do echo "line $i"; sleep 1; done | curl -X PUT -T - -H "Authorization: Bearer $SLUICE_TOKEN" $SLUICE_SERVER/_matrix/media/v3/upload/$MXC; echo

With Sluice's own client, in this folder:
  {program} put video.mkv{server}        prints the mxc URI at once, then uploads
  {program} get mxc://... -o -{server}   follows the upload while it runs

)",
             fmt::arg("url", url), fmt::arg("token", setup.token), fmt::arg("file", setup.token_file),
             fmt::arg("program", program), fmt::arg("server", server), fmt::arg("demo", demo));
  std::fflush(stdout);
}

}  // namespace

int serve(const ServeOptions& options) {
  const Signals signals;
  ::umask(077);  // what users sent, and who they are, is nobody else's on this machine
  std::optional<DefaultSetup> default_setup;
  config::Config config;
  ReadConfig read_config;
  if (options.config_file) {
    read_config = [file = *options.config_file] { return config::load(file, config::Environment::of_process()); };
    auto loaded = read_config();
    if (!loaded) {
      std::cerr << config::to_string(loaded.error()) << "\n";
      return kCannotStart;
    }
    config = *std::move(loaded);
  } else {
    auto setup = make_default_setup(config::Environment::of_process());
    if (!setup) {
      std::cerr << "sluice: " << setup.error() << "\n";
      return kCannotStart;
    }
    config = setup->config;
    default_setup = *std::move(setup);
  }
  telemetry::start_log(config.log);
  try {
    Service service(std::move(config), std::move(read_config));
    const std::string url = service.start();
    if (default_setup) print_welcome(*default_setup, url, options.program);
    service.run(signals);
    return 0;
  } catch (const CannotStart& reason) {
    std::cerr << "sluice: " << reason.message << "\n";
    return kCannotStart;
  }
}

int check_config(const std::string& config_file) {
  const auto config = config::load(config_file, config::Environment::of_process());
  if (!config) {
    std::cerr << config::to_string(config.error()) << "\n";
    return 1;
  }
  std::cout << config::to_yaml(*config);
  return 0;
}

}  // namespace sluice::cli
