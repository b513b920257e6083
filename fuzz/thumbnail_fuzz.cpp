// SPDX-License-Identifier: Apache-2.0
// Input: a byte of options, then a file. Whatever it is has an answer; a thumbnail is no larger than what was asked,
// and begins as its format does. The libraries that decode are not instrumented: what is sought are their crashes and
// what our code makes of what they return.
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <string_view>

#include "base/file_system.h"
#include "require.h"
#include "thumbnailer/worker.h"

namespace {

using namespace sluice;
using namespace sluice::fuzz;
using namespace sluice::thumbnails;
using namespace std::string_view_literals;

constexpr std::uint32_t kWidth = 48;
constexpr std::uint32_t kHeight = 32;
constexpr std::uint64_t kMaxPixels = 1 << 20;

void check(const Job& job, const Reply& reply, int result) {
  std::array<char, 12> head{};
  const auto head_bytes = pread(result, head.data(), head.size(), 0);
  if (reply.outcome != Outcome::kMade) {
    require(head_bytes == 0 && reply.result_bytes == 0);
    require(reply.outcome != Outcome::kDescribed || job.kind == JobKind::kDescribe);
    return;
  }
  require(job.kind == JobKind::kThumbnail);
  require(lseek(result, 0, SEEK_END) == static_cast<off_t>(reply.result_bytes));
  require(reply.width >= 1 && reply.width <= kWidth && reply.height >= 1 && reply.height <= kHeight);
  const std::string_view text(head.data(), head.size());
  require((reply.format == Format::kJpeg && text.starts_with("\xFF\xD8\xFF")) ||
          (reply.format == Format::kPng && text.starts_with("\x89PNG")) ||
          (reply.format == Format::kWebp && text.starts_with("RIFF") && text.substr(8) == "WEBP"sv));
  require(reply.format != Format::kWebp || (job.animated != 0 && reply.source_is_animated != 0));
}

}  // namespace

/// What fontconfig keeps for good when it is first used, and what poppler forgets of a broken page. What we forget to
/// free is seen all the same.
extern "C" const char* __lsan_default_suppressions() { return "leak:libfontconfig\nleak:libcairo\nleak:libpixman\n"; }

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  thumbnailer::start_worker(false);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  Job job{.width = kWidth, .height = kHeight, .max_frames = 4, .max_source_pixels = kMaxPixels};
  job.kind = (data[0] & 1) != 0 ? JobKind::kDescribe : JobKind::kThumbnail;
  job.method = (data[0] & 2) != 0 ? Method::kCrop : Method::kScale;
  job.animated = data[0] >> 2 & 1;
  const FileDescriptor source(memfd_create("source", MFD_CLOEXEC));
  const FileDescriptor result(memfd_create("result", MFD_CLOEXEC));
  require(write(source.get(), data + 1, size - 1) == static_cast<ssize_t>(size - 1));
  check(job, thumbnailer::answer(job, source.get(), result.get()), result.get());
  return 0;
}
