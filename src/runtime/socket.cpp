// SPDX-License-Identifier: Apache-2.0
#include "runtime/socket.h"

#include <linux/sockios.h>
#include <spdlog/spdlog.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace sluice {

Socket::Socket(FileDescriptor descriptor, std::shared_ptr<Signal> signal)
    : descriptor_(std::move(descriptor)), signal_(std::move(signal)) {
  if (loop_.watch(get(), *this)) return;
  // The kernel has no memory or no watches left (fs.epoll.max_user_watches): as if the other side had left at once.
  spdlog::warn("a socket cannot be watched: {}", std::strerror(errno));
  close();
}

void Socket::close() {
  if (!descriptor_) return;
  loop_.unwatch(get(), *this);
  descriptor_.reset();
}

int Socket::unsent_bytes() const {
  int bytes = 0;
  ::ioctl(get(), SIOCOUTQ, &bytes);
  return bytes;
}

void Socket::on_ready(Readiness readiness) {
  hung_up_ = hung_up_ || readiness.hung_up;
  // Only what is news wakes: most of what the kernel tells of a busy connection its owner knows.
  if (readiness.readable && !std::exchange(readable_, true)) signal_->raise(Wake::kReadable);
  if (readiness.writable && !std::exchange(writable_, true)) signal_->raise(Wake::kWritable);
}

}  // namespace sluice
