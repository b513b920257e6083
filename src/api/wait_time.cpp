// SPDX-License-Identifier: Apache-2.0
#include "api/wait_time.h"

#include <algorithm>
#include <charconv>

namespace sluice::api {

Result<Milliseconds> wait_time(const Target& target, Milliseconds default_wait, Milliseconds max_wait) {
  auto text = target.parameter("timeout_ms");
  if (!text) text = target.parameter("fi.mau.msc2246.timeout_ms");
  if (!text) return default_wait;
  if (text->empty() || text->find_first_not_of("0123456789") != std::string_view::npos) {
    return fail::invalid_param("timeout_ms is a number of milliseconds");
  }
  Milliseconds::rep milliseconds = 0;
  const auto read = std::from_chars(text->data(), text->data() + text->size(), milliseconds);
  if (read.ec == std::errc::result_out_of_range) return max_wait;
  return std::min(Milliseconds(milliseconds), max_wait);
}

}  // namespace sluice::api
