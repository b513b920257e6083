// SPDX-License-Identifier: Apache-2.0
#include "cli/thumbnail_setup.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <thread>

namespace sluice::cli {
namespace {

constexpr const char* kProgram = "sluice-thumbnailer";

std::optional<std::string> find_worker() {
  std::error_code failed;
  const std::filesystem::path beside = std::filesystem::read_symlink("/proc/self/exe", failed).parent_path();
  for (const std::filesystem::path& folder : {beside, {"/usr/local/libexec"}, {"/usr/libexec"}}) {
    const std::string path = folder / kProgram;
    if (::access(path.c_str(), X_OK) == 0) return path;
  }
  return std::nullopt;
}

}  // namespace

std::vector<thumbnails::Size> thumbnail_sizes(const config::Config::Thumbnails& config) {
  std::vector<thumbnails::Size> sizes;
  for (const config::ThumbnailSize& size : config.sizes) {
    const bool is_crop = size.method == config::ThumbnailMethod::kCrop;
    sizes.push_back({size.width, size.height, is_crop ? thumbnails::Method::kCrop : thumbnails::Method::kScale});
  }
  return sizes;
}

thumbnails::Thumbnails::Limits thumbnail_limits(const config::Config::Thumbnails& config, std::size_t max_hot) {
  thumbnails::Thumbnails::Limits limits;
  limits.workers = config.workers.value_or(std::max(1u, std::thread::hardware_concurrency()));
  limits.max_queued = config.max_queued;
  limits.queue_time = config.queue_time;
  limits.time = config.time;
  limits.memory_bytes = config.memory;
  limits.max_source_pixels = config.max_pixels;
  limits.max_frames = config.max_frames;
  limits.failure_age = config.failure_age;
  limits.needs_every_layer = config.sandbox == config::SandboxDemand::kRequired;
  limits.max_hot = max_hot;
  limits.usual_sizes = thumbnail_sizes(config);
  if (limits.workers == 0) return limits;
  if (const std::optional<std::string> program = config.worker ? config.worker : find_worker()) {
    limits.program = *program;
  } else {
    spdlog::warn("there is no {} beside this program nor in /usr/local/libexec: no thumbnails are made", kProgram);
    limits.workers = 0;
  }
  return limits;
}

}  // namespace sluice::cli
