// SPDX-License-Identifier: Apache-2.0
#include "thumbnailer/movie.h"

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/display.h>
#include <libavutil/imgutils.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
}

#include <algorithm>
#include <array>
#include <cmath>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

#include "thumbnailer/waveform.h"

namespace sluice::thumbnailer {

namespace {

using thumbnails::Format;
using thumbnails::Outcome;

constexpr const char* kDecoders =
    "h264,hevc,vp8,vp9,libdav1d,mpeg1video,mpeg2video,mpeg4,h263,theora,mjpeg,png,apng,bmp,"
    "aac,mp3float,mp3,mp2float,flac,vorbis,opus,alac,pcm_u8,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s32le,pcm_f32le";

constexpr int kBufferBytes = 32 << 10;
constexpr std::int64_t kProbeBytes = 5 << 20;
constexpr std::int64_t kAnalysedUs = 2 * AV_TIME_BASE;
constexpr int kMaxStreams = 32;
/// How long a picture that is not black is looked for, and how long sound is listened to.
constexpr int kMaxFramesSeen = 150;
constexpr int kMaxPackets = 100'000;
constexpr double kPatienceSeconds = 1.5;  // of processor time, which does not depend on what else runs
/// In all: a file without a single frame is not read to its end.
constexpr std::uint64_t kMaxReadBytes = 128 << 20;
/// Of a frame, looked at in 32 x 32 points: it is black when fewer than these are brighter than nearly black.
constexpr int kProbeSide = 32;
constexpr int kBrightPoints = 10;
constexpr int kNearlyBlack = 32;
constexpr int kLongestDelayMs = 60'000;

struct FreeInput {
  void operator()(AVFormatContext* input) const { avformat_close_input(&input); }
};
struct FreeIo {
  void operator()(AVIOContext* io) const {
    av_freep(&io->buffer);
    avio_context_free(&io);
  }
};
struct FreeDecoder {
  void operator()(AVCodecContext* decoder) const { avcodec_free_context(&decoder); }
};
struct FreeFrame {
  void operator()(AVFrame* frame) const { av_frame_free(&frame); }
};
struct FreePacket {
  void operator()(AVPacket* packet) const { av_packet_free(&packet); }
};
struct FreeScaler {
  void operator()(SwsContext* scaler) const { sws_freeContext(scaler); }
};
using Frame = std::unique_ptr<AVFrame, FreeFrame>;
using Decoder = std::unique_ptr<AVCodecContext, FreeDecoder>;

/// Where libav reads: the job's file through its descriptor.
struct Reader {
  SourceFile file;
  std::uint64_t offset = 0;
  std::uint64_t read_bytes = 0;
};

int read_bytes(void* opaque, std::uint8_t* into, int count) {
  auto& reader = *static_cast<Reader*>(opaque);
  if (reader.read_bytes >= kMaxReadBytes) return AVERROR_EOF;
  const auto got =
      reader.file.read_at(reader.offset, {reinterpret_cast<std::byte*>(into), static_cast<std::size_t>(count)});
  reader.offset += got;
  reader.read_bytes += got;
  return got == 0 ? AVERROR_EOF : static_cast<int>(got);
}

std::int64_t seek(void* opaque, std::int64_t offset, int whence) {
  auto& reader = *static_cast<Reader*>(opaque);
  const auto size = static_cast<std::int64_t>(reader.file.size());
  switch (whence & ~AVSEEK_FORCE) {
    case AVSEEK_SIZE:
      return size;
    case SEEK_SET:
      break;
    case SEEK_CUR:
      offset += static_cast<std::int64_t>(reader.offset);
      break;
    case SEEK_END:
      offset += size;
      break;
    default:
      return AVERROR(EINVAL);
  }
  if (offset < 0) return AVERROR(EINVAL);
  reader.offset = static_cast<std::uint64_t>(offset);
  return offset;
}

/// A playlist or a reference to another file leads nowhere.
int open_nothing(AVFormatContext*, AVIOContext**, const char*, int, AVDictionary**) { return AVERROR(EPERM); }

const std::int32_t* display_matrix(const AVStream* stream) {
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(60, 31, 102)
  const auto* data = av_packet_side_data_get(stream->codecpar->coded_side_data, stream->codecpar->nb_coded_side_data,
                                             AV_PKT_DATA_DISPLAYMATRIX);
  return data != nullptr && data->size >= 9 * sizeof(std::int32_t) ? reinterpret_cast<const std::int32_t*>(data->data)
                                                                   : nullptr;
#else
  std::size_t size = 0;
  const auto* data = av_stream_get_side_data(stream, AV_PKT_DATA_DISPLAYMATRIX, &size);
  return data != nullptr && size >= 9 * sizeof(std::int32_t) ? reinterpret_cast<const std::int32_t*>(data) : nullptr;
#endif
}

/// Clockwise, in degrees: 0, 90, 180 or 270.
int rotation_of(const AVStream* stream) {
  const auto* matrix = display_matrix(stream);
  const double angle = matrix != nullptr ? av_display_rotation_get(matrix) : 0.0;  // counterclockwise, or not a number
  if (!std::isfinite(angle)) return 0;
  return (static_cast<int>(std::lround(-angle / 90.0)) % 4 + 4) % 4 * 90;
}

Size with_square_pixels(Size size, AVRational aspect) {
  if (aspect.num <= 0 || aspect.den <= 0) return size;
  // Stretched to the larger side, as players do; a sample aspect beyond this is a mistake.
  const double ratio = std::clamp(av_q2d(aspect), 0.1, 10.0);
  const auto stretched = [](std::uint32_t length, double by) {
    return static_cast<std::uint32_t>(std::max(1.0, std::round(length * by)));
  };
  return ratio >= 1 ? Size{stretched(size.width, ratio), size.height}
                    : Size{size.width, stretched(size.height, 1 / ratio)};
}

bool has_alpha(AVPixelFormat format) {
  const auto* about = av_pix_fmt_desc_get(format);
  return about != nullptr && (about->flags & (AV_PIX_FMT_FLAG_ALPHA | AV_PIX_FMT_FLAG_PAL)) != 0;
}

/// The frame at this size, in this pixel format; empty when libswscale cannot do it.
std::vector<std::uint8_t> converted(const AVFrame* frame, Size size, AVPixelFormat format, int channels, int flags) {
  const auto source = static_cast<AVPixelFormat>(frame->format);
  const std::unique_ptr<SwsContext, FreeScaler> scaler(
      sws_getContext(frame->width, frame->height, source, static_cast<int>(size.width), static_cast<int>(size.height),
                     format, flags, nullptr, nullptr, nullptr));
  if (scaler == nullptr) return {};
  const auto* about = av_pix_fmt_desc_get(source);
  if (about != nullptr && (about->flags & AV_PIX_FMT_FLAG_RGB) == 0) {
    const int space = frame->colorspace == AVCOL_SPC_UNSPECIFIED
                          ? (frame->height >= 720 ? SWS_CS_ITU709 : SWS_CS_ITU601)
                          : static_cast<int>(frame->colorspace);
    const bool is_full = frame->color_range == AVCOL_RANGE_JPEG || std::string_view(about->name).starts_with("yuvj");
    sws_setColorspaceDetails(scaler.get(), sws_getCoefficients(space), is_full ? 1 : 0,
                             sws_getCoefficients(SWS_CS_DEFAULT), 1, 0, 1 << 16, 1 << 16);
  }
  // libswscale may write past the end of a row, up to the next multiple of 16 pixels.
  const auto stride = (static_cast<std::size_t>(size.width) * static_cast<std::size_t>(channels) + 63) / 64 * 64;
  std::vector<std::uint8_t> padded(stride * size.height + 64);
  std::array<std::uint8_t*, 4> planes{padded.data()};
  const std::array<int, 4> strides{static_cast<int>(stride)};
  if (sws_scale(scaler.get(), frame->data, frame->linesize, 0, frame->height, planes.data(), strides.data()) <= 0) {
    return {};
  }
  const auto row = static_cast<std::size_t>(size.width) * static_cast<std::size_t>(channels);
  std::vector<std::uint8_t> pixels(row * size.height);
  for (std::size_t y = 0; y < size.height; ++y) {
    std::copy_n(padded.begin() + static_cast<std::ptrdiff_t>(y * stride), row,
                pixels.begin() + static_cast<std::ptrdiff_t>(y * row));
  }
  return pixels;
}

bool is_black(const AVFrame* frame) {
  const auto points = converted(frame, {kProbeSide, kProbeSide}, AV_PIX_FMT_GRAY8, 1, SWS_POINT);
  return std::ranges::count_if(points, [](std::uint8_t point) { return point > kNearlyBlack; }) < kBrightPoints;
}

/// An opaque frame is scaled while it is converted; with transparency it has to be scaled afterwards, where colours
/// count as much as they are seen.
Expected<Picture> picture_of(const AVFrame* frame, Size scaled) {
  if (frame->width <= 0 || frame->height <= 0) return Unexpected(Outcome::kBroken);
  const bool transparent = has_alpha(static_cast<AVPixelFormat>(frame->format));
  const Size own{static_cast<std::uint32_t>(frame->width), static_cast<std::uint32_t>(frame->height)};
  const Size size = transparent || scaled == Size{} ? own : scaled;
  const int channels = transparent ? 4 : 3;
  const auto pixels = converted(frame, size, transparent ? AV_PIX_FMT_RGBA : AV_PIX_FMT_RGB24, channels,
                                SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT);
  if (pixels.empty()) return Unexpected(Outcome::kBroken);
  return Picture::from_pixels(pixels, size, channels);
}

template <class T>
void append_first_channel(const AVFrame* frame, int step, float zero, float scale, std::vector<float>& samples) {
  const auto* data = reinterpret_cast<const T*>(frame->data[0]);
  for (int i = 0; i < frame->nb_samples; ++i) samples.push_back((static_cast<float>(data[i * step]) - zero) * scale);
}

/// Of the first channel, from -1 to 1.
std::vector<float> samples_of(const AVFrame* frame) {
  const auto format = static_cast<AVSampleFormat>(frame->format);
  const int step = av_sample_fmt_is_planar(format) ? 1 : frame->ch_layout.nb_channels;
  std::vector<float> samples;
  switch (av_get_packed_sample_fmt(format)) {
    case AV_SAMPLE_FMT_U8:
      append_first_channel<std::uint8_t>(frame, step, 128, 1.0F / 128, samples);
      break;
    case AV_SAMPLE_FMT_S16:
      append_first_channel<std::int16_t>(frame, step, 0, 1.0F / 32768, samples);
      break;
    case AV_SAMPLE_FMT_S32:
      append_first_channel<std::int32_t>(frame, step, 0, 1.0F / 2147483648.0F, samples);
      break;
    case AV_SAMPLE_FMT_FLT:
      append_first_channel<float>(frame, step, 0, 1, samples);
      break;
    default:  // none of our decoders
      break;
  }
  return samples;
}

int best_stream(AVFormatContext* input, AVMediaType type) {
  const int best = av_find_best_stream(input, type, -1, -1, nullptr, 0);
  return best >= 0 && (input->streams[best]->disposition & AV_DISPOSITION_ATTACHED_PIC) == 0 ? best : -1;
}

}  // namespace

struct Movie::Streams {
  Reader reader;
  std::unique_ptr<AVIOContext, FreeIo> io;
  std::unique_ptr<AVFormatContext, FreeInput> input;
  std::unique_ptr<AVPacket, FreePacket> packet{av_packet_alloc()};
  int video = -1;
  int audio = -1;
  int rotation = 0;
  std::uint64_t max_pixels = 0;

  Decoder decoder_for(const AVStream* stream) const {
    const auto* codec = avcodec_find_decoder(stream->codecpar->codec_id);
    Decoder decoder(codec != nullptr ? avcodec_alloc_context3(codec) : nullptr);
    if (decoder == nullptr || avcodec_parameters_to_context(decoder.get(), stream->codecpar) < 0) return nullptr;
    decoder->thread_count = 1;
    decoder->max_pixels = static_cast<std::int64_t>(std::min<std::uint64_t>(max_pixels, INT64_MAX));
    av_opt_set(decoder.get(), "codec_whitelist", kDecoders, 0);
    return avcodec_open2(decoder.get(), codec, nullptr) < 0 ? nullptr : std::move(decoder);
  }

  /// Hands every decoded frame of a stream to `take` until that returns false, there are no more or it has taken too
  /// long; and every packet before it is decoded to `see`.
  template <class Take, class See>
  void decode(int index, AVCodecContext* decoder, Take take, See see) {
    const Frame frame(av_frame_alloc());
    const auto begun = std::clock();
    bool at_end = false;
    for (int packets = 0; packets < kMaxPackets && !at_end; ++packets) {
      at_end = av_read_frame(input.get(), packet.get()) < 0;
      if (!at_end && packet->stream_index != index) {
        av_packet_unref(packet.get());
        continue;
      }
      if (!at_end) see(*packet);
      avcodec_send_packet(decoder, at_end ? nullptr : packet.get());  // what is broken in it yields no frame
      av_packet_unref(packet.get());
      while (avcodec_receive_frame(decoder, frame.get()) >= 0) {
        if (!take(frame.get())) return;
      }
      if (static_cast<double>(std::clock() - begun) > kPatienceSeconds * CLOCKS_PER_SEC) return;
    }
  }
};

Movie::Movie(std::unique_ptr<Streams> streams) : streams_(std::move(streams)) {}
Movie::Movie(Movie&&) noexcept = default;
Movie::~Movie() = default;

Expected<Movie> Movie::open(const SourceFile& file, const SourceFormat& format, std::uint64_t max_pixels) {
  av_log_set_level(AV_LOG_QUIET);
  if (format.size.pixels() > max_pixels) return Unexpected(Outcome::kTooManyPixels);
  auto streams = std::make_unique<Streams>(Reader{file});
  streams->max_pixels = max_pixels;
  auto* buffer = static_cast<unsigned char*>(av_malloc(kBufferBytes));
  streams->io.reset(avio_alloc_context(buffer, kBufferBytes, 0, &streams->reader, read_bytes, nullptr, seek));
  auto* input = avformat_alloc_context();
  input->pb = streams->io.get();
  input->flags |= AVFMT_FLAG_CUSTOM_IO;
  input->io_open = open_nothing;
  input->probesize = kProbeBytes;
  input->max_analyze_duration = kAnalysedUs;
  input->max_streams = kMaxStreams;
  av_opt_set(input, "codec_whitelist", kDecoders, 0);
  av_opt_set(input, "format_whitelist", format.demuxer, 0);
  AVDictionary* options = nullptr;
  if (format.format == Format::kApng) av_dict_set(&options, "max_fps", "0", 0);  // else it leaves frames out
  // Frees `input` when it fails.
  const int opened = avformat_open_input(&input, "", av_find_input_format(format.demuxer), &options);
  av_dict_free(&options);
  if (opened < 0) return Unexpected(Outcome::kBroken);
  streams->input.reset(input);
  for (unsigned i = 0; i < input->nb_streams; ++i) {
    const auto* parameters = input->streams[i]->codecpar;
    if (parameters->width < 0 || parameters->height < 0) return Unexpected(Outcome::kBroken);
    if (static_cast<std::uint64_t>(parameters->width) * static_cast<std::uint64_t>(parameters->height) > max_pixels) {
      return Unexpected(Outcome::kTooManyPixels);
    }
  }
  if (avformat_find_stream_info(input, nullptr) < 0) return Unexpected(Outcome::kBroken);
  streams->video = best_stream(input, AVMEDIA_TYPE_VIDEO);
  streams->audio = best_stream(input, AVMEDIA_TYPE_AUDIO);
  if (streams->video < 0 && streams->audio < 0) return Unexpected(Outcome::kUnsupported);

  MovieFacts facts;
  if (input->duration > 0) facts.duration_ms = static_cast<std::uint64_t>(input->duration) / (AV_TIME_BASE / 1000);
  if (streams->video >= 0) {
    auto* stream = input->streams[streams->video];
    const auto* parameters = stream->codecpar;
    const Size size{static_cast<std::uint32_t>(std::max(parameters->width, 0)),
                    static_cast<std::uint32_t>(std::max(parameters->height, 0))};
    if (size.pixels() == 0) return Unexpected(Outcome::kBroken);
    if (size.pixels() > max_pixels) return Unexpected(Outcome::kTooManyPixels);
    streams->rotation = rotation_of(stream);
    facts.has_video = true;
    facts.shown = with_square_pixels(size, av_guess_sample_aspect_ratio(input, stream, nullptr));
    if (streams->rotation % 180 != 0) facts.shown = facts.shown.turned();
  }
  Movie movie(std::move(streams));
  movie.facts_ = facts;
  return movie;
}

Expected<Picture> Movie::frame(const Plan& plan) {
  const auto decoder = streams_->decoder_for(streams_->input->streams[streams_->video]);
  if (decoder == nullptr) return Unexpected(Outcome::kUnsupported);
  const Frame chosen(av_frame_alloc());
  int seen = 0;
  streams_->decode(
      streams_->video, decoder.get(),
      [&](const AVFrame* frame) {
        const bool suits = !is_black(frame);
        if (suits || seen == 0) {
          av_frame_unref(chosen.get());
          av_frame_ref(chosen.get(), frame);
        }
        return !suits && ++seen < kMaxFramesSeen;
      },
      [](const AVPacket&) {});
  if (chosen->width == 0) return Unexpected(Outcome::kBroken);
  const Size scaled = streams_->rotation % 180 != 0 ? plan.scaled.turned() : plan.scaled;
  auto picture = picture_of(chosen.get(), scaled);
  if (!picture || streams_->rotation == 0) return picture;
  return turn(*picture, streams_->rotation);
}

Expected<Picture> Movie::cover() {
  auto* input = streams_->input.get();
  for (unsigned i = 0; i < input->nb_streams; ++i) {
    const auto* stream = input->streams[i];
    if ((stream->disposition & AV_DISPOSITION_ATTACHED_PIC) == 0 || stream->attached_pic.size == 0) continue;
    const auto decoder = streams_->decoder_for(stream);
    const Frame frame(av_frame_alloc());
    if (decoder == nullptr || avcodec_send_packet(decoder.get(), &stream->attached_pic) < 0) continue;
    avcodec_send_packet(decoder.get(), nullptr);
    if (avcodec_receive_frame(decoder.get(), frame.get()) >= 0) return picture_of(frame.get(), {});
  }
  return Unexpected(Outcome::kUnsupported);
}

Expected<Picture> Movie::waveform(Size size) {
  const auto decoder = streams_->decoder_for(streams_->input->streams[streams_->audio]);
  if (decoder == nullptr) return Unexpected(Outcome::kUnsupported);
  Loudness loudness;
  streams_->decode(
      streams_->audio, decoder.get(),
      [&](const AVFrame* frame) {
        loudness.add(samples_of(frame));
        return true;
      },
      [](const AVPacket&) {});
  if (loudness.empty()) return Unexpected(Outcome::kBroken);
  return Picture::from_pixels(loudness.draw(size), size, 4);
}

Expected<Picture> Movie::animation(const Plan& plan, std::uint32_t max_frames, std::uint32_t plays) {
  const auto* stream = streams_->input->streams[streams_->video];
  const auto decoder = streams_->decoder_for(stream);
  if (decoder == nullptr) return Unexpected(Outcome::kUnsupported);
  std::vector<Picture> frames;
  std::vector<int> delays_ms;
  bool broken = false;
  streams_->decode(
      streams_->video, decoder.get(),
      [&](const AVFrame* frame) {
        auto picture = picture_of(frame, {});
        if (picture) picture = fit(*picture, plan);
        broken = !picture;
        if (!broken) frames.push_back(std::move(*picture));
        return !broken && frames.size() < max_frames;
      },
      [&](const AVPacket& packet) {
        const auto delay = av_rescale_q(packet.duration, stream->time_base, AVRational{1, 1000});
        delays_ms.push_back(static_cast<int>(std::clamp<std::int64_t>(delay, 0, kLongestDelayMs)));
      });
  if (broken || frames.empty()) return Unexpected(Outcome::kBroken);
  delays_ms.resize(frames.size());
  return animate(frames, delays_ms, plays);
}

}  // namespace sluice::thumbnailer
