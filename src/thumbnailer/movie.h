// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "thumbnailer/picture.h"

namespace sluice::thumbnailer {

struct MovieFacts {
  bool has_video = false;  // else sound, perhaps with a cover
  Size shown;              // of the video: upright, with square pixels
  std::uint64_t duration_ms = 0;
};

/// Whatever libav reads: video, sound, BMP, and the frames of an APNG. Only the demuxer that its format names and the
/// decoders on our list are ever run, on one thread.
class Movie {
 public:
  /// Reads the container's head and as little of the streams as tells what they are.
  static Expected<Movie> open(const SourceFile& file, const SourceFormat& format, std::uint64_t max_pixels);
  Movie(Movie&&) noexcept;
  ~Movie();

  const MovieFacts& facts() const { return facts_; }

  // One of these, once. Each may return a picture of another size than planned: it is to be fitted.

  /// The first frame that is not black, of those that are quickly decoded; else the first. Requires has_video.
  Expected<Picture> frame(const Plan& plan);
  /// The picture that belongs to the sound; kUnsupported where there is none.
  Expected<Picture> cover();
  /// How loud it is from left to right, drawn at this size.
  Expected<Picture> waveform(Size size);
  /// At most so many frames as planned, shown as long as they tell. Requires has_video.
  Expected<Picture> animation(const Plan& plan, std::uint32_t max_frames, std::uint32_t plays);

 private:
  struct Streams;
  explicit Movie(std::unique_ptr<Streams> streams);

  std::unique_ptr<Streams> streams_;
  MovieFacts facts_;
};

}  // namespace sluice::thumbnailer
