// SPDX-License-Identifier: Apache-2.0
#include "repository/download_meter.h"

namespace sluice::repository {
namespace {

config::Rate in_tokens(const config::ByteRate& rate) {
  return {.per_second = static_cast<double>(rate.bytes_per_second), .burst = static_cast<double>(rate.burst)};
}

}  // namespace

std::optional<Milliseconds> DownloadMeter::wait(std::string_view payer, const config::ByteRate& rate,
                                                SteadyTime now) const {
  return shards_[shard_of(payer)].wait(payer, in_tokens(rate), now);
}

void DownloadMeter::charge(std::string_view payer, std::int64_t bytes, const config::ByteRate& rate, SteadyTime now) {
  if (bytes != 0) shards_[shard_of(payer)].charge(payer, static_cast<double>(bytes), in_tokens(rate), now);
}

}  // namespace sluice::repository
