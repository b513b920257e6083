// SPDX-License-Identifier: Apache-2.0
#include "thumbnailer/worker.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>
#include <stdexcept>

#include "base/file_system.h"
#include "thumbnailer/blurhash.h"
#include "thumbnailer/movie.h"
#include "thumbnailer/picture.h"
#include "thumbnailer/samples.h"
#include "thumbnailer/source_file.h"
#include "thumbnailer/source_format.h"

namespace sluice::thumbnailer {

namespace {

using thumbnails::Format;
using thumbnails::Job;
using thumbnails::JobKind;
using thumbnails::Method;
using thumbnails::Outcome;
using thumbnails::Reply;

/// A blurhash of 4x3 components needs no more.
constexpr Size kDescribedSize{64, 64};
/// All frames of an animation together, as a multiple of what one picture may have. What goes beyond it is left out.
constexpr std::uint64_t kAnimationPictures = 8;

bool write_all(int descriptor, std::span<const std::byte> bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const auto count = pwrite(descriptor, bytes.data() + done, bytes.size() - done, static_cast<off_t>(done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    done += static_cast<std::size_t>(count);
  }
  return true;
}

bool can_be_served_as_it_is(Format format) {
  return format == Format::kJpeg || format == Format::kPng || format == Format::kApng || format == Format::kGif ||
         format == Format::kWebp;
}

class Answer {
 public:
  Answer(const Job& job, int source, int result)
      : job_(job), file_(source), result_(result), format_(recognise(file_)) {
    reply_.source_format = format_.format;
  }

  Reply give() {
    if (const auto outcome = format_.loader != nullptr    ? from_picture()
                             : format_.demuxer != nullptr ? from_movie()
                                                          : Expected<Outcome>(Outcome::kUnsupported)) {
      reply_.outcome = *outcome;
    } else {
      reply_.outcome = outcome.error();
    }
    return reply_;
  }

 private:
  bool only_describes() const { return job_.kind == JobKind::kDescribe; }

  Plan plan_for(Size shown) const {
    if (only_describes()) return plan_thumbnail(Method::kScale, shown, kDescribedSize);
    return plan_thumbnail(job_.method, shown, {std::max(job_.width, 1U), std::max(job_.height, 1U)});
  }

  void describe(Size shown, std::uint64_t duration_ms, bool is_animated) {
    reply_.source_width = shown.width;
    reply_.source_height = shown.height;
    reply_.source_duration_ms = duration_ms;
    reply_.source_is_animated = is_animated ? 1 : 0;
  }

  Expected<Outcome> from_picture() {
    const auto facts = read_facts(file_, format_, job_.max_source_pixels);
    if (!facts) return Unexpected(facts.error());
    const Size shown = facts->shown;
    const bool is_apng = format_.format == Format::kApng;
    const bool is_animated = is_apng || facts->frames > 1;
    describe(shown, is_apng ? format_.duration_ms : facts->duration_ms, is_animated);

    const Plan plan = plan_for(shown);
    const bool keeps_animation = is_animated && job_.animated != 0 && !only_describes();
    if (!only_describes() && can_be_served_as_it_is(format_.format) && plan.cut == shown && !facts->is_turned &&
        keeps_animation == is_animated) {
      reply_.format = format_.format;
      reply_.width = shown.width;
      reply_.height = shown.height;
      return Outcome::kOriginal;
    }
    if (!keeps_animation) return finish(load(file_, format_, *facts, plan, 1));
    const std::uint32_t affordable = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(kAnimationPictures * job_.max_source_pixels / shown.pixels(), job_.max_frames));
    const std::uint32_t max_frames = std::max(affordable, 1U);
    if (is_apng) {
      auto movie = Movie::open(file_, format_, job_.max_source_pixels);
      if (!movie) return Unexpected(movie.error());
      return finish(movie->animation(plan, max_frames, format_.plays));
    }
    return finish(load(file_, format_, *facts, plan, std::min(facts->frames, max_frames)));
  }

  Expected<Outcome> from_movie() {
    auto movie = Movie::open(file_, format_, job_.max_source_pixels);
    if (!movie) return Unexpected(movie.error());
    const auto& facts = movie->facts();
    if (format_.format == Format::kVideo && !facts.has_video) reply_.source_format = Format::kAudio;
    describe(facts.shown, facts.duration_ms, false);
    if (facts.has_video) {
      const Plan plan = plan_for(facts.shown);
      return fitted(movie->frame(plan), plan);
    }
    if (format_.format != Format::kVideo) return Unexpected(Outcome::kBroken);
    if (auto cover = movie->cover()) {
      const Plan plan = plan_for(cover->size());
      return fitted(std::move(cover), plan);
    }
    if (only_describes()) return Outcome::kDescribed;
    return finish(movie->waveform({std::max(job_.width, 1U), std::max(job_.height, 1U)}));
  }

  Expected<Outcome> fitted(Expected<Picture> picture, const Plan& plan) {
    if (picture) picture = fit(*picture, plan);
    return finish(std::move(picture));
  }

  Expected<Outcome> finish(Expected<Picture> picture) {
    if (!picture) return Unexpected(picture.error());
    if (only_describes()) {
      const auto pixels = opaque_pixels(*picture);
      if (!pixels) return Unexpected(pixels.error());
      const std::string hash = blurhash(*pixels, picture->size());
      std::memcpy(reply_.blurhash, hash.data(), std::min(hash.size(), sizeof reply_.blurhash - 1));
      return Outcome::kDescribed;
    }
    const auto encoded = encode(*picture);
    if (!encoded) return Unexpected(encoded.error());
    if (!write_all(result_, encoded->bytes)) return Unexpected(Outcome::kBroken);
    reply_.format = encoded->format;
    reply_.width = picture->size().width;
    reply_.height = picture->size().height;
    reply_.result_bytes = encoded->bytes.size();
    return Outcome::kMade;
  }

  const Job& job_;
  SourceFile file_;
  int result_;
  SourceFormat format_;
  Reply reply_;
};

}  // namespace

void start_worker(bool warm_up) {
  start_pictures();
  if (!warm_up) return;
  for (const auto sample : samples()) {
    const FileDescriptor file(memfd_create("sample", MFD_CLOEXEC));
    if (!file || !write_all(file.get(), std::as_bytes(std::span(sample)))) throw std::runtime_error("no memory file");
    const Job job{.width = 8, .height = 8, .max_frames = 1, .max_source_pixels = 1 << 20};
    const FileDescriptor result(memfd_create("result", MFD_CLOEXEC));
    answer(job, file.get(), result.get());
  }
}

Reply answer(const Job& job, int source, int result) { return Answer(job, source, result).give(); }

}  // namespace sluice::thumbnailer
