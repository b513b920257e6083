// SPDX-License-Identifier: Apache-2.0
#include "thumbnails/store.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

#include "thumbnails/format.h"

namespace sluice::thumbnails {
namespace {

constexpr std::size_t kBeginningBytes = 16;
constexpr std::size_t kNameBytes = 12;
// Stands for the original, instead of a copy of it; the format's number follows.
constexpr std::string_view kOriginalMark = "original ";

struct Beginning {
  std::array<std::byte, kBeginningBytes> bytes{};
  std::size_t size = 0;
  std::span<const std::byte> span() const { return std::span(bytes).first(size); }
  std::string_view text() const { return {reinterpret_cast<const char*>(bytes.data()), size}; }
};

Beginning read_beginning(const FileDescriptor& file) {
  Beginning beginning;
  const ssize_t got = ::pread(file.get(), beginning.bytes.data(), beginning.bytes.size(), 0);
  beginning.size = got < 0 ? 0 : static_cast<std::size_t>(got);
  return beginning;
}

std::string original_text(Format format) { return fmt::format("{}{}", kOriginalMark, extension_of(format)); }

Format format_of_original(std::string_view text) {
  for (const Format format : {Format::kJpeg, Format::kPng, Format::kApng, Format::kGif, Format::kWebp}) {
    if (text == original_text(format)) return format;
  }
  return Format::kUnknown;
}

}  // namespace

Result<std::unique_ptr<ThumbnailStore>> ThumbnailStore::open(FileSystem& fs, RandomSource& random,
                                                             std::string directory) {
  std::error_code ignored;
  std::filesystem::remove_all(directory + "/drafts", ignored);
  if (auto made = fs.make_directories(directory + "/drafts"); !made) {
    return fail::from_system(made.error(), "Making the folder of thumbnails");
  }
  return std::unique_ptr<ThumbnailStore>(new ThumbnailStore(fs, random, std::move(directory)));
}

Result<std::optional<Thumbnail>> ThumbnailStore::find(const Sha256Digest& source, const Variant& variant) const {
  SystemResult<FileDescriptor> file = fs_.open_read(folder_of(source) + '/' + variant.name());
  if (!file && file.error() == std::errc::no_such_file_or_directory) return std::nullopt;
  if (!file) return fail::from_system(file.error(), "Opening a thumbnail");
  const Beginning beginning = read_beginning(*file);
  if (const Format format = format_of_original(beginning.text()); format != Format::kUnknown) {
    return Thumbnail{.file = nullptr, .format = format};
  }
  const Format format = format_of_thumbnail(beginning.span());
  if (format == Format::kUnknown) return std::nullopt;  // is made again
  const std::uint64_t size = file_size(*file).value_or(0);
  return Thumbnail{std::make_shared<const FileDescriptor>(*std::move(file)), size, format};
}

Result<Thumbnail> ThumbnailStore::keep(const Thumbnail& thumbnail, const Sha256Digest& source,
                                       const Variant& variant) const {
  std::vector<std::byte> content(thumbnail.size);
  if (!thumbnail.file) {
    const std::string text = original_text(thumbnail.format);
    const auto bytes = std::as_bytes(std::span(text));
    content.assign(bytes.begin(), bytes.end());
  } else if (::pread(thumbnail.file->get(), content.data(), content.size(), 0) != std::ssize(content)) {
    return fail::internal("Reading a thumbnail");
  }
  const std::string draft = directory_ + "/drafts/" + random_id(random_, kNameBytes);
  const std::string folder = folder_of(source);
  SystemResult<> done = write(draft, content);
  if (done) done = fs_.make_directories(folder);
  if (done) done = fs_.rename(draft, folder + '/' + variant.name());
  if (!done) {
    (void)fs_.remove(draft);
    return fail::from_system(done.error(), "Keeping a thumbnail");
  }
  Result<std::optional<Thumbnail>> kept = find(source, variant);
  if (!kept) return std::unexpected(kept.error());
  return (*kept).value_or(thumbnail);
}

SystemResult<> ThumbnailStore::write(const std::string& path, std::span<const std::byte> content) const {
  SystemResult<FileDescriptor> file = fs_.create(path);
  if (!file) return std::unexpected(file.error());
  if (auto written = fs_.write_at(*file, content, 0); !written) return written;
  return fs_.sync(*file);  // a name without its bytes would be taken for a thumbnail
}

std::size_t ThumbnailStore::count(const Sha256Digest& source) const {
  const SystemResult<std::vector<std::string>> names = fs_.list(folder_of(source));
  return names ? names->size() : 0;
}

void ThumbnailStore::remove(const Sha256Digest& source) const {
  std::error_code ignored;
  std::filesystem::remove_all(folder_of(source), ignored);
}

std::string ThumbnailStore::folder_of(const Sha256Digest& source) const {
  const std::string hex = source.to_hex();
  return fmt::format("{}/{}/{}", directory_, hex.substr(0, 2), hex);
}

}  // namespace sluice::thumbnails
