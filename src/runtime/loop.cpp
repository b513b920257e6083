// SPDX-License-Identifier: Apache-2.0
#include "runtime/loop.h"

#include <boost/asio/post.hpp>
#include <cassert>
#include <thread>

#include "runtime/loop_asio.h"

namespace sluice {
namespace {

thread_local Loop* current_loop = nullptr;

}  // namespace

Loop::Loop() : impl_(std::make_unique<Impl>()) {}

Loop::~Loop() {
  while (impl_->posts_under_way.load() != 0) std::this_thread::yield();
}

void Loop::run() {
  assert(current_loop == nullptr);
  current_loop = this;
  impl_->context.run();
  current_loop = nullptr;
}

void Loop::stop() { impl_->context.stop(); }

void Loop::post(std::move_only_function<void()> work) {
  struct UnderWay {
    std::atomic<int>& count;
    explicit UnderWay(std::atomic<int>& counter) : count(counter) { ++count; }
    ~UnderWay() { --count; }
  };
  const UnderWay under_way(impl_->posts_under_way);
  boost::asio::post(impl_->context, std::move(work));
}

Loop& Loop::current() {
  assert(current_loop != nullptr);
  return *current_loop;
}

Loop* Loop::current_or_null() { return current_loop; }

}  // namespace sluice
