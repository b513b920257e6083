// SPDX-License-Identifier: Apache-2.0
#include "base/file_system.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <string_view>

namespace sluice {
namespace {

std::unexpected<std::error_code> last_error() {
  return std::unexpected(std::error_code(errno, std::generic_category()));
}

template <class Call>
auto retry_interrupted(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

SystemResult<> done_unless_negative(int result) {
  if (result < 0) return last_error();
  return {};
}

}  // namespace

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

void FileDescriptor::reset() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

std::optional<std::uint64_t> file_size(const FileDescriptor& file) {
  struct stat status{};
  if (::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  return static_cast<std::uint64_t>(status.st_size);
}

SystemResult<FileDescriptor> PosixFileSystem::create(const std::string& path) {
  const int fd = retry_interrupted([&] { return ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600); });
  if (fd < 0) return last_error();
  return FileDescriptor(fd);
}

SystemResult<FileDescriptor> PosixFileSystem::open_read(const std::string& path) {
  const int fd = retry_interrupted([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC); });
  if (fd < 0) return last_error();
  return FileDescriptor(fd);
}

SystemResult<> PosixFileSystem::write_at(const FileDescriptor& file, std::span<const std::byte> data,
                                         std::uint64_t offset) {
  while (!data.empty()) {
    const ssize_t written =
        retry_interrupted([&] { return ::pwrite(file.get(), data.data(), data.size(), static_cast<off_t>(offset)); });
    if (written < 0) return last_error();
    data = data.subspan(static_cast<std::size_t>(written));
    offset += static_cast<std::uint64_t>(written);
  }
  return {};
}

void PosixFileSystem::begin_sync(const FileDescriptor& file) {
  (void)::sync_file_range(file.get(), 0, 0, SYNC_FILE_RANGE_WRITE);
}

SystemResult<> PosixFileSystem::sync(const FileDescriptor& file) { return done_unless_negative(::fsync(file.get())); }

SystemResult<> PosixFileSystem::sync_directory(const std::string& path) {
  const FileDescriptor directory(
      retry_interrupted([&] { return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
  if (!directory) return last_error();
  return done_unless_negative(::fsync(directory.get()));
}

SystemResult<> PosixFileSystem::link(const std::string& from, const std::string& to) {
  return done_unless_negative(::link(from.c_str(), to.c_str()));
}

SystemResult<> PosixFileSystem::rename(const std::string& from, const std::string& to) {
  return done_unless_negative(std::rename(from.c_str(), to.c_str()));
}

SystemResult<> PosixFileSystem::remove(const std::string& path) { return done_unless_negative(::unlink(path.c_str())); }

SystemResult<> PosixFileSystem::make_directories(const std::string& path) {
  for (std::size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string part = path.substr(0, end);
    if (::mkdir(part.c_str(), 0700) < 0 && errno != EEXIST) return last_error();
    if (end == std::string::npos) return {};
  }
}

SystemResult<std::vector<std::string>> PosixFileSystem::list(const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(path.c_str()), ::closedir);
  if (!directory) return last_error();
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(directory.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  if (errno != 0) return last_error();
  return names;
}

}  // namespace sluice
