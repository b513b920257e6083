// SPDX-License-Identifier: Apache-2.0
#include "runtime/loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cassert>
#include <cerrno>
#include <chrono>
#include <climits>
#include <mutex>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include "base/file_system.h"

namespace sluice {
namespace {

constexpr std::size_t kEventsAtOnce = 256;

thread_local Loop* current_loop = nullptr;

FileDescriptor or_throw(int descriptor, const char* what) {
  if (descriptor < 0) throw std::system_error(errno, std::generic_category(), what);
  return FileDescriptor(descriptor);
}

}  // namespace

struct Loop::Impl {
  using Work = std::move_only_function<void()>;
  struct EarlierFirst {
    bool operator()(const Timer& a, const Timer& b) const { return a.at() < b.at(); }
  };
  using Timers = boost::intrusive::multiset<Timer, boost::intrusive::compare<EarlierFirst>,
                                            boost::intrusive::constant_time_size<false>>;

  void take_posted();
  void run_queued();
  int sleep_time();
  void poll(int timeout_ms);
  void run_timers();

  const FileDescriptor epoll = or_throw(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
  const FileDescriptor wake = or_throw(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd");

  // The loop's own.
  std::vector<Work> queue;
  std::vector<Work> batch;
  Timers timers;
  std::array<epoll_event, kEventsAtOnce> events;
  std::span<epoll_event> undelivered;  // of the events that came in one go, those still to be told

  // What comes from other threads.
  std::mutex mutex;
  std::vector<Work> posted;     // guarded by mutex
  bool asleep = false;          // guarded by mutex; whoever posts then has to wake the loop
  std::atomic<bool> stopped{};  // set under the mutex
};

Loop::Loop() : impl_(std::make_unique<Impl>()) {
  epoll_event event{.events = EPOLLIN, .data = {.ptr = nullptr}};
  if (::epoll_ctl(impl_->epoll.get(), EPOLL_CTL_ADD, impl_->wake.get(), &event) != 0) {
    throw std::system_error(errno, std::generic_category(), "epoll_ctl");
  }
}

Loop::~Loop() {
  {
    const std::lock_guard everybody_has_left(impl_->mutex);
  }
  impl_->timers.clear();
}

void Loop::run() {
  assert(current_loop == nullptr);
  current_loop = this;
  while (!impl_->stopped) {
    impl_->take_posted();
    impl_->run_queued();
    if (impl_->stopped) break;
    impl_->poll(impl_->sleep_time());
    impl_->run_timers();
  }
  current_loop = nullptr;
}

void Loop::stop() {
  const std::lock_guard lock(impl_->mutex);
  impl_->stopped = true;
  ::eventfd_write(impl_->wake.get(), 1);
}

void Loop::post(std::move_only_function<void()> work) {
  if (current_loop == this) {
    impl_->queue.push_back(std::move(work));
    return;
  }
  // Inside the lock: when it is free, the loop may be gone.
  const std::lock_guard lock(impl_->mutex);
  impl_->posted.push_back(std::move(work));
  if (std::exchange(impl_->asleep, false)) ::eventfd_write(impl_->wake.get(), 1);
}

void Loop::Impl::take_posted() {
  const std::lock_guard lock(mutex);
  asleep = false;
  std::ranges::move(posted, std::back_inserter(queue));
  posted.clear();
}

// What is queued meanwhile comes after the sockets have had their turn.
void Loop::Impl::run_queued() {
  batch.swap(queue);
  for (Work& work : batch) {
    if (stopped) break;
    work();
  }
  batch.clear();
}

// In milliseconds, as epoll counts: 0 when there is work, -1 for as long as it takes.
int Loop::Impl::sleep_time() {
  if (!queue.empty()) return 0;
  {
    const std::lock_guard lock(mutex);
    if (!posted.empty() || stopped) return 0;
    asleep = true;
  }
  if (timers.empty()) return -1;
  const auto left = std::chrono::ceil<Milliseconds>(timers.begin()->at() - std::chrono::steady_clock::now()).count();
  return static_cast<int>(std::clamp<Milliseconds::rep>(left, 0, INT_MAX));
}

void Loop::Impl::poll(int timeout_ms) {
  const int count = ::epoll_wait(epoll.get(), events.data(), static_cast<int>(events.size()), timeout_ms);
  if (count < 0) {
    assert(errno == EINTR);
    return;
  }
  undelivered = std::span(events).first(static_cast<std::size_t>(count));
  while (!undelivered.empty()) {
    const epoll_event event = undelivered.front();
    undelivered = undelivered.subspan(1);
    if (event.data.ptr == nullptr) {
      eventfd_t ignored = 0;
      ::eventfd_read(wake.get(), &ignored);
    } else if (event.data.ptr != this) {
      const bool hung_up = (event.events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
      static_cast<Watcher*>(event.data.ptr)
          ->on_ready({.readable = hung_up || (event.events & EPOLLIN) != 0,
                      .writable = (event.events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0,
                      .hung_up = hung_up});
    }
  }
}

void Loop::Impl::run_timers() {
  if (timers.empty()) return;
  const SteadyTime now = std::chrono::steady_clock::now();
  while (!timers.empty() && timers.begin()->at() <= now) {
    Timer& timer = *timers.begin();
    timers.erase(timers.begin());
    timer.on_time();
  }
}

bool Loop::watch(int descriptor, Watcher& watcher) {
  epoll_event event{.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data = {.ptr = &watcher}};
  return ::epoll_ctl(impl_->epoll.get(), EPOLL_CTL_ADD, descriptor, &event) == 0;
}

void Loop::unwatch(int descriptor, Watcher& watcher) {
  ::epoll_ctl(impl_->epoll.get(), EPOLL_CTL_DEL, descriptor, nullptr);
  // It may go away now, and its news may have come together with those that are being told.
  for (epoll_event& event : impl_->undelivered) {
    if (event.data.ptr == &watcher) event.data.ptr = impl_.get();
  }
}

void Loop::set(Timer& timer, SteadyTime at) {
  if (timer.is_linked()) timer.unlink();
  timer.at_ = at;
  impl_->timers.insert(timer);
}

Loop& Loop::current() {
  assert(current_loop != nullptr);
  return *current_loop;
}

Loop* Loop::current_or_null() { return current_loop; }

}  // namespace sluice
