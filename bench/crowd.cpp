// SPDX-License-Identifier: Apache-2.0
// A crowd of stalled downloads in one process: its private memory for each, its processor time while they wait, and how
// long it takes from a small upload until all are served. Prints one JSON object.
//
//   bench_crowd [--pin] [--idle-seconds N] [DOWNLOADS...]      (10000 50000 100000)
//
// The server is made of the rooms as `sluice serve` makes it, but for the catalog and the blob store, which rest in
// memory: the only file is opened before the loops start. That is because a process may have fewer descriptors than the
// crowd needs. Each loop's thread takes a descriptor table of its own (unshare(CLONE_FILES)) before it accepts; what
// was opened before has the same number in all of them. The clients are processes of their own. With --pin the server
// has the first processor and the clients the others.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "api/api.h"
#include "api/responses.h"
#include "http/server.h"
#include "outbound/client.h"
#include "repository/repository.h"
#include "support.h"

namespace sluice {
namespace {

constexpr std::string_view kServerName = "example.org";
constexpr std::string_view kToken = "secret";
constexpr std::size_t kConnectionsEach = 15'000;  // of a loop, or of a process of clients
constexpr std::size_t kConnectionsOfAnAddress = 10'000;
constexpr std::size_t kUploadBytes = 1024;
constexpr auto kPatience = std::chrono::seconds(120);

[[noreturn]] void fail_with(const std::string& what) { throw std::runtime_error(what); }
[[noreturn]] void fail_with_errno(const std::string& what) { fail_with(what + ": " + std::strerror(errno)); }

double seconds_since(SteadyTime began) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

void use_processors(bool server) {
  cpu_set_t set;
  CPU_ZERO(&set);
  const unsigned count = std::max(2u, std::thread::hardware_concurrency());
  for (unsigned i = server ? 0 : 1; i < (server ? 1 : count); ++i) CPU_SET(i, &set);
  ::sched_setaffinity(0, sizeof set, &set);
}

// ---- clients ----

int connect_to(std::uint16_t port, std::uint32_t from_address) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket < 0) fail_with_errno("socket");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(from_address);
  // The kernel chooses the port when it knows both ends.
  const int on = 1;
  ::setsockopt(socket, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  if (::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) fail_with_errno("bind");
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  if (::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) fail_with_errno("connect");
  return socket;
}

/// What the benchmark tells a process of clients.
struct Order {
  std::uint16_t port = 0;
  std::uint32_t downloads = 0;  // to begin now; 0: wait until all are served
  std::array<char, 256> target{};
};

/// A process of clients, from the inside. Answers each order with a byte.
class Clients {
 public:
  Clients(int control, std::uint32_t first_address) : control_(control), first_address_(first_address) {}

  void run() {
    Order order;
    for (;;) {
      const ssize_t got = ::recv(control_, &order, sizeof order, MSG_WAITALL);
      if (got != sizeof order) return;
      if (order.downloads == 0) {
        wait_until_served();
      } else {
        begin(order);
      }
      bench::send_all(control_, "y");
    }
  }

 private:
  struct Download {
    int socket;
    std::string received;
  };

  void begin(const Order& order) {
    const std::string request =
        fmt::format("GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: bench\r\nAuthorization: Bearer {}\r\n\r\n",
                    order.target.data(), kServerName, kToken);
    for (std::uint32_t i = 0; i < order.downloads; ++i) {
      const auto address = first_address_ + static_cast<std::uint32_t>(downloads_.size() / kConnectionsOfAnAddress);
      const int socket = connect_to(order.port, address);
      bench::send_all(socket, request);
      epoll_event event{.events = EPOLLIN, .data = {.u64 = downloads_.size()}};
      if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, socket, &event) != 0) fail_with_errno("epoll_ctl");
      downloads_.push_back({socket, {}});
    }
  }

  void wait_until_served() {
    std::array<epoll_event, 256> events;
    for (std::size_t left = downloads_.size(); left > 0;) {
      const int count = ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), -1);
      for (int i = 0; i < count; ++i) {
        if (receive(downloads_[events[static_cast<std::size_t>(i)].data.u64])) --left;
      }
    }
  }

  // True when this was the last of it.
  bool receive(Download& download) {
    std::array<char, 4096> buffer;
    const ssize_t got = ::recv(download.socket, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (got <= 0) fail_with("a download was cut: " + download.received);
    download.received.append(buffer.data(), static_cast<std::size_t>(got));
    const std::size_t head = download.received.find("\r\n\r\n");
    if (head == std::string::npos) return false;
    if (!download.received.starts_with("HTTP/1.1 200 ")) fail_with("not served: " + download.received);
    return download.received.size() == head + 4 + kUploadBytes;
  }

  const int control_;
  const std::uint32_t first_address_;
  const int epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
  std::vector<Download> downloads_;
};

/// A process of clients, from the outside.
class ClientProcess {
 public:
  /// Forks: before there are threads.
  ClientProcess(std::uint32_t first_address, bool pin) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()) != 0) fail_with_errno("socketpair");
    process_ = ::fork();
    if (process_ < 0) fail_with_errno("fork");
    if (process_ == 0) {
      ::close(ends[0]);
      if (pin) use_processors(false);
      try {
        Clients(ends[1], first_address).run();
      } catch (const std::exception& failure) {
        fmt::print(stderr, "client: {}\n", failure.what());
        ::_exit(1);
      }
      ::_exit(0);
    }
    ::close(ends[1]);
    control_ = ends[0];
  }
  ~ClientProcess() {
    ::close(control_);
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
  }
  ClientProcess(const ClientProcess&) = delete;
  ClientProcess& operator=(const ClientProcess&) = delete;

  void order(const Order& order) {
    bench::send_all(control_, std::string_view(reinterpret_cast<const char*>(&order), sizeof order));
  }
  void await_done() {
    char answer = 0;
    if (::recv(control_, &answer, 1, 0) != 1) fail_with("a process of clients has failed");
  }
  std::size_t downloads = 0;

 private:
  pid_t process_ = 0;
  int control_ = -1;
};

// ---- what the server rests on ----

class MemoryCatalog final : public catalog::Catalog {
 public:
  Result<> reserve(const catalog::Reservation& reservation, std::uint32_t) override {
    const std::lock_guard lock(mutex_);
    records_[reservation.mxc].reservation = reservation;
    return {};
  }
  Result<catalog::Record> find(const Mxc& mxc) override {
    const std::lock_guard lock(mutex_);
    const auto found = records_.find(mxc);
    return found == records_.end() ? catalog::Record() : found->second;
  }
  Result<> store(const catalog::StoredMedia& media, const catalog::Allowance&) override {
    const std::lock_guard lock(mutex_);
    records_[media.mxc] = {.stored = media};
    return {};
  }
  Result<catalog::Usage> usage(std::string_view) override { return catalog::Usage(); }
  Result<std::uint64_t> check_room(std::string_view, const catalog::Usage&, const catalog::Allowance&,
                                   WallTime) override {
    return 0;
  }
  Result<bool> remove(const catalog::Record&) override { return false; }
  Result<std::size_t> quarantine(std::span<const Sha256Digest>) override { return 0; }
  Result<std::size_t> release(std::span<const Sha256Digest>) override { return 0; }
  Result<std::vector<catalog::StoredMedia>> stored_by(std::string_view, const std::optional<catalog::StoredMedia>&,
                                                      std::size_t) override {
    return std::vector<catalog::StoredMedia>();
  }
  Result<bool> refers_to(const Sha256Digest&) override { return true; }
  Result<std::size_t> reap(WallTime, std::size_t) override { return 0; }
  Result<> in_one_transaction(const std::function<void()>& work) override {
    work();
    return {};
  }
  Result<> check() override { return {}; }

 private:
  std::mutex mutex_;
  std::unordered_map<Mxc, catalog::Record> records_;
};

/// One file, for one upload.
class OneFile final : public blobs::BlobStore {
 public:
  OneFile() : file_(std::make_shared<const FileDescriptor>(::memfd_create("bench", MFD_CLOEXEC))) {
    if (!*file_) fail_with_errno("memfd_create");
  }

  Result<std::unique_ptr<blobs::SpoolFile>> create_spool() override { return std::make_unique<Spool>(file_); }
  Result<> write_at(blobs::SpoolFile&, std::span<const std::byte> data, std::uint64_t offset) override {
    const ssize_t written = ::pwrite(file_->get(), data.data(), data.size(), static_cast<off_t>(offset));
    if (written != static_cast<ssize_t>(data.size())) fail_with_errno("pwrite");
    return {};
  }
  std::unique_ptr<blobs::SpoolFile> hold(std::vector<std::byte> content) override {
    auto spool = std::make_unique<Spool>(file_);
    (void)write_at(*spool, content, 0);
    return spool;
  }
  void begin_sync(const FileDescriptor&) override {}
  void publish(std::span<blobs::Publication* const>) override {}
  void settle(blobs::SpoolFile&) override {}
  bool tidy(const blobs::IsReferenced&) override { return false; }
  Result<std::unique_ptr<blobs::SpoolFile>> begin_removal(const Sha256Digest&) override { return nullptr; }
  void finish_removal(blobs::SpoolFile&) override {}
  void discard(blobs::SpoolFile&, const blobs::IsReferenced&) override {}
  Result<std::shared_ptr<const FileDescriptor>> open(const Sha256Digest&) override { return file_; }
  Result<std::size_t> sweep(const blobs::IsReferenced&) override { return 0; }
  Result<> check() override { return {}; }

 private:
  class Spool final : public blobs::SpoolFile {
   public:
    explicit Spool(std::shared_ptr<const FileDescriptor> file) : file_(std::move(file)) {}
    const std::shared_ptr<const FileDescriptor>& descriptor() const override { return file_; }

   private:
    const std::shared_ptr<const FileDescriptor> file_;
  };

  const std::shared_ptr<const FileDescriptor> file_;
};

// ---- the server ----

config::Config make_config(std::size_t downloads) {
  config::Config config;
  config.homeservers.push_back({.server_name = std::string(kServerName),
                                .tokens = {{.token = std::string(kToken), .user = "@alice:example.org"}}});
  config.downloads.max_wait = std::chrono::hours(1);
  config.downloads.max_waiting = static_cast<std::uint32_t>(downloads);
  config.downloads.max_waiting_per_address = static_cast<std::uint32_t>(downloads);
  return config;
}

std::vector<api::Site> make_sites(const config::Config& config, outbound::Client& client, const Clock& clock) {
  std::vector<api::Site> sites;
  for (const config::Homeserver& homeserver : config.homeservers) {
    sites.push_back({homeserver.server_name, {}, auth::make_authenticator(homeserver, config.auth, client, clock)});
  }
  return sites;
}

/// As in `sluice serve`, but that each loop has descriptors of its own.
class Server {
 public:
  explicit Server(std::size_t downloads)
      : config_(make_config(downloads)),
        repository_(repository::policies_of(config_), {}, catalog_, blobs_, clock_, random_),
        api_(make_sites(config_, *client_, clock_), repository_, clock_) {
    const std::size_t count = downloads / kConnectionsEach + 1;
    std::vector<Loop*> loops;
    for (std::size_t i = 0; i < count; ++i) loops.push_back(loops_.emplace_back(std::make_unique<Loop>()).get());
    server_ = std::make_unique<http::Server>(
        http::ServerOptions{
            .host = "127.0.0.1", .max_connections = 2 * downloads, .common_fields = api::common_fields()},
        loops, [this](http::Exchange& exchange) { return api_.handle(exchange); }, api::error_response,
        [](const http::ExchangeReport&) {});
    const auto port = server_->start();
    if (!port) fail_with(port.error());
    port_ = *port;
    for (const auto& loop : loops_) {
      threads_.emplace_back([&loop = *loop] {
        if (::unshare(CLONE_FILES) != 0) fail_with_errno("unshare");
        loop.run();
      });
    }
  }
  ~Server() {
    for (const auto& loop : loops_) loop->stop();
    for (std::thread& thread : threads_) thread.join();
  }

  std::uint16_t port() const { return port_; }
  std::size_t loops() const { return loops_.size(); }
  std::size_t stalled() const { return repository_.stalled_downloads(); }

 private:
  const config::Config config_;
  const SystemClock clock_;
  SystemRandom random_;
  MemoryCatalog catalog_;
  OneFile blobs_;
  std::unique_ptr<outbound::Client> client_ = outbound::make_curl_client();
  std::vector<std::unique_ptr<Loop>> loops_;
  repository::Repository repository_;
  api::Api api_;
  std::unique_ptr<http::Server> server_;
  std::uint16_t port_ = 0;
  std::vector<std::thread> threads_;
};

/// Sends a request and receives the answer, to the last byte.
std::string ask(std::uint16_t port, std::string_view method, std::string_view target, std::string_view body) {
  const int socket = connect_to(port, INADDR_LOOPBACK);
  bench::send_all(socket, fmt::format("{} {} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n"
                                      "Content-Length: {}\r\n\r\n{}",
                                      method, target, kServerName, kToken, body.size(), body));
  std::string answer;
  std::array<char, 4096> buffer;
  for (ssize_t got = 1; (got = ::recv(socket, buffer.data(), buffer.size(), 0)) > 0;) {
    answer.append(buffer.data(), static_cast<std::size_t>(got));
  }
  ::close(socket);
  if (!answer.starts_with("HTTP/1.1 200 ")) fail_with(fmt::format("{} {}: {}", method, target, answer));
  return answer;
}

std::string create(std::uint16_t port) {
  const std::string answer = ask(port, "POST", "/_matrix/media/v1/create", "");
  const std::string begin = fmt::format("mxc://{}/", kServerName);
  const std::size_t id = answer.find(begin) + begin.size();
  return answer.substr(id, answer.find('"', id) - id);
}

// ---- measuring ----

std::size_t private_bytes() {
  std::ifstream file("/proc/self/smaps_rollup");
  std::size_t total = 0;
  for (std::string word; file >> word;) {
    std::size_t kibibytes = 0;
    if ((word == "Private_Clean:" || word == "Private_Dirty:") && file >> kibibytes) total += kibibytes * 1024;
  }
  return total;
}

double processor_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

class Crowd {
 public:
  Crowd(std::size_t most, bool pin) {
    const std::size_t count = most / kConnectionsEach + 1;
    for (std::uint32_t i = 0; i < count; ++i) {
      clients_.push_back(std::make_unique<ClientProcess>(INADDR_LOOPBACK + 256 * (i + 1), pin));
    }
    if (pin) use_processors(true);
  }

  void grow_to(std::size_t downloads, const Server& server, const std::string& target) {
    Order order{.port = server.port()};
    target.copy(order.target.data(), order.target.size() - 1);
    for (std::size_t i = 0; i < clients_.size(); ++i) {
      const std::size_t share = downloads * (i + 1) / clients_.size() - downloads * i / clients_.size();
      order.downloads = static_cast<std::uint32_t>(share - clients_[i]->downloads);
      if (order.downloads == 0) fail_with("each number must be well above the one before");
      clients_[i]->downloads = share;
      clients_[i]->order(order);
    }
    for (const auto& client : clients_) client->await_done();
    for (const SteadyTime began = std::chrono::steady_clock::now(); server.stalled() != downloads;) {
      if (seconds_since(began) > std::chrono::duration<double>(kPatience).count()) {
        fail_with(fmt::format("{} of {} downloads are stalled", server.stalled(), downloads));
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    std::this_thread::sleep_for(std::chrono::seconds(1));  // until the last has fallen asleep
  }

  /// From before the upload until the last client has the last byte.
  double serve(const Server& server, const std::string& target) {
    for (const auto& client : clients_) client->order({.port = server.port(), .downloads = 0});
    const SteadyTime began = std::chrono::steady_clock::now();
    ask(server.port(), "PUT", target, std::string(kUploadBytes, 'x'));
    for (const auto& client : clients_) client->await_done();
    return seconds_since(began);
  }

 private:
  std::vector<std::unique_ptr<ClientProcess>> clients_;
};

void measure(const std::vector<std::size_t>& levels, bool pin, unsigned idle_seconds) {
  Crowd crowd(levels.back(), pin);
  Server server(levels.back());
  const std::string id = create(server.port());
  const std::string target = fmt::format("/_matrix/client/v1/media/download/{}/{}?timeout_ms=3600000", kServerName, id);

  const std::size_t before = private_bytes();
  std::vector<std::string> memory;
  for (const std::size_t level : levels) {
    crowd.grow_to(level, server, target);
    const double each = static_cast<double>(private_bytes() - before) / static_cast<double>(level);
    memory.push_back(fmt::format(R"({{"downloads": {}, "private_bytes_each": {:.0f}}})", level, each));
  }

  const double idle_before = processor_seconds();
  std::this_thread::sleep_for(std::chrono::seconds(idle_seconds));
  const double idle = processor_seconds() - idle_before;

  const double serving_before = processor_seconds();
  const double served = crowd.serve(server, fmt::format("/_matrix/media/v3/upload/{}/{}", kServerName, id));
  fmt::print(
      "{{\"loops\": {}, \"private_bytes_before\": {},\n \"memory\": [{}],\n \"idle_seconds\": {}, "
      "\"idle_processor_ms\": {:.1f},\n \"upload_to_all_served_ms\": {:.1f}, \"processor_ms_meanwhile\": {:.1f}}}\n",
      server.loops(), before, fmt::join(memory, ", "), idle_seconds, idle * 1e3, served * 1e3,
      (processor_seconds() - serving_before) * 1e3);
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  bool pin = false;
  unsigned idle_seconds = 5;
  std::vector<std::size_t> levels;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--pin") {
      pin = true;
    } else if (argument == "--idle-seconds" && i + 1 < argc) {
      idle_seconds = static_cast<unsigned>(std::strtoul(argv[++i], nullptr, 10));
    } else {
      levels.push_back(std::strtoul(argv[i], nullptr, 10));
    }
  }
  if (levels.empty()) levels = {10'000, 50'000, 100'000};
  if (!std::ranges::is_sorted(levels) || levels.front() < 100) {
    fmt::print(stderr, "bench_crowd [--pin] [--idle-seconds N] [DOWNLOADS...]   at least 100, each more than before\n");
    return 2;
  }
  ::signal(SIGPIPE, SIG_IGN);  // for the server: sendfile raises it
  sluice::bench::raise_descriptor_limit();
  try {
    sluice::measure(levels, pin, idle_seconds);
  } catch (const std::exception& failure) {
    fmt::print(stderr, "{}\n", failure.what());
    return 1;
  }
}
