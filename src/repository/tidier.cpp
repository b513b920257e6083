// SPDX-License-Identifier: Apache-2.0
#include "repository/tidier.h"

#include <utility>

#include "runtime/blocking_pool.h"

namespace sluice::repository {

Tidier::Tidier(std::function<bool()> tidy) : tidy_(std::move(tidy)), thread_([this] { run(); }) {
  name_thread(thread_, "sluice-tidy");
}

Tidier::~Tidier() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void Tidier::note() {
  std::size_t noted = 0;
  {
    const std::lock_guard lock(mutex_);
    noted = ++noted_;
  }
  if (noted == 1 || noted == kMany) changed_.notify_one();
}

void Tidier::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || noted_ > 0; });
    if (noted_ == 0) return;
    changed_.wait_for(lock, kGather, [this] { return stopping_ || noted_ >= kMany; });
    noted_ = 0;
    lock.unlock();
    const bool is_something_left = tidy_();
    lock.lock();
    if (is_something_left && !stopping_) ++noted_;
  }
}

}  // namespace sluice::repository
