-- SPDX-License-Identifier: Apache-2.0
-- Prints wrk's summary as one JSON object in its last line.
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.6f, "bytes": %d, "refused": {"other": %d}, "broken": %d, ' ..
    '"median_us": %.1f, "p99_us": %.1f, "worst_us": %.1f}\n',
    summary.requests, summary.duration / 1e6, summary.bytes, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99), latency.max))
end
