// SPDX-License-Identifier: Apache-2.0
#include "telemetry/metrics.h"

#include <fmt/format.h>
#include <prometheus/counter.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <string>
#include <vector>

namespace sluice::telemetry {
namespace {

constexpr std::size_t kShards = 16;
const prometheus::Histogram::BucketBoundaries kSeconds = {0.001, 0.005, 0.02, 0.1, 0.5, 1, 5, 20, 60, 300};

// Adds what another shard has counted under the same name and label.
void add(prometheus::ClientMetric& sum, const prometheus::ClientMetric& part) {
  sum.counter.value += part.counter.value;
  sum.histogram.sample_count += part.histogram.sample_count;
  sum.histogram.sample_sum += part.histogram.sample_sum;
  for (std::size_t i = 0; i < sum.histogram.bucket.size(); ++i) {
    sum.histogram.bucket[i].cumulative_count += part.histogram.bucket[i].cumulative_count;
  }
}

void add(std::vector<prometheus::MetricFamily>& sum, const prometheus::MetricFamily& part) {
  const auto family = std::ranges::find(sum, part.name, &prometheus::MetricFamily::name);
  if (family == sum.end()) {
    sum.push_back(part);
    return;
  }
  for (const prometheus::ClientMetric& metric : part.metric) {
    const auto same = std::ranges::find(family->metric, metric.label, &prometheus::ClientMetric::label);
    if (same == family->metric.end()) {
      family->metric.push_back(metric);
    } else {
      add(*same, metric);
    }
  }
}

// Each thread has a number of its own.
std::size_t thread_number() {
  static std::atomic<std::size_t> threads{0};
  thread_local const std::size_t number = threads++;
  return number;
}

template <class Value>
void append_level(std::string& text, std::string_view name, std::string_view type, std::string_view help, Value value) {
  text += fmt::format("# HELP {0} {1}\n# TYPE {0} {2}\n{0} {3}\n", name, help, type, value);
}

}  // namespace

// What some of the threads count. Loops that count in one place would wait for each other's caches.
struct alignas(64) Metrics::Shard {
  prometheus::Registry registry;
  prometheus::Family<prometheus::Counter>& requests =
      prometheus::BuildCounter().Name("sluice_requests_total").Help("Requests, by status.").Register(registry);
  prometheus::Family<prometheus::Counter>& refusals = prometheus::BuildCounter()
                                                          .Name("sluice_refusals_total")
                                                          .Help("Requests that were refused, by errcode.")
                                                          .Register(registry);
  prometheus::Family<prometheus::Counter>& uploads =
      prometheus::BuildCounter()
          .Name("sluice_uploads_total")
          .Help("Uploads: stored, broken (begun and not stored), refused (before the body).")
          .Register(registry);
  prometheus::Family<prometheus::Counter>& downloads =
      prometheus::BuildCounter()
          .Name("sluice_downloads_total")
          .Help("Downloads: of stored files; live, while their upload ran; of thumbnails.")
          .Register(registry);
  prometheus::Histogram& request_seconds = prometheus::BuildHistogram()
                                               .Name("sluice_request_seconds")
                                               .Help("From the end of a request's head to the end of its response.")
                                               .Register(registry)
                                               .Add({}, kSeconds);
  prometheus::Histogram& wait_seconds = prometheus::BuildHistogram()
                                            .Name("sluice_wait_seconds")
                                            .Help("How long stalled downloads were stalled.")
                                            .Register(registry)
                                            .Add({}, kSeconds);

  // Found once rather than for each request, which took 1.1 µs.
  prometheus::Counter& stored = downloads.Add({{"kind", "stored"}});
  prometheus::Counter& live = downloads.Add({{"kind", "live"}});
  prometheus::Counter& thumbnails = downloads.Add({{"kind", "thumbnail"}});
  std::array<std::atomic<prometheus::Counter*>, 600> by_status{};

  void count_request(int status) {
    const auto index = std::min<std::size_t>(static_cast<std::size_t>(std::max(status, 0)), by_status.size() - 1);
    prometheus::Counter* counter = by_status[index].load(std::memory_order_acquire);
    if (counter == nullptr) {
      counter = &requests.Add({{"status", std::to_string(status)}});
      by_status[index].store(counter, std::memory_order_release);
    }
    counter->Increment();
  }
};

Metrics::Metrics() : shards_(std::make_unique<Shard[]>(kShards)) {
  // There from the start, or a rate() over them would miss the first one.
  for (const char* result : {"stored", "broken", "refused"}) shards_[0].uploads.Add({{"result", result}});
}
Metrics::~Metrics() = default;

void Metrics::record(const http::ExchangeReport& report) {
  const http::Notes& notes = report.notes;
  Shard& shard = shards_[thread_number() % kShards];
  shard.count_request(report.status);
  shard.request_seconds.Observe(std::chrono::duration<double>(report.duration).count());
  if (!notes.errcode.empty()) shard.refusals.Add({{"errcode", notes.errcode}}).Increment();
  if (notes.was_stalled) shard.wait_seconds.Observe(std::chrono::duration<double>(notes.waited).count());
  if (notes.outcome.empty()) return;
  if (notes.operation == "upload") shard.uploads.Add({{"result", std::string(notes.outcome)}}).Increment();
  if (notes.operation == "thumbnail") shard.thumbnails.Increment();
  if (notes.operation == "download") (notes.outcome == "live" ? shard.live : shard.stored).Increment();
}

std::string Metrics::text(const Levels& levels) const {
  std::vector<prometheus::MetricFamily> families;
  for (std::size_t i = 0; i < kShards; ++i) {
    for (const prometheus::MetricFamily& family : shards_[i].registry.Collect()) add(families, family);
  }
  std::string text = prometheus::TextSerializer().Serialize(families);
  append_level(text, "sluice_stalled_downloads", "gauge", "Downloads that wait for an upload to begin.",
               levels.stalled_downloads);
  append_level(text, "sluice_live_followers", "gauge", "Downloads that follow a running upload.",
               levels.live_followers);
  append_level(text, "sluice_uploads_running", "gauge", "Uploads whose body is being received.",
               levels.running_uploads);
  append_level(text, "sluice_thumbnails_queued", "gauge", "Thumbnails that are being made or wait for a worker.",
               levels.queued_thumbnails);
  append_level(text, "sluice_connections", "gauge", "Open client connections.", levels.connections);
  append_level(text, "sluice_received_bytes_total", "counter", "Bytes of request bodies.", levels.received_bytes);
  append_level(text, "sluice_sent_bytes_total", "counter", "Bytes sent, heads included.", levels.sent_bytes);
  return text;
}

}  // namespace sluice::telemetry
