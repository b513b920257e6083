// SPDX-License-Identifier: Apache-2.0
#include "thumbnailer/picture.h"

#include <unistd.h>
#include <vips/vips.h>
// After it, as it uses its types.
#include <vips/vector.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>

namespace sluice::thumbnailer {

namespace {

using thumbnails::Format;
using thumbnails::Outcome;

constexpr int kJpegQuality = 80;
constexpr int kPngCompression = 6;
constexpr int kWebpQuality = 75;
/// Of an SVG or a page, in pixels or points: a page may have 200 inches.
constexpr std::uint32_t kLargestDrawing = 14'400;
constexpr int kWebpEffort = 2;  // of 6: an animation has many frames
/// What a browser shows a frame for that gives no time.
constexpr int kUnknownDelayMs = 100;

/// The loaders that may run. All others, libvips' own and those of ImageMagick, are blocked.
constexpr const char* kLoaders[] = {
    "VipsForeignLoadJpegSource", "VipsForeignLoadPngSource",  "VipsForeignLoadNsgifSource",
    "VipsForeignLoadWebpSource", "VipsForeignLoadHeifSource", "VipsForeignLoadJxlSource",
    "VipsForeignLoadTiffSource", "VipsForeignLoadSvgSource",  "VipsForeignLoadPdfSource",
};

Unexpected broken() {
  vips_error_clear();
  return Unexpected(Outcome::kBroken);
}

struct UnreferenceObject {
  void operator()(void* object) const { g_object_unref(object); }
};
using Source = std::unique_ptr<VipsSource, UnreferenceObject>;

/// Null when the loader of that format does not want it. libvips would go on to ask all others then, even those that
/// are blocked: ImageMagick comes last.
Source open_source(const SourceFile& file, const SourceFormat& format) {
  lseek(file.descriptor(), 0, SEEK_SET);  // it is shared with whoever has read before
  Source source(vips_source_new_from_descriptor(file.descriptor()));
  const std::string loader = std::string(format.loader) + "_source";
  return source != nullptr && vips_foreign_is_a_source(loader.c_str(), source.get()) ? std::move(source) : nullptr;
}

bool is_animation(VipsImage* image) { return vips_image_get_page_height(image) < image->Ysize; }

/// libvips looks at the bytes too, and must come to the same result: else a file could choose its loader by being two
/// things at once.
bool was_loaded_by(VipsImage* image, const SourceFormat& format) {
  const char* loader = nullptr;
  return vips_image_get_typeof(image, VIPS_META_LOADER) != 0 &&
         vips_image_get_string(image, VIPS_META_LOADER, &loader) == 0 &&
         std::string_view(loader).starts_with(format.loader);
}

std::uint64_t duration_ms(VipsImage* image) {
  int* delays = nullptr;
  int count = 0;
  if (vips_image_get_typeof(image, "delay") == 0 || vips_image_get_array_int(image, "delay", &delays, &count) != 0) {
    return 0;
  }
  std::uint64_t sum = 0;
  for (int i = 0; i < count; ++i) sum += static_cast<std::uint64_t>(delays[i] > 0 ? delays[i] : kUnknownDelayMs);
  return sum;
}

Expected<Picture> cut_middle(VipsImage* image, const Plan& plan) {
  VipsImage* out = nullptr;
  if (vips_extract_area(image, &out, (image->Xsize - static_cast<int>(plan.cut.width)) / 2,
                        (image->Ysize - static_cast<int>(plan.cut.height)) / 2, static_cast<int>(plan.cut.width),
                        static_cast<int>(plan.cut.height), nullptr) != 0) {
    return broken();
  }
  return Picture(out);
}

Expected<Picture> cut_each_frame(const Picture& picture, const Plan& plan) {
  const int height = vips_image_get_page_height(picture.get());
  std::vector<Picture> frames;
  std::vector<VipsImage*> pointers;
  for (int top = 0; top + height <= picture.get()->Ysize; top += height) {
    VipsImage* frame = nullptr;
    if (vips_extract_area(picture.get(), &frame, (picture.get()->Xsize - static_cast<int>(plan.cut.width)) / 2,
                          top + (height - static_cast<int>(plan.cut.height)) / 2, static_cast<int>(plan.cut.width),
                          static_cast<int>(plan.cut.height), nullptr) != 0) {
      return broken();
    }
    frames.emplace_back(frame);
    pointers.push_back(frame);
  }
  VipsImage* joined = nullptr;
  if (vips_arrayjoin(pointers.data(), &joined, static_cast<int>(pointers.size()), "across", 1, nullptr) != 0) {
    return broken();
  }
  vips_image_set_int(joined, VIPS_META_PAGE_HEIGHT, static_cast<int>(plan.cut.height));
  return Picture(joined);
}

/// Eight bits of sRGB a channel, whatever it was.
Expected<Picture> in_srgb(Picture picture) {
  VipsImage* out = nullptr;
  if (picture.get()->Type != VIPS_INTERPRETATION_sRGB) {
    if (vips_colourspace(picture.get(), &out, VIPS_INTERPRETATION_sRGB, nullptr) != 0) return broken();
    picture = Picture(out);
  }
  if (picture.get()->BandFmt != VIPS_FORMAT_UCHAR) {
    if (vips_cast_uchar(picture.get(), &out, nullptr) != 0) return broken();
    picture = Picture(out);
  }
  if (picture.get()->Bands > 4) {  // channels that only a printer knows
    if (vips_extract_band(picture.get(), &out, 0, "n", 4, nullptr) != 0) return broken();
    picture = Picture(out);
  }
  return picture;
}

/// Decoded now, so that it can be read more than once.
Expected<Picture> in_memory(const Picture& picture) {
  VipsImage* copy = vips_image_copy_memory(picture.get());
  if (copy == nullptr) return broken();
  return Picture(copy);
}

Expected<bool> is_opaque(VipsImage* image) {
  if (vips_image_hasalpha(image) == 0) return true;
  VipsImage* alpha = nullptr;
  if (vips_extract_band(image, &alpha, image->Bands - 1, nullptr) != 0) return broken();
  const Picture owned(alpha);
  double least = 0;
  if (vips_min(alpha, &least, nullptr) != 0) return broken();
  return least >= 255;
}

Expected<Picture> on_white(const Picture& picture) {
  if (vips_image_hasalpha(picture.get()) == 0) {
    g_object_ref(picture.get());
    return Picture(picture.get());
  }
  VipsImage* flat = nullptr;
  VipsArrayDouble* white = vips_array_double_newv(1, 255.0);
  const int failed = vips_flatten(picture.get(), &flat, "background", white, nullptr);
  vips_area_unref(VIPS_AREA(white));
  if (failed != 0) return broken();
  return Picture(flat);
}

/// libvips describes the size of a WebP in an EXIF chunk of its own, whatever it is told: taken out again.
void remove_exif(std::vector<std::byte>& webp) {
  constexpr std::size_t kFlags = 20;
  constexpr auto kHasExif = std::byte{0x08};
  const auto chunk_bytes = [&](std::size_t at) {
    std::uint32_t length = 0;
    std::memcpy(&length, &webp[at + 4], sizeof length);
    return 8 + std::size_t{length} + length % 2;
  };
  for (std::size_t at = 12; at + 8 <= webp.size();) {
    const auto next = std::min(at + chunk_bytes(at), webp.size());
    if (std::memcmp(&webp[at], "EXIF", 4) != 0) {
      at = next;
      continue;
    }
    webp.erase(webp.begin() + static_cast<std::ptrdiff_t>(at), webp.begin() + static_cast<std::ptrdiff_t>(next));
    webp[kFlags] &= ~kHasExif;
  }
  const auto rest = static_cast<std::uint32_t>(webp.size() - 8);
  std::memcpy(&webp[4], &rest, sizeof rest);
}

}  // namespace

void Picture::Unreference::operator()(VipsImage* image) const { g_object_unref(image); }

Expected<Picture> Picture::from_pixels(std::span<const std::uint8_t> pixels, Size size, int channels) {
  if (pixels.size() < size.pixels() * static_cast<std::uint64_t>(channels)) return broken();
  VipsImage* image = vips_image_new_from_memory_copy(pixels.data(), pixels.size(), static_cast<int>(size.width),
                                                     static_cast<int>(size.height), channels, VIPS_FORMAT_UCHAR);
  if (image == nullptr) return broken();
  image->Type = VIPS_INTERPRETATION_sRGB;
  return Picture(image);
}

Size Picture::size() const {
  return {static_cast<std::uint32_t>(image_->Xsize),
          static_cast<std::uint32_t>(vips_image_get_page_height(image_.get()))};
}

void start_pictures() {
  // What libraries say of a file is written by whoever has made the file.
  g_log_set_writer_func([](GLogLevelFlags, const GLogField*, gsize, void*) { return G_LOG_WRITER_HANDLED; }, nullptr,
                        nullptr);
  if (vips_init("sluice-thumbnailer") != 0) throw std::runtime_error(vips_error_buffer());
  vips_concurrency_set(1);
  vips_cache_set_max(0);
  // What it compiles as it runs would need memory that can be written and then executed.
  vips_vector_set_enabled(FALSE);
  vips_operation_block_set("VipsForeignLoad", TRUE);
  for (const char* loader : kLoaders) vips_operation_block_set(loader, FALSE);
}

Expected<PictureFacts> read_facts(const SourceFile& file, const SourceFormat& format, std::uint64_t max_pixels) {
  if (format.size.pixels() > max_pixels) return Unexpected(Outcome::kTooManyPixels);
  const auto source = open_source(file, format);
  if (source == nullptr) return broken();
  VipsImage* image = vips_image_new_from_source(source.get(), "", "access", VIPS_ACCESS_SEQUENTIAL, nullptr);
  if (image == nullptr) {
    const bool is_locked = std::string_view(vips_error_buffer()).find("encrypted") != std::string_view::npos;
    vips_error_clear();
    return Unexpected(is_locked ? Outcome::kUnsupported : Outcome::kBroken);
  }
  const Picture owned(image);
  if (!was_loaded_by(image, format)) return Unexpected(Outcome::kUnsupported);
  PictureFacts facts;
  facts.shown = owned.size();
  // What is drawn is drawn at the size that is needed, but not from any size.
  const bool is_drawn = format.format == Format::kSvg || format.format == Format::kPdf;
  const bool is_large =
      is_drawn ? std::max(facts.shown.width, facts.shown.height) > kLargestDrawing : facts.shown.pixels() > max_pixels;
  if (is_large) return Unexpected(Outcome::kTooManyPixels);
  const int orientation = vips_image_get_orientation(image);
  facts.is_turned = orientation > 1;
  facts.has_profile = vips_image_get_typeof(image, VIPS_META_ICC_NAME) != 0;
  if (vips_image_get_orientation_swap(image)) facts.shown = facts.shown.turned();
  if (format.format == Format::kGif || format.format == Format::kWebp) {
    facts.frames = static_cast<std::uint32_t>(std::max(vips_image_get_n_pages(image), 1));
    if (facts.frames > 1) facts.duration_ms = duration_ms(image);
  }
  return facts;
}

Expected<Picture> load(const SourceFile& file, const SourceFormat& format, const PictureFacts& facts, const Plan& plan,
                       std::uint32_t frames) {
  const auto source = open_source(file, format);
  if (source == nullptr) return broken();
  const std::string options = frames > 1 ? "[n=" + std::to_string(frames) + "]" : "";
  // With a profile to go to, libvips takes one for granted where the file has none, and changes its colours.
  const char* profile = facts.has_profile ? "srgb" : nullptr;
  VipsImage* image = nullptr;
  if (vips_thumbnail_source(source.get(), &image, static_cast<int>(plan.scaled.width), "height",
                            static_cast<int>(plan.scaled.height), "size", VIPS_SIZE_FORCE, "export_profile", profile,
                            "fail_on", VIPS_FAIL_ON_ERROR, "option_string", options.c_str(), nullptr) != 0) {
    return broken();
  }
  auto picture = in_srgb(Picture(image));
  if (!picture) return picture;
  if (!was_loaded_by(image, format) || picture->size() != plan.scaled) return broken();
  if (is_animation(picture->get()))
    return plan.scaled == plan.cut ? std::move(picture) : cut_each_frame(*picture, plan);
  if (plan.scaled != plan.cut) picture = cut_middle(picture->get(), plan);
  if (!picture) return picture;
  return in_memory(*picture);
}

Expected<Picture> fit(const Picture& picture, const Plan& plan) {
  VipsImage* out = nullptr;
  if (picture.size() == plan.scaled) {
    g_object_ref(picture.get());
    out = picture.get();
  } else if (vips_thumbnail_image(picture.get(), &out, static_cast<int>(plan.scaled.width), "height",
                                  static_cast<int>(plan.scaled.height), "size", VIPS_SIZE_FORCE, nullptr) != 0) {
    return broken();
  }
  auto scaled = in_srgb(Picture(out));
  if (!scaled) return scaled;
  if (plan.scaled != plan.cut) scaled = cut_middle(scaled->get(), plan);
  if (!scaled) return scaled;
  return in_memory(*scaled);
}

Expected<Picture> turn(const Picture& picture, int degrees) {
  constexpr VipsAngle kAngles[] = {VIPS_ANGLE_D0, VIPS_ANGLE_D90, VIPS_ANGLE_D180, VIPS_ANGLE_D270};
  VipsImage* out = nullptr;
  if (vips_rot(picture.get(), &out, kAngles[degrees / 90 % 4], nullptr) != 0) return broken();
  return Picture(out);
}

Expected<Picture> animate(std::span<const Picture> frames, std::span<const int> delays_ms, std::uint32_t plays) {
  std::vector<VipsImage*> pointers;
  for (const auto& frame : frames) pointers.push_back(frame.get());
  VipsImage* joined = nullptr;
  if (vips_arrayjoin(pointers.data(), &joined, static_cast<int>(pointers.size()), "across", 1, nullptr) != 0) {
    return broken();
  }
  vips_image_set_int(joined, VIPS_META_PAGE_HEIGHT, frames[0].get()->Ysize);
  vips_image_set_array_int(joined, "delay", delays_ms.data(), static_cast<int>(delays_ms.size()));
  vips_image_set_int(joined, "loop", static_cast<int>(std::min<std::uint32_t>(plays, 65535)));
  return Picture(joined);
}

Expected<Encoded> encode(const Picture& picture) {
  VipsImage* image = picture.get();
  Encoded encoded;
  void* buffer = nullptr;
  std::size_t length = 0;
  int failed = 0;
  if (is_animation(image)) {
    encoded.format = Format::kWebp;
    failed =
        vips_webpsave_buffer(image, &buffer, &length, "Q", kWebpQuality, "effort", kWebpEffort, "strip", TRUE, nullptr);
  } else {
    const auto opaque = is_opaque(image);
    if (!opaque) return Unexpected(opaque.error());
    if (*opaque) {
      encoded.format = Format::kJpeg;
      const auto flat = on_white(picture);
      if (!flat) return Unexpected(flat.error());
      failed = vips_jpegsave_buffer(flat->get(), &buffer, &length, "Q", kJpegQuality, "optimize_coding", TRUE, "strip",
                                    TRUE, nullptr);
    } else {
      encoded.format = Format::kPng;
      failed = vips_pngsave_buffer(image, &buffer, &length, "compression", kPngCompression, "strip", TRUE, nullptr);
    }
  }
  if (failed != 0) return broken();
  encoded.bytes.resize(length);
  std::memcpy(encoded.bytes.data(), buffer, length);
  g_free(buffer);
  if (encoded.format == Format::kWebp) remove_exif(encoded.bytes);
  return encoded;
}

Expected<std::vector<std::uint8_t>> opaque_pixels(const Picture& picture) {
  const auto flat = on_white(picture);
  if (!flat) return Unexpected(flat.error());
  std::size_t length = 0;
  void* pixels = vips_image_write_to_memory(flat->get(), &length);
  if (pixels == nullptr) return broken();
  std::vector<std::uint8_t> bytes(length);
  std::memcpy(bytes.data(), pixels, length);
  g_free(pixels);
  if (flat->get()->Bands != 3) return broken();
  return bytes;
}

}  // namespace sluice::thumbnailer
