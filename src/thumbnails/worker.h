// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "base/clock.h"
#include "base/error.h"
#include "base/file_system.h"
#include "thumbnails/job.h"

namespace sluice::thumbnails {

/// One worker process: started when it is needed, used again and again, and killed when it takes too long. It may have
/// been taken over by what it read, so it is given descriptors and nothing else, and nothing that it says is believed
/// unchecked. May block; for one thread at a time.
class Worker {
 public:
  struct Options {
    std::string program;             // the path of sluice-thumbnailer
    std::uint64_t memory_bytes;      // its address space
    Milliseconds time;               // for one job: processor time and wall time each
    bool needs_every_layer = false;  // refuses to work in a sandbox that lacks one
    int interrupt = -1;              // a descriptor; once it is readable, nothing is waited for any more
  };

  explicit Worker(Options options);
  /// Ends the process.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// Starts the process unless it runs; yields the layers of its sandbox. 503 when it cannot be started.
  Result<std::uint32_t> start();

  /// Does one job, as job.h says. The descriptors stay the caller's. 503 when there is no process to do it, 400
  /// M_UNKNOWN when it crashed, took too long, or answered what makes no sense; it is ended then.
  Result<Reply> run(const Job& job, const FileDescriptor& source, const FileDescriptor& result);

 private:
  Result<> spawn();
  Result<std::uint32_t> greet();
  bool is_alive() const;
  bool send(const Job& job, const FileDescriptor& source, const FileDescriptor& result);
  void limit_processor_time() const;
  /// False when nothing of that size has come by then.
  bool receive(void* message, std::size_t size, Milliseconds time);
  /// Yields how the process ended, for the log.
  std::string end();

  const Options options_;
  FileDescriptor socket_;
  pid_t process_ = -1;
  std::uint32_t layers_ = 0;
};

/// Whether a reply can be the answer to this job. Says nothing of the result's bytes.
bool is_valid(const Reply& reply, const Job& job);

/// "seccomp, Landlock": the layers that are missing; empty when all hold.
std::string missing_layers(std::uint32_t layers);

}  // namespace sluice::thumbnails
