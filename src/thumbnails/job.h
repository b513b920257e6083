// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace sluice::thumbnails {

// What the server and a worker (`sluice-thumbnailer`) say to each other: fixed-size messages over one SOCK_SEQPACKET
// socket, in the machine's own byte order, since both are built together. The worker says Hello once it is locked in;
// then each Job is answered by one Reply. Every byte that a worker sends may come from somebody who took it over: the
// server believes no value before it has checked it (`is_valid`).

inline constexpr std::uint32_t kProtocolVersion = 1;
/// The socket's descriptor in the worker.
inline constexpr int kWorkerSocket = 3;

/// A layer of the sandbox; Hello::layers has the bits of those that hold.
enum class Layer : std::uint32_t {
  kNoNewPrivileges = 1 << 0,  // PR_SET_NO_NEW_PRIVS, no capabilities, another user where the server runs as root
  kLandlock = 1 << 1,         // no file system, no TCP
  kSeccomp = 1 << 2,          // a list of the system calls that are allowed
  kMemory = 1 << 3,           // RLIMIT_AS
};
inline constexpr std::uint32_t kAllLayers = 0b1111;

struct Hello {
  std::uint32_t version = kProtocolVersion;
  std::uint32_t layers = 0;
};

enum class JobKind : std::uint8_t {
  kThumbnail,  // makes a picture
  kDescribe,   // says what the source is (all of Reply's source_* and the blurhash), makes none
};

enum class Method : std::uint8_t {
  kScale,  // fits inside width x height, keeps its aspect
  kCrop,   // fills width x height exactly, what sticks out is cut off evenly
};

/// Sent with two descriptors (SCM_RIGHTS): the source, open for reading, with an offset of its own, a regular file; and
/// the result, open for writing, empty, which the worker fills from its beginning. For kDescribe the result is not
/// touched.
struct Job {
  JobKind kind = JobKind::kThumbnail;
  Method method = Method::kScale;
  std::uint8_t animated = 0;  // 1: keep the animation of a source that has one
  std::uint8_t reserved = 0;
  std::uint32_t width = 0;
  std::uint32_t height = 0;
  std::uint32_t max_frames = 0;         // of an animation; the rest is left out
  std::uint64_t max_source_pixels = 0;  // width x height of the source, from its header, before anything is decoded
};

enum class Outcome : std::uint8_t {
  kMade,           // the result holds the thumbnail
  kOriginal,       // the source is no larger than what was asked and can be served as it is
  kDescribed,      // for kDescribe
  kUnsupported,    // the content is none of the known formats, or shows no picture (an encrypted PDF, text)
  kBroken,         // a known format, but it cannot be decoded
  kTooManyPixels,  // beyond Job::max_source_pixels
};

/// The formats that are told apart by their content.
enum class Format : std::uint8_t {
  kUnknown,
  kJpeg,
  kPng,
  kApng,
  kGif,
  kWebp,
  kAvif,
  kHeic,
  kJxl,
  kTiff,
  kBmp,
  kSvg,
  kPdf,
  kVideo,
  kAudio,
};

struct Reply {
  Outcome outcome = Outcome::kUnsupported;
  Format format = Format::kUnknown;         // of the result: kJpeg, kPng, kWebp; for kOriginal the source's
  Format source_format = Format::kUnknown;  // as it was recognised by its content
  std::uint8_t source_is_animated = 0;
  std::uint32_t width = 0;  // of the result, in pixels
  std::uint32_t height = 0;
  std::uint32_t source_width = 0;  // as it is shown: after its orientation is applied; 0: has none
  std::uint32_t source_height = 0;
  std::uint64_t source_duration_ms = 0;  // of video, audio and animations; 0: has none
  std::uint64_t result_bytes = 0;
  char blurhash[48] = {};  // for kDescribe of what shows a picture; ends with a NUL
};

}  // namespace sluice::thumbnails
