// SPDX-License-Identifier: Apache-2.0
#include "thumbnailer/source_format.h"

#include <algorithm>
#include <array>
#include <span>
#include <string_view>

namespace sluice::thumbnailer {

namespace {

using thumbnails::Format;
using namespace std::string_view_literals;

/// A comment or a document type before the root of an SVG has to end within it.
constexpr std::size_t kHeadBytes = 4096;
/// Of a PNG: whether it is animated is told before its pixels, how long is not.
constexpr int kMaxPngChunks = 10'000;
constexpr std::uint64_t kTransportPacketBytes = 188;

class Head {
 public:
  explicit Head(std::string_view bytes) : bytes_(bytes) {}

  bool has(std::string_view what, std::size_t at = 0) const {
    return bytes_.size() >= at && bytes_.substr(at).starts_with(what);
  }
  /// 0 where the file has ended before.
  std::uint8_t byte(std::size_t at) const { return at < bytes_.size() ? static_cast<std::uint8_t>(bytes_[at]) : 0; }
  std::uint32_t little(std::size_t at, std::size_t bytes) const {
    std::uint32_t value = 0;
    for (std::size_t i = bytes; i-- > 0;) value = value << 8 | byte(at + i);
    return value;
  }
  std::uint32_t big(std::size_t at, std::size_t bytes = 4) const {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < bytes; ++i) value = value << 8 | byte(at + i);
    return value;
  }
  std::string_view bytes() const { return bytes_; }

 private:
  std::string_view bytes_;
};

std::string_view text_of(std::span<const std::byte> bytes, std::size_t count) {
  return {reinterpret_cast<const char*>(bytes.data()), count};
}

SourceFormat png(const SourceFile& file, const Head& head) {
  SourceFormat found{Format::kPng, "pngload", nullptr, {head.big(16), head.big(20)}};
  std::uint64_t offset = 8;
  for (int i = 0; i < kMaxPngChunks; ++i) {
    std::array<std::byte, 32> bytes{};
    const Head chunk(text_of(bytes, file.read_at(offset, bytes)));
    const bool is_animated = found.format == Format::kApng;
    if (chunk.has("IEND", 4) || (chunk.has("IDAT", 4) && !is_animated) || chunk.bytes().size() < 12) break;
    if (chunk.has("acTL", 4)) {
      found.format = Format::kApng;
      found.demuxer = "apng";
      found.plays = chunk.big(12);
    } else if (chunk.has("fcTL", 4) && is_animated) {
      const std::uint32_t divisor = chunk.big(30, 2);
      found.duration_ms += chunk.big(28, 2) * 1000 / (divisor == 0 ? 100 : divisor);
    }
    offset += 12 + std::uint64_t{chunk.big(0)};
  }
  return found;
}

SourceFormat webp(const Head& head) {
  SourceFormat found{Format::kWebp, "webpload", nullptr, {}};
  if (head.has("VP8X", 12)) {
    found.size = {head.little(24, 3) + 1, head.little(27, 3) + 1};
  } else if (head.has("VP8L", 12)) {
    const std::uint32_t packed = head.little(21, 4);
    found.size = {(packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1};
  } else {
    found.size = {head.little(26, 2) & 0x3FFF, head.little(28, 2) & 0x3FFF};
  }
  return found;
}

SourceFormat bmp(const Head& head) {
  SourceFormat found{Format::kBmp, nullptr, "bmp_pipe", {}};
  const std::uint32_t header_bytes = head.little(14, 4);
  if (header_bytes == 12) {
    found.size = {head.little(18, 2), head.little(20, 2)};
  } else if (header_bytes >= 40 && header_bytes <= 124) {
    const auto height = static_cast<std::int32_t>(head.little(22, 4));  // negative: from the top down
    found.size = {head.little(18, 4), height < 0 ? 0U - static_cast<std::uint32_t>(height) : head.little(22, 4)};
  } else {
    return {};
  }
  return found;
}

/// ISO 14496-12: a file type box names the brands that the file keeps to.
SourceFormat base_media(const Head& head) {
  constexpr std::array kAvif{"avif"sv, "avis"sv};
  constexpr std::array kHeif{"heic"sv, "heix"sv, "heim"sv, "heis"sv, "hevc"sv, "hevx"sv, "mif1"sv, "msf1"sv};
  const auto end = std::min<std::size_t>({head.big(0), head.bytes().size(), 256});
  bool is_heif = false;
  for (std::size_t at = 8; at + 4 <= end; at += at == 8 ? 8 : 4) {  // the minor version is none
    const auto brand = head.bytes().substr(at, 4);
    if (std::ranges::find(kAvif, brand) != kAvif.end()) return {Format::kAvif, "heifload", nullptr, {}};
    is_heif = is_heif || std::ranges::find(kHeif, brand) != kHeif.end();
  }
  if (is_heif) return {Format::kHeic, "heifload", nullptr, {}};
  return {Format::kVideo, nullptr, "mov", {}};
}

/// Of an MPEG audio or ADTS frame, which have no magic number, the fields that cannot have just any value.
const char* sound_of_frame(const Head& head, std::size_t at) {
  if (head.byte(at) != 0xFF || (head.byte(at + 1) & 0xE0) != 0xE0) return nullptr;
  const int layer = head.byte(at + 1) >> 1 & 3;
  if (layer == 0) {
    const bool is_adts = (head.byte(at + 1) & 0xF0) == 0xF0 && (head.byte(at + 2) >> 2 & 15) < 13;
    return is_adts ? "aac" : nullptr;
  }
  const bool is_mpeg = (head.byte(at + 1) >> 3 & 3) != 1 && head.byte(at + 2) >> 4 != 15 &&
                       head.byte(at + 2) >> 4 != 0 && (head.byte(at + 2) >> 2 & 3) != 3;
  return is_mpeg ? "mp3" : nullptr;
}

/// What follows an ID3 tag, which MP3, AAC and FLAC may begin with.
const char* sound_after_tag(const SourceFile& file, const Head& head) {
  std::uint64_t offset = 10;
  for (std::size_t at = 6; at < 10; ++at) offset += std::uint64_t{head.byte(at) & 0x7FU} << 7 * (9 - at);
  std::array<std::byte, 4> next{};
  file.read_at(offset, next);
  const Head frame(text_of(next, next.size()));
  if (frame.has("fLaC")) return "flac";
  const char* sound = sound_of_frame(frame, 0);
  return sound ? sound : "mp3";  // padding may follow the tag
}

bool skip_past(std::string_view& text, std::string_view end) {
  const auto at = text.find(end);
  if (at == text.npos) return false;
  text.remove_prefix(at + end.size());
  return true;
}

bool is_svg(std::string_view text) {
  constexpr auto kBlank = " \t\r\n"sv;
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  for (;;) {
    text.remove_prefix(std::min(text.find_first_not_of(kBlank), text.size()));
    if (text.starts_with("<?")) {
      if (!skip_past(text, "?>")) return false;
    } else if (text.starts_with("<!--")) {
      if (!skip_past(text, "-->")) return false;
    } else if (text.starts_with("<!DOCTYPE")) {
      const auto inner = text.find('[');
      if (inner < text.find('>') && !skip_past(text, "]")) return false;
      if (!skip_past(text, ">")) return false;
    } else {
      break;
    }
  }
  if (!text.starts_with('<')) return false;
  auto name = text.substr(1, std::min(text.find_first_of(" \t\r\n/>"), text.size()) - 1);
  if (const auto colon = name.find(':'); colon != name.npos) name.remove_prefix(colon + 1);
  return name == "svg";
}

bool is_transport_stream(const Head& head) {
  return head.byte(0) == 0x47 && head.byte(kTransportPacketBytes) == 0x47 &&
         head.byte(2 * kTransportPacketBytes) == 0x47;
}

}  // namespace

SourceFormat recognise(const SourceFile& file) {
  std::array<std::byte, kHeadBytes> bytes{};
  const auto count = file.read_at(0, bytes);
  const Head head(text_of(bytes, count));

  if (head.has("\xFF\xD8\xFF")) return {Format::kJpeg, "jpegload", nullptr, {}};
  if (head.has("\x89PNG\r\n\x1A\n")) return png(file, head);
  if (head.has("GIF87a") || head.has("GIF89a")) {
    return {Format::kGif, "gifload", nullptr, {head.little(6, 2), head.little(8, 2)}};
  }
  if (head.has("RIFF") && head.has("WEBP", 8)) return webp(head);
  if (head.has("RIFF") && head.has("WAVE", 8)) return {Format::kVideo, nullptr, "wav", {}};
  if (head.has("ftyp", 4)) return base_media(head);
  for (const auto box : {"moov"sv, "mdat"sv, "wide"sv, "free"sv, "skip"sv}) {  // QuickTime before it knew brands
    if (head.has(box, 4)) return {Format::kVideo, nullptr, "mov", {}};
  }
  if (head.has("\xFF\x0A") || head.has("\0\0\0\x0CJXL \r\n\x87\n"sv)) return {Format::kJxl, "jxlload", nullptr, {}};
  if (head.has("II*\0"sv) || head.has("MM\0*"sv) || head.has("II+\0"sv) || head.has("MM\0+"sv)) {
    return {Format::kTiff, "tiffload", nullptr, {}};
  }
  if (head.has("BM")) return bmp(head);
  if (head.has("%PDF-")) return {Format::kPdf, "pdfload", nullptr, {}};
  if (head.has("\x1A\x45\xDF\xA3")) return {Format::kVideo, nullptr, "matroska", {}};
  if (head.has("OggS")) return {Format::kVideo, nullptr, "ogg", {}};
  if (head.has("fLaC")) return {Format::kVideo, nullptr, "flac", {}};
  if (head.has("ID3")) return {Format::kVideo, nullptr, sound_after_tag(file, head), {}};
  if (is_transport_stream(head)) return {Format::kVideo, nullptr, "mpegts", {}};
  if (const char* sound = sound_of_frame(head, 0)) return {Format::kVideo, nullptr, sound, {}};
  if (is_svg(head.bytes())) return {Format::kSvg, "svgload", nullptr, {}};
  return {};
}

}  // namespace sluice::thumbnailer
