// SPDX-License-Identifier: Apache-2.0
#include "cli/default_setup.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <span>
#include <tuple>

#include "base/file_system.h"
#include "base/random.h"
#include "base/text.h"

namespace sluice::cli {
namespace {

constexpr std::size_t kTokenRandomBytes = 24;
constexpr std::size_t kMaxTokenFileBytes = 4096;

/// The token kept there; empty if there is none. One that others could have planted, or read, is refused.
std::expected<std::string, std::string> read_token(const std::string& path) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!file && errno == ENOENT) return {};
  struct stat status{};
  if (!file || ::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
    return std::unexpected(fmt::format("cannot read {}: it is not a plain file of yours; remove it", path));
  }
  if (status.st_uid != ::geteuid() || (status.st_mode & 077) != 0) {
    return std::unexpected(fmt::format(
        "{} could be read or written by others; if you trust it, make it yours alone (chmod 600), else remove it",
        path));
  }
  std::string text(kMaxTokenFileBytes, '\0');
  const ssize_t size = ::pread(file.get(), text.data(), text.size(), 0);
  text.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
  return std::string(trim(std::string_view(text).substr(0, text.find('\n'))));
}

/// Whole or not at all: a server that ended in the middle must not leave an empty token behind.
SystemResult<> write_token(FileSystem& files, const std::string& path, const std::string& token) {
  const std::string unfinished = path + ".new";
  std::ignore = files.remove(unfinished);
  const auto file = files.create(unfinished);
  if (!file) return std::unexpected(file.error());
  const std::string line = token + "\n";
  if (auto written = files.write_at(*file, std::as_bytes(std::span(line)), 0); !written) return written;
  if (auto synced = files.sync(*file); !synced) return synced;
  return files.rename(unfinished, path);
}

std::string yaml_with_token(std::string_view token) {
  return fmt::format(
      "homeservers:\n"
      "  - server_name: localhost\n"
      "    tokens:\n"
      "      - {{token: \"{}\", user: \"@admin:localhost\", admin: true}}\n",
      token);
}

}  // namespace

std::expected<DefaultSetup, std::string> make_default_setup(const config::Environment& environment) {
  // Twice: the first time only to learn where the data, and so the token, is.
  const auto preliminary = config::parse(yaml_with_token("not-yet-known"), "(default)", environment);
  if (!preliminary) return std::unexpected(config::to_string(preliminary.error()));

  DefaultSetup setup;
  PosixFileSystem files;
  setup.token_file = preliminary->data_dir + "/token";
  if (const auto made = files.make_directories(preliminary->data_dir); !made) {
    return std::unexpected(fmt::format("cannot create {}: {}", preliminary->data_dir, made.error().message()));
  }
  auto existing = read_token(setup.token_file);
  if (!existing) return std::unexpected(existing.error());
  setup.token = *std::move(existing);
  if (setup.token.empty()) {
    SystemRandom random;
    setup.token = random_id(random, kTokenRandomBytes);
    setup.token_is_new = true;
    if (const auto written = write_token(files, setup.token_file, setup.token); !written) {
      return std::unexpected(fmt::format("cannot write {}: {}", setup.token_file, written.error().message()));
    }
  }
  auto config = config::parse(yaml_with_token(setup.token), "(default)", environment);
  if (!config) return std::unexpected(config::to_string(config.error()));
  setup.config = *std::move(config);
  return setup;
}

}  // namespace sluice::cli
