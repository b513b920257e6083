// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdlib.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <system_error>

namespace sluice {

/// For tests: an empty directory that goes with its contents.
class TemporaryDirectory {
 public:
  static std::string on_disk() { return std::filesystem::temp_directory_path().string(); }
  /// In memory if the machine has such a place: for tests that make and remove many directories.
  static std::string in_memory() { return std::filesystem::is_directory("/dev/shm") ? "/dev/shm" : on_disk(); }

  explicit TemporaryDirectory(const std::string& parent = on_disk()) : path_(parent + "/sluice-test-XXXXXX") {
    if (!::mkdtemp(path_.data())) throw std::system_error(errno, std::generic_category(), path_);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + '/' + name; }

 private:
  std::string path_;
};

}  // namespace sluice
