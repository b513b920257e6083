// SPDX-License-Identifier: Apache-2.0
#include "thumbnailer/sandbox.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <system_error>
#include <thread>

namespace sluice::thumbnailer {

namespace {

using thumbnails::Layer;

// A sanitizer's shadow takes terabytes of address space, and its runtime asks the kernel for more than the program
// does: in such a build there is no limit on memory, and a system call that is not on the list fails instead of ending
// the process.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kIsSanitized = true;
#elif defined(__has_feature)
constexpr bool kIsSanitized = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
constexpr bool kIsSanitized = false;
#endif

constexpr unsigned kNobody = 65534;
/// A thumbnail of 1600 x 1200 pixels without compression has 7 MiB, an animation some of these.
constexpr rlim_t kMaxResultBytes = 64 << 20;
/// The socket, the log, two for a job, and each of these once more while libvips holds it.
constexpr rlim_t kMaxDescriptors = 32;

[[noreturn]] void fail(const char* what, int error = errno) {
  throw std::system_error(error, std::generic_category(), what);
}

void check(int returned, const char* what) {
  if (returned != 0) fail(what);
}

bool has(std::uint32_t layers, Layer layer) { return (layers & static_cast<std::uint32_t>(layer)) != 0; }

// ---- Landlock, by its numbers: distributions' headers are older than their kernels ----

constexpr long kCreateRuleset = 444;
constexpr long kRestrictSelf = 446;
constexpr std::uint32_t kAskVersion = 1;

struct RulesetAttributes {
  std::uint64_t handled_file_system = 0;
  std::uint64_t handled_network = 0;  // since ABI 4
  std::uint64_t scoped = 0;           // since ABI 6
};

int landlock_abi() {
  const auto abi = syscall(kCreateRuleset, nullptr, 0, kAskVersion);
  return abi > 0 ? static_cast<int>(abi) : 0;
}

/// Every right that this kernel knows, none of which is ever granted.
RulesetAttributes everything(int abi) {
  RulesetAttributes all;
  int rights = 13;            // execute to make_sym
  if (abi >= 2) rights = 14;  // refer
  if (abi >= 3) rights = 15;  // truncate
  if (abi >= 5) rights = 16;  // ioctl on devices
  all.handled_file_system = (std::uint64_t{1} << rights) - 1;
  if (abi >= 4) all.handled_network = 0b11;  // bind and connect of TCP
  if (abi >= 6) all.scoped = 0b11;           // abstract UNIX sockets, signals
  return all;
}

// ---- What the kernel keeps for each thread, and so has to be done by each ----

std::atomic<int> landlock_ruleset = -1;
std::atomic<bool> drops_capabilities = false;
std::atomic<int> threads_done = 0;
std::atomic<int> thread_error = 0;

/// Whoever has none does not ask: to drop none may be forbidden.
bool drop_capabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> sets{};
  if (syscall(SYS_capget, &header, sets.data()) != 0) return false;
  if (std::ranges::none_of(sets, [](const auto& set) { return set.permitted != 0 || set.inheritable != 0; }))
    return true;
  sets = {};
  return syscall(SYS_capset, &header, sets.data()) == 0;
}

/// On a signal: calls the kernel and nothing else.
void restrict_this_thread(int) {
  const int kept = errno;
  const int ruleset = landlock_ruleset;
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || (drops_capabilities && !drop_capabilities()) ||
      (ruleset >= 0 && syscall(kRestrictSelf, ruleset, 0) != 0)) {
    thread_error = errno;
  }
  ++threads_done;
  errno = kept;
}

/// Threads that libraries keep for later. New ones inherit; while this runs nobody has work that would make one.
void restrict_every_thread() {
  constexpr int kSignal = SIGUSR1;
  struct sigaction action{};
  struct sigaction before{};
  action.sa_handler = restrict_this_thread;
  action.sa_flags = SA_RESTART;
  check(sigaction(kSignal, &action, &before), "sigaction");
  int asked = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    const auto thread = static_cast<pid_t>(std::strtol(task.path().filename().c_str(), nullptr, 10));
    if (syscall(SYS_tgkill, getpid(), thread, kSignal) == 0) ++asked;
  }
  while (threads_done < asked) std::this_thread::yield();
  check(sigaction(kSignal, &before, nullptr), "sigaction");
  if (thread_error != 0) fail("a thread could not be restricted", thread_error);
}

// ---- Limits ----

void limit(__rlimit_resource resource, rlim_t value, const char* name) {
  const rlimit both{value, value};
  check(setrlimit(resource, &both), name);
}

std::uint64_t address_space_bytes() {
  std::uint64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

// ---- System calls ----

struct ReleaseFilter {
  void operator()(void* filter) const { seccomp_release(filter); }
};

/// What decoding needs once everything has been loaded: memory, threads, the job's descriptors, the clock.
constexpr int kAllowed[] = {
    SCMP_SYS(read),
    SCMP_SYS(readv),
    SCMP_SYS(pread64),
    SCMP_SYS(write),
    SCMP_SYS(writev),
    SCMP_SYS(pwrite64),
    SCMP_SYS(lseek),
    SCMP_SYS(_llseek),
    SCMP_SYS(fstat),
    SCMP_SYS(close),
    SCMP_SYS(dup),
    SCMP_SYS(recvmsg),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(brk),
    SCMP_SYS(futex),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(sched_yield),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_getres),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(getrandom),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(getrusage),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
};

/// What libraries try and can do without: they are told no, and go on.
constexpr int kRefused[] = {
    SCMP_SYS(open),
    SCMP_SYS(openat),
    SCMP_SYS(openat2),
    SCMP_SYS(stat),
    SCMP_SYS(lstat),
    SCMP_SYS(statx),
    SCMP_SYS(statfs),
    SCMP_SYS(access),
    SCMP_SYS(faccessat),
    SCMP_SYS(faccessat2),
    SCMP_SYS(readlink),
    SCMP_SYS(readlinkat),
    SCMP_SYS(getcwd),
    SCMP_SYS(getdents64),
    SCMP_SYS(unlink),
    SCMP_SYS(unlinkat),
    SCMP_SYS(mkdir),
    SCMP_SYS(mkdirat),
    SCMP_SYS(ioctl),
    SCMP_SYS(socket),
    SCMP_SYS(socketpair),
    SCMP_SYS(pipe),
    SCMP_SYS(pipe2),
    SCMP_SYS(eventfd2),
    SCMP_SYS(memfd_create),
    SCMP_SYS(uname),
    SCMP_SYS(sysinfo),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    SCMP_SYS(sched_setattr),
    SCMP_SYS(sched_getattr),
    SCMP_SYS(sched_setscheduler),
    SCMP_SYS(sched_getscheduler),
    SCMP_SYS(sched_getparam),
    SCMP_SYS(sched_setaffinity),
    SCMP_SYS(setpriority),
    SCMP_SYS(mbind),
    SCMP_SYS(get_mempolicy),
    SCMP_SYS(membarrier),
    SCMP_SYS(fadvise64),
    SCMP_SYS(mlock),
};

void filter_system_calls() {
  const std::unique_ptr<void, ReleaseFilter> filter(
      seccomp_init(kIsSanitized ? SCMP_ACT_ERRNO(EPERM) : SCMP_ACT_KILL_PROCESS));
  if (filter == nullptr) fail("seccomp_init", ENOMEM);
  const auto add = [&](std::uint32_t action, int call, auto... conditions) {
    const int error = seccomp_rule_add(filter.get(), action, call, sizeof...(conditions), conditions...);
    // A call that this architecture has not, or whose rule is what happens by default (EACCES).
    if (error != 0 && error != -EDOM && error != -EACCES) fail("seccomp_rule_add", -error);
  };
  for (const int call : kAllowed) add(SCMP_ACT_ALLOW, call);
  if (kIsSanitized) {
    // A pipe is how the runtime asks whether an address can be read; the rest is refused as it is.
    add(SCMP_ACT_ALLOW, SCMP_SYS(pipe));
    add(SCMP_ACT_ALLOW, SCMP_SYS(pipe2));
  } else {
    for (const int call : kRefused) add(SCMP_ACT_ERRNO(EPERM), call);
  }

  // Memory, but no new code.
  for (const int call : {SCMP_SYS(mmap), SCMP_SYS(mprotect)}) {
    add(SCMP_ACT_ALLOW, call, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    add(SCMP_ACT_ERRNO(EPERM), call, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC));
  }
  // Threads, but no processes. glibc falls back from clone3, whose flags a filter cannot see.
  add(SCMP_ACT_ALLOW, SCMP_SYS(clone), SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
  add(SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3));
  // Signals to itself: abort().
  add(SCMP_ACT_ALLOW, SCMP_SYS(tgkill), SCMP_A0(SCMP_CMP_EQ, static_cast<scmp_datum_t>(getpid())));
  // Descriptors may be asked about and copied, limits be asked about, threads be named.
  for (const int command : {F_GETFL, F_GETFD, F_SETFD, F_DUPFD_CLOEXEC}) {
    add(SCMP_ACT_ALLOW, SCMP_SYS(fcntl), SCMP_A1(SCMP_CMP_EQ, static_cast<scmp_datum_t>(command)));
  }
  add(SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), SCMP_A2(SCMP_CMP_EQ, 0));
  add(SCMP_ACT_ALLOW, SCMP_SYS(prctl), SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME));
  // glibc's fstat, which is a stat of an empty path. A filter cannot see that it is empty: names can be asked about.
  add(SCMP_ACT_ALLOW, SCMP_SYS(newfstatat), SCMP_A3(SCMP_CMP_EQ, AT_EMPTY_PATH));
  add(SCMP_ACT_ERRNO(EPERM), SCMP_SYS(newfstatat), SCMP_A3(SCMP_CMP_NE, AT_EMPTY_PATH));

  if (const int error = seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_TSYNC, 1); error != 0)
    fail("seccomp_attr_set", -error);
  if (const int error = seccomp_load(filter.get()); error != 0) fail("seccomp_load", -error);
}

bool knows_seccomp() { return seccomp_api_get() >= 2; }  // with filters for all threads

/// False when root has lost the right to it, as in some containers.
bool become_nobody() {
  return geteuid() != 0 || (setgroups(0, nullptr) == 0 && setresgid(kNobody, kNobody, kNobody) == 0 &&
                            setresuid(kNobody, kNobody, kNobody) == 0);
}

void keep_first_descriptors() {
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0) fail("/dev/null");
  // What libraries print about a file is written by whoever has made it.
  if (!kIsSanitized && dup2(null, 2) < 0) fail("/dev/null");
  closefrom(thumbnails::kWorkerSocket + 1);
}

}  // namespace

std::uint32_t lock_in(const Sandbox& sandbox) {
  std::uint32_t holding = 0;
  const auto holds = [&](Layer layer) { holding |= static_cast<std::uint32_t>(layer); };

  keep_first_descriptors();
  limit(RLIMIT_FSIZE, kMaxResultBytes, "RLIMIT_FSIZE");
  limit(RLIMIT_CORE, 0, "RLIMIT_CORE");
  limit(RLIMIT_NOFILE, kMaxDescriptors, "RLIMIT_NOFILE");
  const std::uint64_t address_space = address_space_bytes();

  if (has(sandbox.layers, Layer::kLandlock)) {
    if (const int abi = landlock_abi(); abi > 0) {
      const auto attributes = everything(abi);
      landlock_ruleset = static_cast<int>(syscall(kCreateRuleset, &attributes, sizeof attributes, 0));
      if (landlock_ruleset < 0) fail("landlock_create_ruleset");
      holds(Layer::kLandlock);
    }
  }
  if (has(sandbox.layers, Layer::kNoNewPrivileges)) {
    if (become_nobody()) holds(Layer::kNoNewPrivileges);
    drops_capabilities = true;
  }
  // After the change of user, which undoes both.
  check(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "PR_SET_DUMPABLE");
  check(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), "PR_SET_PDEATHSIG");
  restrict_every_thread();
  if (landlock_ruleset >= 0) close(landlock_ruleset);

  if (!kIsSanitized && has(sandbox.layers, Layer::kMemory)) {
    limit(RLIMIT_AS, address_space + sandbox.memory_bytes, "RLIMIT_AS");
    holds(Layer::kMemory);
  }
  if (has(sandbox.layers, Layer::kSeccomp) && knows_seccomp()) {
    filter_system_calls();
    holds(Layer::kSeccomp);
  }
  return holding;
}

}  // namespace sluice::thumbnailer
