// SPDX-License-Identifier: Apache-2.0
#include "runtime/blocking_pool.h"

#include <pthread.h>

namespace sluice {

void name_thread(std::thread& thread, const std::string& name) {
  pthread_setname_np(thread.native_handle(), name.substr(0, 15).c_str());  // the kernel's limit
}

BlockingPool::BlockingPool(std::string name, std::size_t threads, std::size_t max_at_once)
    : queue_(threads, max_at_once) {
  for (std::size_t i = 0; i < threads; ++i) {
    threads_.emplace_back([this] { serve(); });
    name_thread(threads_.back(), name);
  }
}

BlockingPool::~BlockingPool() {
  queue_.close();
  for (std::thread& thread : threads_) thread.join();
}

void BlockingPool::submit(std::move_only_function<void()> work) { queue_.add({std::move(work), {}}); }

void BlockingPool::serve() {
  std::vector<Entry> entries;
  std::vector<Waiter> waiters;
  for (queue_.take(entries); !entries.empty(); queue_.take(entries)) {
    for (Entry& entry : entries) {
      entry.work();
      entry.work = nullptr;
      if (entry.waiter.loop) waiters.push_back(entry.waiter);
    }
    resume_all(waiters);
  }
}

}  // namespace sluice
