// SPDX-License-Identifier: Apache-2.0
#include "telemetry/metrics.h"

#include <fmt/format.h>
#include <prometheus/counter.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

namespace sluice::telemetry {
namespace {

const prometheus::Histogram::BucketBoundaries kSeconds = {0.001, 0.005, 0.02, 0.1, 0.5, 1, 5, 20, 60, 300};

template <class Value>
void append_level(std::string& text, std::string_view name, std::string_view type, std::string_view help, Value value) {
  text += fmt::format("# HELP {0} {1}\n# TYPE {0} {2}\n{0} {3}\n", name, help, type, value);
}

}  // namespace

struct Metrics::Families {
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
          .Help("Downloads: of stored files, and live, while their upload ran.")
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
};

Metrics::Metrics() : families_(std::make_unique<Families>()) {
  // There from the start, or a rate() over them would miss the first one.
  for (const char* result : {"stored", "broken", "refused"}) families_->uploads.Add({{"result", result}});
  for (const char* kind : {"stored", "live"}) families_->downloads.Add({{"kind", kind}});
}
Metrics::~Metrics() = default;

void Metrics::record(const http::ExchangeReport& report) {
  const http::Notes& notes = report.notes;
  families_->requests.Add({{"status", std::to_string(report.status)}}).Increment();
  families_->request_seconds.Observe(std::chrono::duration<double>(report.duration).count());
  if (!notes.errcode.empty()) families_->refusals.Add({{"errcode", notes.errcode}}).Increment();
  if (notes.was_stalled) families_->wait_seconds.Observe(std::chrono::duration<double>(notes.waited).count());
  if (notes.outcome.empty()) return;
  const std::string outcome(notes.outcome);
  if (notes.operation == "upload") families_->uploads.Add({{"result", outcome}}).Increment();
  if (notes.operation == "download") families_->downloads.Add({{"kind", outcome}}).Increment();
}

std::string Metrics::text(const Levels& levels) const {
  std::string text = prometheus::TextSerializer().Serialize(families_->registry.Collect());
  append_level(text, "sluice_stalled_downloads", "gauge", "Downloads that wait for an upload to begin.",
               levels.stalled_downloads);
  append_level(text, "sluice_live_followers", "gauge", "Downloads that follow a running upload.",
               levels.live_followers);
  append_level(text, "sluice_uploads_running", "gauge", "Uploads whose body is being received.",
               levels.running_uploads);
  append_level(text, "sluice_connections", "gauge", "Open client connections.", levels.connections);
  append_level(text, "sluice_received_bytes_total", "counter", "Bytes of request bodies.", levels.received_bytes);
  append_level(text, "sluice_sent_bytes_total", "counter", "Bytes sent, heads included.", levels.sent_bytes);
  return text;
}

}  // namespace sluice::telemetry
