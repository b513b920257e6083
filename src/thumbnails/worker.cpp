// SPDX-License-Identifier: Apache-2.0
#include "thumbnails/worker.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

namespace sluice::thumbnails {
namespace {

constexpr Milliseconds kStartTime = std::chrono::seconds(30);  // it loads its libraries first, on a slow disk too
constexpr Milliseconds kStartRetry = std::chrono::seconds(5);

Failure cannot_start(std::string_view why) {
  spdlog::error("no thumbnail can be made: {}", why);
  return fail::unavailable("Thumbnails cannot be made now", kStartRetry);
}

Failure cannot_be_read() { return fail::with(400, "M_UNKNOWN", "A thumbnail of this content cannot be made"); }

/// Attributes and actions of one posix_spawn.
class SpawnSetting {
 public:
  SpawnSetting() {
    posix_spawnattr_init(&attributes_);
    posix_spawn_file_actions_init(&actions_);
    sigset_t none;
    sigemptyset(&none);
    sigset_t all;
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes_, &none);
    posix_spawnattr_setsigdefault(&attributes_, &all);
    // Of a process group of its own: an interrupt at the terminal is for the server, which lets what runs end first.
    posix_spawnattr_setpgroup(&attributes_, 0);
    posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDWR, 0);
    posix_spawn_file_actions_adddup2(&actions_, STDIN_FILENO, STDOUT_FILENO);
  }
  ~SpawnSetting() {
    posix_spawn_file_actions_destroy(&actions_);
    posix_spawnattr_destroy(&attributes_);
  }
  SpawnSetting(const SpawnSetting&) = delete;
  SpawnSetting& operator=(const SpawnSetting&) = delete;

  void give(int descriptor, int as) { posix_spawn_file_actions_adddup2(&actions_, descriptor, as); }
  const posix_spawn_file_actions_t* actions() const { return &actions_; }
  const posix_spawnattr_t* attributes() const { return &attributes_; }

 private:
  posix_spawnattr_t attributes_;
  posix_spawn_file_actions_t actions_;
};

}  // namespace

bool is_valid(const Reply& reply, const Job& job) {
  if (reply.outcome > Outcome::kTooManyPixels || reply.format > Format::kAudio) return false;
  if (reply.source_format > Format::kAudio || reply.source_is_animated > 1) return false;
  if (std::memchr(reply.blurhash, 0, sizeof reply.blurhash) == nullptr) return false;
  if ((reply.outcome == Outcome::kDescribed) != (job.kind == JobKind::kDescribe)) {
    if (reply.outcome == Outcome::kDescribed || reply.outcome == Outcome::kMade ||
        reply.outcome == Outcome::kOriginal) {
      return false;
    }
  }
  // It may be smaller than what was asked for where the source is; larger only by the rounding of an aspect.
  if (reply.outcome == Outcome::kMade) return reply.width > 0 && reply.height > 0 && reply.result_bytes > 0;
  return true;
}

std::string missing_layers(std::uint32_t layers) {
  using Name = std::pair<Layer, std::string_view>;
  constexpr std::array<Name, 4> kNames = {Name{Layer::kNoNewPrivileges, "dropped privileges"},
                                          Name{Layer::kLandlock, "Landlock"}, Name{Layer::kSeccomp, "seccomp"},
                                          Name{Layer::kMemory, "a limit on memory"}};
  std::string missing;
  for (const auto& [layer, name] : kNames) {
    if ((layers & static_cast<std::uint32_t>(layer)) != 0) continue;
    if (!missing.empty()) missing += ", ";
    missing += name;
  }
  return missing;
}

Worker::Worker(Options options) : options_(std::move(options)) {}

Worker::~Worker() { end(); }

Result<std::uint32_t> Worker::start() {
  if (is_alive()) return layers_;
  end();
  if (Result<> spawned = spawn(); !spawned) return std::unexpected(spawned.error());
  return greet();
}

Result<> Worker::spawn() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return cannot_start(fmt::format("socketpair: {}", std::strerror(errno)));
  }
  socket_ = FileDescriptor(ends[0]);
  const FileDescriptor its_end(ends[1]);
  SpawnSetting setting;
  setting.give(its_end.get(), kWorkerSocket);
  std::string program = options_.program;
  std::string memory_option = "--memory";
  std::string memory = std::to_string(options_.memory_bytes);
  const std::array<char*, 4> arguments = {program.data(), memory_option.data(), memory.data(), nullptr};
  const std::array<char*, 1> environment = {nullptr};  // what the server knows from its own is nobody else's
  const int failed = ::posix_spawn(&process_, program.c_str(), setting.actions(), setting.attributes(),
                                   arguments.data(), environment.data());
  if (failed == 0) return {};
  process_ = -1;
  socket_.reset();
  return cannot_start(fmt::format("{}: {}", program, std::strerror(failed)));
}

Result<std::uint32_t> Worker::greet() {
  Hello hello;
  if (!receive(&hello, sizeof hello, kStartTime)) {
    return cannot_start(fmt::format("{} did not start: {}", options_.program, end()));
  }
  if (hello.version != kProtocolVersion) {
    end();
    return cannot_start(fmt::format("{} belongs to another version of Sluice", options_.program));
  }
  const std::string missing = missing_layers(hello.layers);
  if (options_.needs_every_layer && !missing.empty()) {
    end();
    return cannot_start(
        fmt::format("the sandbox of {} lacks {}, and thumbnails.sandbox is required", options_.program, missing));
  }
  layers_ = hello.layers;
  return layers_;
}

Result<Reply> Worker::run(const Job& job, const FileDescriptor& source, const FileDescriptor& result) {
  if (Result<std::uint32_t> started = start(); !started) return std::unexpected(started.error());
  limit_processor_time();
  Reply reply;
  if (send(job, source, result) && receive(&reply, sizeof reply, options_.time) && is_valid(reply, job)) return reply;
  spdlog::warn("a thumbnail worker was given up: {}", end());
  return cannot_be_read();
}

bool Worker::is_alive() const {
  if (process_ < 0) return false;
  // Between jobs it has nothing to say, so anything but silence is its end.
  pollfd socket{socket_.get(), POLLIN, 0};
  return ::poll(&socket, 1, 0) == 0;
}

bool Worker::send(const Job& job, const FileDescriptor& source, const FileDescriptor& result) {
  const std::array<int, 2> descriptors = {source.get(), result.get()};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof descriptors)> control{};
  Job copy = job;
  iovec data{&copy, sizeof copy};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* const header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof descriptors);
  std::memcpy(CMSG_DATA(header), descriptors.data(), sizeof descriptors);
  return ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL) == static_cast<ssize_t>(sizeof copy);
}

// From outside, so that the process itself needs no right to change its limits.
void Worker::limit_processor_time() const {
  clockid_t clock{};
  timespec used{};
  if (::clock_getcpuclockid(process_, &clock) != 0 || ::clock_gettime(clock, &used) != 0) return;
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(options_.time).count();
  const rlimit limit{static_cast<rlim_t>(used.tv_sec + 1 + seconds), RLIM_INFINITY};
  ::prlimit(process_, RLIMIT_CPU, &limit, nullptr);
}

bool Worker::receive(void* message, std::size_t size, Milliseconds time) {
  const SteadyTime until = std::chrono::steady_clock::now() + time;
  for (;;) {
    const auto left = std::chrono::ceil<Milliseconds>(until - std::chrono::steady_clock::now());
    std::array<pollfd, 2> awaited = {pollfd{socket_.get(), POLLIN, 0}, pollfd{options_.interrupt, POLLIN, 0}};
    const int ready = ::poll(awaited.data(), awaited.size(), static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0 || awaited[1].revents != 0) return false;
    // Without control data: descriptors that it might send are thrown away by the kernel.
    return ::recv(socket_.get(), message, size, MSG_TRUNC) == static_cast<ssize_t>(size);
  }
}

std::string Worker::end() {
  socket_.reset();
  if (process_ < 0) return "it was not running";
  // Of one that has ended by itself the kernel still tells how.
  ::kill(process_, SIGKILL);
  int status = 0;
  while (::waitpid(process_, &status, 0) < 0 && errno == EINTR) {
  }
  process_ = -1;
  if (!WIFSIGNALED(status)) return fmt::format("it ended with status {}", WEXITSTATUS(status));
  if (WTERMSIG(status) == SIGKILL) return "it took too long, or too much memory, and was killed";
  return fmt::format("it ended by signal {} ({})", WTERMSIG(status), ::strsignal(WTERMSIG(status)));
}

}  // namespace sluice::thumbnails
