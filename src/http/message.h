// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/file_system.h"

namespace sluice::http {

/// The head of a request, checked: what RFC 9112 calls the request line and the field lines. Plain data in one block
/// of memory, because thousands of stalled downloads each keep theirs.
class RequestHead {
 public:
  std::string_view method() const { return slice(method_); }
  /// The origin-form as sent: path and query, undecoded. For absolute-form, what follows the authority; "*" for OPTIONS
  /// *.
  std::string_view target() const { return slice(target_); }
  /// The value of a field that occurs once, or the first value of one that occurs more often. Names ignore case.
  std::optional<std::string_view> field(std::string_view name) const;
  /// The values of all fields of that name in order, joined with commas: what a list means that came in several fields
  /// (RFC 9110, section 5.3).
  std::optional<std::string> combined_field(std::string_view name) const;
  /// The host the client asked for, without its port: from an absolute-form target, else from Host. Empty if none.
  std::string_view host() const { return slice(host_); }

  bool is_http_1_0() const { return http_1_0_; }
  bool wants_keep_alive() const { return keep_alive_; }
  bool expects_continue() const { return expects_continue_; }
  bool is_chunked() const { return chunked_; }
  std::optional<std::uint64_t> content_length() const { return content_length_; }
  bool has_body() const { return chunked_ || content_length_.value_or(0) > 0; }
  bool is_head() const { return method() == "HEAD"; }

 private:
  friend class RequestParser;

  struct Slice {  // of a head of at most some 40 KiB: a line and a field of kMaxHeadBytes each, and the host once more
    std::uint16_t offset = 0;
    std::uint16_t size = 0;
  };
  struct Field {
    Slice name;
    Slice value;
  };
  std::string_view slice(Slice part) const { return std::string_view(text_).substr(part.offset, part.size); }
  Slice append(std::string_view text);

  std::string text_;
  std::vector<Field> fields_;
  Slice method_;
  Slice target_;
  Slice host_;
  std::optional<std::uint64_t> content_length_;
  bool http_1_0_ = false;
  bool keep_alive_ = false;
  bool expects_continue_ = false;
  bool chunked_ = false;
};

/// A file that is still being written, as a response body sees it. Used on the connection's loop.
class GrowingFile {
 public:
  enum class Ending { kNone, kWhole, kBroken };
  struct Growth {
    std::uint64_t readable = 0;
    Ending ending = Ending::kNone;
  };
  virtual ~GrowingFile() = default;
  virtual int descriptor() const = 0;
  virtual Growth growth() const = 0;
  /// Raises Wake::kProgress on the exchange's signal once more than `offset` bytes are readable or it has ended.
  virtual void wake_beyond(std::uint64_t offset) = 0;
};

/// Bytes of a file at rest; the kernel sends them.
struct FileBody {
  std::shared_ptr<const FileDescriptor> file;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

/// Bytes of a growing file, sent as they come. With a length, the body ends after it; without, at the file's end and
/// chunked. If the file breaks off, so does the body: the connection closes before the promised length or last chunk.
struct FollowBody {
  std::unique_ptr<GrowingFile> file;
  std::uint64_t offset = 0;
  std::optional<std::uint64_t> length;
};

/// The field lines of a response in the order of adding, as they go on the wire: one block of memory for all of them.
class Fields {
 public:
  /// `name` must be a valid field name. A value that holds a control character makes all of them unfit to be sent.
  void add(std::string_view name, std::string_view value);
  void add(const Fields& others);
  void reserve(std::size_t bytes) { text_.reserve(bytes); }

  /// `Name: value`, each with its line's end.
  std::string_view text() const { return text_; }
  bool is_fit() const { return is_fit_; }

  class Iterator {
   public:
    using difference_type = std::ptrdiff_t;
    using value_type = std::pair<std::string_view, std::string_view>;
    Iterator() = default;
    explicit Iterator(std::string_view rest) : rest_(rest) {}
    value_type operator*() const;
    Iterator& operator++();
    Iterator operator++(int) { return std::exchange(*this, ++Iterator(*this)); }
    bool operator==(const Iterator& other) const { return rest_.size() == other.rest_.size(); }

   private:
    std::string_view rest_;
  };
  Iterator begin() const { return Iterator(text_); }
  Iterator end() const { return Iterator(); }
  bool operator==(const Fields&) const = default;

 private:
  std::string text_;
  bool is_fit_ = true;
};

/// A response, whatever it is made of; the connection does not know more about it than this.
struct Response {
  int status = 200;
  bool close = false;  // end the connection afterwards
  Fields fields;       // the connection sends a 500 instead of those that are not fit
  std::variant<std::string, FileBody, FollowBody> body;

  Response& with(std::string_view name, std::string_view value) & {
    fields.add(name, value);
    return *this;
  }
};

/// The reason phrase of RFC 9110 and its kin; "Unknown" for a status that has none.
std::string_view reason_phrase(int status);

}  // namespace sluice::http
