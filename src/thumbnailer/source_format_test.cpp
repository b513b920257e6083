// SPDX-License-Identifier: Apache-2.0
#include "thumbnailer/source_format.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>
#include <string_view>

#include "base/file_system.h"

namespace sluice::thumbnailer {
namespace {

using thumbnails::Format;
using namespace std::string_literals;
using namespace std::string_view_literals;

SourceFormat recognised(std::string_view bytes) {
  const FileDescriptor file(memfd_create("source", MFD_CLOEXEC));
  EXPECT_EQ(write(file.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  return recognise(SourceFile(file.get()));
}

Format format_of(std::string_view bytes) { return recognised(bytes).format; }
std::string demuxer_of(std::string_view bytes) {
  const auto found = recognised(bytes);
  return found.demuxer != nullptr ? found.demuxer : "";
}

std::string big(std::uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8),
          static_cast<char>(value)};
}
std::string chunk(const std::string& type, const std::string& data) {
  return big(static_cast<std::uint32_t>(data.size())) + type + data + "crc!";
}
std::string png_with(const std::string& chunks) {
  return "\x89PNG\r\n\x1A\n" + chunk("IHDR", big(640) + big(480) + "\x8\x6\0\0\0"s) + chunks;
}
std::string frame_control(std::uint16_t numerator, std::uint16_t denominator) {
  return chunk("fcTL",
               std::string(20, '\0') + big(static_cast<std::uint32_t>(numerator) << 16 | denominator) + "\0\0"s);
}
std::string file_type(const std::string& major, const std::string& compatible = "") {
  return big(static_cast<std::uint32_t>(16 + compatible.size())) + "ftyp" + major + big(0) + compatible;
}

TEST(SourceFormat, PicturesAreKnownByTheirFirstBytes) {
  EXPECT_EQ(format_of("\xFF\xD8\xFF\xE0"), Format::kJpeg);
  EXPECT_EQ(format_of("GIF89a\x10\0\x20\0"sv), Format::kGif);
  EXPECT_EQ(format_of("RIFF\0\0\0\0WEBPVP8 "sv), Format::kWebp);
  EXPECT_EQ(format_of("\xFF\x0A"), Format::kJxl);
  EXPECT_EQ(format_of("\0\0\0\x0CJXL \r\n\x87\n"sv), Format::kJxl);
  EXPECT_EQ(format_of("II*\0"sv), Format::kTiff);
  EXPECT_EQ(format_of("MM\0*"sv), Format::kTiff);
  EXPECT_EQ(format_of("%PDF-1.7"), Format::kPdf);
  EXPECT_EQ(format_of("BM" + std::string(12, '\0') + "\x28\0\0\0"s), Format::kBmp);
}

TEST(SourceFormat, OtherThingsAreNot) {
  EXPECT_EQ(format_of(""), Format::kUnknown);
  EXPECT_EQ(format_of("\xFF"), Format::kUnknown);
  EXPECT_EQ(format_of("P6 10 10 255 "), Format::kUnknown);
  EXPECT_EQ(format_of("BM is also how a text may begin."), Format::kUnknown);
  EXPECT_EQ(format_of("Hello, world\n"), Format::kUnknown);
  EXPECT_EQ(format_of("\x7F"
                      "ELF"),
            Format::kUnknown);
  EXPECT_EQ(format_of("PK\x3\x4"), Format::kUnknown);
  EXPECT_EQ(format_of("%!PS-Adobe-3.0"), Format::kUnknown);
}

TEST(SourceFormat, BrandsTellBaseMediaApart) {
  EXPECT_EQ(format_of(file_type("avif", "mif1miaf")), Format::kAvif);
  EXPECT_EQ(format_of(file_type("mif1", "avifheic")), Format::kAvif);
  EXPECT_EQ(format_of(file_type("heic", "mif1")), Format::kHeic);
  EXPECT_EQ(format_of(file_type("msf1", "hevc")), Format::kHeic);
  EXPECT_EQ(demuxer_of(file_type("isom", "iso2avc1mp41")), "mov");
  EXPECT_EQ(demuxer_of(file_type("qt  ")), "mov");
  EXPECT_EQ(demuxer_of(file_type("M4A ")), "mov");
  EXPECT_EQ(demuxer_of(big(8) + "wide"), "mov");
  // The minor version is a number, not a brand; a brand outside of the box is none.
  EXPECT_EQ(demuxer_of(big(16) + "ftypisomavif"), "mov");
  EXPECT_EQ(demuxer_of(big(16) + "ftypisom" + big(0) + "avif"), "mov");
}

TEST(SourceFormat, ContainersAndSound) {
  EXPECT_EQ(demuxer_of("\x1A\x45\xDF\xA3"), "matroska");
  EXPECT_EQ(demuxer_of("OggS"), "ogg");
  EXPECT_EQ(demuxer_of("fLaC"), "flac");
  EXPECT_EQ(demuxer_of("RIFF\0\0\0\0WAVE"sv), "wav");
  EXPECT_EQ(demuxer_of("\xFF\xFB\x90\x64"), "mp3");
  EXPECT_EQ(demuxer_of("\xFF\xF1\x50\x80"), "aac");
  EXPECT_EQ(demuxer_of("\xFF\xFB\xF0\x64"), "");
  EXPECT_EQ(demuxer_of("ID3\x4\0\0\0\0\0\0\xFF\xF1\x50\x80"sv), "aac");
  EXPECT_EQ(demuxer_of("ID3\x4\0\0\0\0\0\x2..fLaC"sv), "flac");
  EXPECT_EQ(demuxer_of("ID3\x4\0\0\0\0\0\x2....."sv), "mp3");
  std::string packets(3 * 188, '\0');
  packets[0] = packets[188] = packets[376] = 0x47;
  EXPECT_EQ(demuxer_of(packets), "mpegts");
}

TEST(SourceFormat, AnimationsOfPng) {
  const auto still = png_with(chunk("iCCP", std::string(5000, 'x')) + chunk("IDAT", "..") + chunk("IEND", ""));
  EXPECT_EQ(format_of(still), Format::kPng);
  // An animation is announced before the pixels, or it is none.
  const auto control = chunk("acTL", big(2) + big(3));
  EXPECT_EQ(format_of(png_with(chunk("IDAT", "..") + control)), Format::kPng);
  const auto found =
      recognised(png_with(chunk("iCCP", std::string(5000, 'x')) + control + frame_control(1, 10) + chunk("IDAT", "..") +
                          frame_control(25, 0) + chunk("fdAT", "....") + chunk("IEND", "") + frame_control(1, 1)));
  EXPECT_EQ(found.format, Format::kApng);
  EXPECT_EQ(found.plays, 3);
  EXPECT_EQ(found.duration_ms, 350);
}

TEST(SourceFormat, SizesAreReadWhereTheyAreNear) {
  EXPECT_EQ(recognised(png_with("")).size, (Size{640, 480}));
  EXPECT_EQ(recognised("GIF89a\x10\0\xFF\xFF"sv).size, (Size{16, 65535}));
  EXPECT_EQ(recognised("RIFF\0\0\0\0WEBPVP8X\x0A\0\0\0\0\0\0\0\xFF\x03\0\x01\0\0"sv).size, (Size{1024, 2}));
  EXPECT_EQ(recognised("RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2F\x0F\xC0\x01\0"sv).size, (Size{16, 8}));
  EXPECT_EQ(recognised("RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9D\x01\x2A\x20\0\x10\0"sv).size, (Size{32, 16}));
  const auto header = "BM" + std::string(12, '\0');
  EXPECT_EQ(recognised(header + "\x28\0\0\0\x20\0\0\0\xF0\xFF\xFF\xFF"s).size, (Size{32, 16})) << "from the top down";
}

TEST(SourceFormat, SvgIsXmlWithThatRoot) {
  EXPECT_EQ(format_of("<svg xmlns='http://www.w3.org/2000/svg'/>"), Format::kSvg);
  EXPECT_EQ(format_of("\xEF\xBB\xBF \n<?xml version='1.0'?>\n<!-- > -->\n<svg>"), Format::kSvg);
  EXPECT_EQ(format_of("<!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN' 'x'><svg\n/>"), Format::kSvg);
  EXPECT_EQ(format_of("<!DOCTYPE svg [<!ENTITY a '>'>]><svg>"), Format::kSvg);
  EXPECT_EQ(format_of("<s:svg xmlns:s='http://www.w3.org/2000/svg'/>"), Format::kSvg);
  EXPECT_EQ(format_of("<html><svg/></html>"), Format::kUnknown);
  EXPECT_EQ(format_of("<svgfoo>"), Format::kUnknown);
  EXPECT_EQ(format_of("<svg"), Format::kSvg);
  EXPECT_EQ(format_of("<"), Format::kUnknown);
  EXPECT_EQ(format_of("<?xml"), Format::kUnknown);
  EXPECT_EQ(format_of("<!--" + std::string(5000, ' ') + "--><svg>"), Format::kUnknown) << "only the beginning is read";
}

}  // namespace
}  // namespace sluice::thumbnailer
