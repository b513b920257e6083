// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>

#include "runtime/loop.h"

namespace sluice {

/// Asio's steady timer on the concrete executor, which is smaller and faster than the type-erased one.
using LoopTimer =
    boost::asio::basic_waitable_timer<std::chrono::steady_clock, boost::asio::wait_traits<std::chrono::steady_clock>,
                                      boost::asio::io_context::executor_type>;

/// The Asio context inside a loop. Included by .cpp files that own sockets or timers, never by a domain header.
struct Loop::Impl {
  // One thread runs it, but others post to it, so its locks have to stay: concurrency hint 1, not UNSAFE.
  boost::asio::io_context context{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> keep_running =
      boost::asio::make_work_guard(context);
  // Threads inside `post`: Asio still touches the context after the work is queued, and that work may end the loop.
  std::atomic<int> posts_under_way{0};
};

}  // namespace sluice
