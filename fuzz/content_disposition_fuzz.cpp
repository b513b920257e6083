// SPDX-License-Identifier: Apache-2.0
// Input: a file name, and at the same time a Content-Disposition value. What is written is plain ASCII on one line,
// whatever the name; a sound name is read back as it was.
#include <algorithm>
#include <string>
#include <string_view>

#include "base/text.h"
#include "http/content_disposition.h"
#include "require.h"

namespace {

using namespace sluice;
using namespace sluice::fuzz;

void check_writing(std::string_view name) {
  for (const bool is_inline : {true, false}) {
    const std::string value = http::content_disposition(is_inline, name);
    require(value.starts_with(is_inline ? "inline" : "attachment"));
    require(std::ranges::all_of(value, [](char c) { return c >= ' ' && c < 0x7f; }));
    require(std::ranges::count(value, '"') == (name.empty() ? 0 : 2));
    if (is_utf8(name) && !has_control_characters(name)) require(http::filename_of(value) == name);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = text_of(data, size);
  check_writing(text);
  const std::string read = http::filename_of(text);
  require(read.size() <= text.size());
  check_writing(read);
  check_writing(http::filename_of("attachment; " + std::string(text)));
  return 0;
}
