// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

#include "runtime/loop.h"

namespace sluice {

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
