// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace sluice {

/// Owns one POSIX descriptor. Moves, does not copy; closes when destroyed.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  void reset();

 private:
  int fd_ = -1;
};

/// Of an open regular file, in bytes; nothing if it is none.
std::optional<std::uint64_t> file_size(const FileDescriptor& file);

template <class T = void>
using SystemResult = std::expected<T, std::error_code>;

/// The file system as Sluice uses it: the one seam through which tests inject faults and drop what was not synced.
/// Every call may block; every call may come from any thread. Paths are absolute or relative to the working directory.
class FileSystem {
 public:
  virtual ~FileSystem() = default;

  /// Creates a file that must not exist yet, readable and writable by its owner alone (mode 0600).
  virtual SystemResult<FileDescriptor> create(const std::string& path) = 0;
  virtual SystemResult<FileDescriptor> open_read(const std::string& path) = 0;
  /// Writes all of `data` at `offset`, or fails.
  virtual SystemResult<> write_at(const FileDescriptor& file, std::span<const std::byte> data,
                                  std::uint64_t offset) = 0;
  /// Lets the disk begin to write the file's bytes, so that a `sync` later has less to wait for. No promise: it does
  /// not fail, makes nothing durable, and may block for a moment (sync_file_range(2)).
  virtual void begin_sync(const FileDescriptor& file) = 0;
  /// Returns when the file's bytes and size are on stable storage (fsync).
  virtual SystemResult<> sync(const FileDescriptor& file) = 0;
  /// Returns when the directory's entries are on stable storage.
  virtual SystemResult<> sync_directory(const std::string& path) = 0;
  /// Gives a file a second name. Fails with EEXIST when `to` exists: existing files are never replaced.
  virtual SystemResult<> link(const std::string& from, const std::string& to) = 0;
  virtual SystemResult<> rename(const std::string& from, const std::string& to) = 0;
  virtual SystemResult<> remove(const std::string& path) = 0;
  /// Creates the directory and its parents (mode 0700); succeeds when it exists.
  virtual SystemResult<> make_directories(const std::string& path) = 0;
  /// The names in a directory, without . and .., in no order.
  virtual SystemResult<std::vector<std::string>> list(const std::string& path) = 0;
};

/// The file system of the kernel.
class PosixFileSystem final : public FileSystem {
 public:
  SystemResult<FileDescriptor> create(const std::string& path) override;
  SystemResult<FileDescriptor> open_read(const std::string& path) override;
  SystemResult<> write_at(const FileDescriptor& file, std::span<const std::byte> data, std::uint64_t offset) override;
  void begin_sync(const FileDescriptor& file) override;
  SystemResult<> sync(const FileDescriptor& file) override;
  SystemResult<> sync_directory(const std::string& path) override;
  SystemResult<> link(const std::string& from, const std::string& to) override;
  SystemResult<> rename(const std::string& from, const std::string& to) override;
  SystemResult<> remove(const std::string& path) override;
  SystemResult<> make_directories(const std::string& path) override;
  SystemResult<std::vector<std::string>> list(const std::string& path) override;
};

}  // namespace sluice
