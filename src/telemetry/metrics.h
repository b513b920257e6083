// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "http/server.h"

namespace sluice::telemetry {

/// The levels that are read when somebody scrapes, rather than counted as things happen.
struct Levels {
  std::size_t stalled_downloads = 0;
  std::size_t live_followers = 0;
  std::size_t running_uploads = 0;
  std::size_t queued_thumbnails = 0;
  std::size_t connections = 0;
  std::uint64_t received_bytes = 0;
  std::uint64_t sent_bytes = 0;
};

/// What is counted, in Prometheus's text format. docs/operations.md lists the names. From any thread.
class Metrics {
 public:
  Metrics();
  ~Metrics();
  void record(const http::ExchangeReport& report);
  std::string text(const Levels& levels) const;

 private:
  struct Shard;
  const std::unique_ptr<Shard[]> shards_;
};

}  // namespace sluice::telemetry
