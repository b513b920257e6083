// SPDX-License-Identifier: Apache-2.0
#include "thumbnailer/sandbox.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <future>
#include <string>
#include <thread>

#include "base/temporary_directory_test.h"

namespace sluice::thumbnailer {
namespace {

using thumbnails::kAllLayers;
using thumbnails::Layer;

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SLUICE_SANITIZED 1
#endif
#endif
#ifdef SLUICE_SANITIZED
constexpr bool kIsSanitized = true;
#else
constexpr bool kIsSanitized = false;
#endif

constexpr std::uint64_t kMemoryBytes = 512 << 20;
constexpr std::uint32_t without(Layer layer) { return kAllLayers & ~static_cast<std::uint32_t>(layer); }
constexpr std::uint32_t kWithoutSeccomp = without(Layer::kSeccomp);
constexpr std::uint32_t kNone = 0;

/// How a process ended that tried to get out.
struct Ending {
  int signal = 0;  // that ended it
  int error = 0;   // errno of what it tried; 0: it succeeded

  bool operator==(const Ending&) const = default;
  friend std::ostream& operator<<(std::ostream& out, const Ending& ending) {
    return out << (ending.signal != 0  ? strsignal(ending.signal)
                   : ending.error != 0 ? strerror(ending.error)
                                       : "escaped");
  }
};

constexpr Ending kEscaped{};
// With a sanitizer, an unknown system call fails.
constexpr Ending kKilled = kIsSanitized ? Ending{0, EPERM} : Ending{SIGSYS, 0};
constexpr Ending refused_with(int error) { return {0, error}; }

using Attempt = std::function<int()>;

int errno_of(long returned) { return returned < 0 ? errno : 0; }

/// `prepare` runs before the process is locked in, the attempt after.
Ending locked_in(std::uint32_t layers, const Attempt& attempt, const std::function<void()>& prepare = [] {}) {
  const pid_t child = fork();
  if (child == 0) {
    prepare();
    try {
      lock_in({.memory_bytes = kMemoryBytes, .layers = layers});
    } catch (const std::exception&) {
      _exit(255);
    }
    _exit(attempt());
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? Ending{WTERMSIG(status), 0} : Ending{0, WEXITSTATUS(status)};
}

std::uint32_t layers_that_hold() {
  std::uint32_t holding = 0;
  const pid_t child = fork();
  if (child == 0) _exit(static_cast<int>(lock_in({.memory_bytes = kMemoryBytes})));
  int status = 0;
  waitpid(child, &status, 0);
  holding = static_cast<std::uint32_t>(WEXITSTATUS(status));
  return holding;
}

bool holds(Layer layer) { return (layers_that_hold() & static_cast<std::uint32_t>(layer)) != 0; }

/// Something to get at, outside: a folder that everybody may write to, and sockets that somebody listens on.
class SandboxTest : public testing::Test {
 protected:
  SandboxTest() {
    chmod(folder_.path().c_str(), 0777);
    local_.sun_family = AF_UNIX;
    std::strncpy(local_.sun_path, (folder_.path() + "/socket").c_str(), sizeof local_.sun_path - 1);
    bind(local_listener_, reinterpret_cast<const sockaddr*>(&local_), sizeof local_);
    chmod(local_.sun_path, 0777);
    listen(local_listener_, 8);
    internet_.sin_family = AF_INET;
    internet_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bind(internet_listener_, reinterpret_cast<const sockaddr*>(&internet_), sizeof internet_);
    socklen_t length = sizeof internet_;
    getsockname(internet_listener_, reinterpret_cast<sockaddr*>(&internet_), &length);
    listen(internet_listener_, 8);
  }
  ~SandboxTest() override {
    close(local_listener_);
    close(internet_listener_);
  }

  /// With all layers it ends like this; with all but the system call filter like this; without any it succeeds. So
  /// each wall is seen to stand, and seen to be what stops it.
  void expect(const Attempt& attempt, Ending with_all, Ending without_seccomp) {
    EXPECT_EQ(locked_in(kAllLayers, attempt), with_all);
    EXPECT_EQ(locked_in(kWithoutSeccomp, attempt), without_seccomp);
    EXPECT_EQ(locked_in(kNone, attempt), kEscaped);
  }

  static int connect_to(int family, const void* address, socklen_t length) {
    const int connection = socket(family, SOCK_STREAM, 0);
    return connection < 0 ? errno : errno_of(connect(connection, static_cast<const sockaddr*>(address), length));
  }

  TemporaryDirectory folder_;
  int local_listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int internet_listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un local_{};
  sockaddr_in internet_{};
};

TEST_F(SandboxTest, SaysWhichLayersHold) {
  EXPECT_TRUE(holds(Layer::kNoNewPrivileges));
  EXPECT_TRUE(holds(Layer::kSeccomp));
  EXPECT_EQ(holds(Layer::kMemory), !kIsSanitized);
}

TEST_F(SandboxTest, ReadsNoFile) {
  if (!holds(Layer::kLandlock)) GTEST_SKIP() << "this kernel has no Landlock";
  expect([] { return errno_of(open("/etc/passwd", O_RDONLY)); }, refused_with(EPERM), refused_with(EACCES));
}

TEST_F(SandboxTest, ReadsNothingOfProcesses) {
  if (!holds(Layer::kLandlock)) GTEST_SKIP() << "this kernel has no Landlock";
  expect([] { return errno_of(open("/proc/self/status", O_RDONLY)); }, refused_with(EPERM), refused_with(EACCES));
}

TEST_F(SandboxTest, ListsNoFolder) {
  if (!holds(Layer::kLandlock)) GTEST_SKIP() << "this kernel has no Landlock";
  expect([] { return errno_of(open("/", O_RDONLY | O_DIRECTORY)); }, refused_with(EPERM), refused_with(EACCES));
}

TEST_F(SandboxTest, CreatesNoFile) {
  if (!holds(Layer::kLandlock)) GTEST_SKIP() << "this kernel has no Landlock";
  const std::string path = folder_.path() + "/created";
  expect([&] { return errno_of(open(path.c_str(), O_WRONLY | O_CREAT, 0600)); }, refused_with(EPERM),
         refused_with(EACCES));
}

TEST_F(SandboxTest, ConnectsToNoServer) {
  if (!holds(Layer::kLandlock)) GTEST_SKIP() << "this kernel has no Landlock";
  expect([&] { return connect_to(AF_INET, &internet_, sizeof internet_); }, refused_with(EPERM), refused_with(EACCES));
}

TEST_F(SandboxTest, ConnectsToNoLocalSocket) {
  expect([&] { return connect_to(AF_UNIX, &local_, sizeof local_); }, refused_with(EPERM), kEscaped);
}

TEST_F(SandboxTest, MakesNoProcess) {
  const auto attempt = [] {
    const pid_t child = fork();
    if (child == 0) _exit(0);
    return errno_of(child);
  };
  expect(attempt, kKilled, kEscaped);
}

TEST_F(SandboxTest, RunsNoProgram) {
  if (!holds(Layer::kLandlock)) GTEST_SKIP() << "this kernel has no Landlock";
  const auto attempt = [] { return errno_of(execl("/bin/true", "true", nullptr)); };
  expect(attempt, kKilled, refused_with(EACCES));
}

TEST_F(SandboxTest, SignalsNobody) {
  if (geteuid() != 0) GTEST_SKIP() << "the second wall is another user";
  expect([] { return errno_of(kill(getppid(), 0)); }, kKilled, refused_with(EPERM));
}

TEST_F(SandboxTest, TracesNobody) {
  if (geteuid() != 0) GTEST_SKIP() << "the second wall is another user";
  expect([] { return errno_of(ptrace(PTRACE_SEIZE, getppid(), nullptr, nullptr)); }, kKilled, refused_with(EPERM));
}

TEST_F(SandboxTest, DoesNotBecomeRootAgain) {
  if (geteuid() != 0) GTEST_SKIP() << "it is not";
  expect([] { return errno_of(setuid(0)); }, kKilled, refused_with(EPERM));
}

TEST_F(SandboxTest, RunsNoCodeThatItHasWritten) {
  const auto attempt = [] {
    void* memory = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? EXIT_FAILURE : errno_of(mprotect(memory, 4096, PROT_READ | PROT_EXEC));
  };
  expect(attempt, refused_with(EPERM), kEscaped);
}

TEST_F(SandboxTest, TakesNoMoreMemoryThanItWasGiven) {
  if (kIsSanitized) GTEST_SKIP() << "a sanitizer needs terabytes of address space";
  const auto take = [](std::size_t bytes) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? errno : 0;
  };
  expect([&] { return take(10UL << 30); }, refused_with(ENOMEM), refused_with(ENOMEM));
  EXPECT_EQ(locked_in(kAllLayers, [&] { return take(kMemoryBytes - (64 << 20)); }), kEscaped);
  EXPECT_EQ(locked_in(without(Layer::kMemory), [&] { return take(10UL << 30); }), kEscaped);
}

TEST_F(SandboxTest, KeepsNoDescriptorButTheSocket) {
  constexpr int kOther = 20;
  const auto prepare = [] {
    dup2(open("/etc/passwd", O_RDONLY), kOther);
    dup2(kOther, thumbnails::kWorkerSocket);
  };
  const auto read_from = [](int descriptor) {
    char byte = 0;
    return errno_of(read(descriptor, &byte, 1));
  };
  EXPECT_EQ(locked_in(kAllLayers, [&] { return read_from(kOther); }, prepare), refused_with(EBADF));
  EXPECT_EQ(locked_in(kAllLayers, [&] { return read_from(thumbnails::kWorkerSocket); }, prepare), kEscaped);
}

TEST_F(SandboxTest, WritesNoMoreThanAResult) {
  const std::string path = folder_.path() + "/result";
  const auto prepare = [&] { dup2(open(path.c_str(), O_WRONLY | O_CREAT, 0600), thumbnails::kWorkerSocket); };
  const auto write_at = [](off_t offset) {
    signal(SIGXFSZ, SIG_IGN);
    return errno_of(pwrite(thumbnails::kWorkerSocket, "x", 1, offset));
  };
  EXPECT_EQ(locked_in(kAllLayers, [&] { return write_at(65 << 20); }, prepare), refused_with(EFBIG));
  EXPECT_EQ(locked_in(kAllLayers, [&] { return write_at(1 << 20); }, prepare), kEscaped);
}

TEST_F(SandboxTest, LocksThreadsInThatWereThereBefore) {
  std::promise<void> locked;
  std::future<int> tried;
  const auto start_thread = [&] {
    tried = std::async(std::launch::async, [&locked] {
      locked.get_future().wait();
      return errno_of(open("/etc/passwd", O_RDONLY));
    });
  };
  const auto let_it_try = [&] {
    locked.set_value();
    return tried.get();
  };
  EXPECT_EQ(locked_in(kAllLayers, let_it_try, start_thread), refused_with(EPERM));
  if (holds(Layer::kLandlock)) EXPECT_EQ(locked_in(kWithoutSeccomp, let_it_try, start_thread), refused_with(EACCES));
  EXPECT_EQ(locked_in(kNone, let_it_try, start_thread), kEscaped);
}

TEST_F(SandboxTest, StartsThreads) {
  const auto attempt = [] { return std::async(std::launch::async, [] { return 0; }).get(); };
  EXPECT_EQ(locked_in(kAllLayers, attempt), kEscaped);
}

TEST_F(SandboxTest, CanAbort) {
  EXPECT_EQ(locked_in(kAllLayers, [] { return raise(SIGABRT); }), (Ending{SIGABRT, 0}));
}

TEST_F(SandboxTest, EndsWithItsParent) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  const pid_t parent = fork();
  if (parent == 0) {
    if (fork() == 0) {
      dup2(ends[1], thumbnails::kWorkerSocket);
      lock_in({.memory_bytes = kMemoryBytes});
      char message = 1;
      (void)write(thumbnails::kWorkerSocket, &message, 1);
      (void)read(thumbnails::kWorkerSocket, &message, 1);  // nobody ever writes to it
      _exit(0);
    }
    char message = 0;
    (void)read(ends[0], &message, 1);  // it is locked in
    _exit(0);
  }
  close(ends[1]);
  waitpid(parent, nullptr, 0);
  char message = 0;
  EXPECT_EQ(read(ends[0], &message, 1), 0) << "the socket is still open in the process";
  close(ends[0]);
}

}  // namespace
}  // namespace sluice::thumbnailer
