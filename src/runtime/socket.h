// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "base/file_system.h"
#include "runtime/loop.h"
#include "runtime/signal.h"

namespace sluice {

/// A non-blocking stream socket on its loop. Its owner calls recv, send and sendfile itself, tells when one of them had
/// to stop, and is woken on its signal when there is reason to try again. A socket that nobody reads or writes costs
/// nothing but itself: no buffer, and no question to the kernel.
///
/// On the signal's loop only.
class Socket final : Loop::Watcher {
 public:
  /// Watched from now on. `descriptor` is a socket that does not block.
  Socket(FileDescriptor descriptor, std::shared_ptr<Signal> signal);
  ~Socket() { close(); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  int get() const { return descriptor_.get(); }
  void close();

  /// False: reading would find nothing, so it need not be tried. Once that changes, Wake::kReadable is raised.
  bool may_be_readable() const { return readable_; }
  /// Reading yielded EAGAIN, or less than there was room for, which means the same of a stream (epoll(7)).
  void found_drained() { readable_ = hung_up_; }

  bool may_be_writable() const { return writable_; }
  /// Writing yielded EAGAIN. Once there is room, Wake::kWritable is raised.
  void found_full() { writable_ = false; }
  /// What was written and the other side has not acknowledged yet (SIOCOUTQ, tcp(7)).
  int unsent_bytes() const;

 private:
  void on_ready(Readiness readiness) override;

  Loop& loop_ = Loop::current();
  FileDescriptor descriptor_;
  const std::shared_ptr<Signal> signal_;
  bool readable_ = true;
  bool writable_ = true;
  bool hung_up_ = false;
};

}  // namespace sluice
