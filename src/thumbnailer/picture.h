// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <vector>

#include "thumbnailer/geometry.h"
#include "thumbnailer/source_file.h"
#include "thumbnailer/source_format.h"
#include "thumbnails/job.h"

struct _VipsImage;

namespace sluice::thumbnailer {

/// A value, or why there is none: kUnsupported, kBroken or kTooManyPixels.
template <class T>
using Expected = std::expected<T, thumbnails::Outcome>;
using Unexpected = std::unexpected<thumbnails::Outcome>;

/// A picture in sRGB, eight bits a channel, with or without transparency; or several of one size, an animation. What it
/// came from need not have been decoded yet: then saving it is what decodes, and fails.
class Picture {
 public:
  explicit Picture(_VipsImage* owned) : image_(owned) {}
  /// Straight alpha where there are four channels. Copies.
  static Expected<Picture> from_pixels(std::span<const std::uint8_t> pixels, Size size, int channels);

  _VipsImage* get() const { return image_.get(); }
  /// Of one frame.
  Size size() const;

 private:
  struct Unreference {
    void operator()(_VipsImage* image) const;
  };
  std::unique_ptr<_VipsImage, Unreference> image_;
};

struct Encoded {
  thumbnails::Format format = thumbnails::Format::kUnknown;
  std::vector<std::byte> bytes;
};

/// What a source says of itself before it is decoded.
struct PictureFacts {
  Size shown;                // after its orientation is applied
  bool is_turned = false;    // it has an orientation to apply
  bool has_profile = false;  // its colours are not sRGB
  std::uint32_t frames = 1;
  std::uint64_t duration_ms = 0;
};

/// Once for the process, before anything else of this header: libvips without its cache, one thread for each picture,
/// and no loader but those of the formats we tell apart.
void start_pictures();

Expected<PictureFacts> read_facts(const SourceFile& file, const SourceFormat& format, std::uint64_t max_pixels);
/// The source's first `frames` frames as planned, turned upright, in sRGB. PDF and SVG are drawn at this size.
Expected<Picture> load(const SourceFile& file, const SourceFormat& format, const PictureFacts& facts, const Plan& plan,
                       std::uint32_t frames);

/// Scales and cuts a single picture.
Expected<Picture> fit(const Picture& picture, const Plan& plan);
/// Clockwise, by 0, 90, 180 or 270 degrees.
Expected<Picture> turn(const Picture& picture, int degrees);
/// Pictures of one size, each with the time it is shown, one after the other.
Expected<Picture> animate(std::span<const Picture> frames, std::span<const int> delays_ms, std::uint32_t plays);

/// JPEG where every pixel is opaque, else PNG; WebP for an animation. No metadata.
Expected<Encoded> encode(const Picture& picture);
/// Three bytes a pixel; what is transparent is shown on white.
Expected<std::vector<std::uint8_t>> opaque_pixels(const Picture& picture);

}  // namespace sluice::thumbnailer
