// SPDX-License-Identifier: Apache-2.0
#include <malloc.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string_view>

#include "base/file_system.h"
#include "thumbnailer/sandbox.h"
#include "thumbnailer/worker.h"
#include "thumbnails/job.h"

namespace {

using namespace sluice;
using namespace sluice::thumbnailer;

constexpr int kBadUsage = 2;

/// A job with its source and its result. False when the server has closed the socket, or says what we do not know.
bool receive(thumbnails::Job& job, FileDescriptor& source, FileDescriptor& result) {
  iovec part{&job, sizeof job};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(2 * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  if (recvmsg(thumbnails::kWorkerSocket, &message, MSG_CMSG_CLOEXEC) != static_cast<ssize_t>(sizeof job)) return false;
  const auto* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS || header->cmsg_len != CMSG_LEN(2 * sizeof(int)))
    return false;
  std::array<int, 2> descriptors{};
  std::memcpy(descriptors.data(), CMSG_DATA(header), sizeof descriptors);
  source = FileDescriptor(descriptors[0]);
  result = FileDescriptor(descriptors[1]);
  return true;
}

template <class Message>
bool send(const Message& message) {
  return write(thumbnails::kWorkerSocket, &message, sizeof message) == static_cast<ssize_t>(sizeof message);
}

void serve(std::uint64_t memory_bytes) {
  signal(SIGPIPE, SIG_IGN);  // when the server has gone, the loop ends
  // One heap for all threads: each of glibc's own would take 64 MiB of the address space that we limit.
  mallopt(M_ARENA_MAX, 1);
  start_worker(true);
  thumbnails::Hello hello;
  hello.layers = lock_in({.memory_bytes = memory_bytes});
  bool goes_on = send(hello);
  while (goes_on) {
    thumbnails::Job job;
    FileDescriptor source;
    FileDescriptor result;
    goes_on = receive(job, source, result) && send(answer(job, source.get(), result.get()));
    malloc_trim(0);
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t memory_bytes = 0;
  if (argc == 3 && std::string_view(argv[1]) == "--memory") {
    const std::string_view text(argv[2]);
    std::from_chars(text.data(), text.data() + text.size(), memory_bytes);
  }
  if (memory_bytes == 0) {
    std::fputs("sluice-thumbnailer makes thumbnails for sluice, which starts it with --memory BYTES and a socket.\n",
               stderr);
    return kBadUsage;
  }
  int status = 0;
  try {
    serve(memory_bytes);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "sluice-thumbnailer: %s\n", error.what());
    status = 1;
  }
  _exit(status);  // what libraries do at the end needs more than the sandbox leaves them
}
