// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/file_system.h"
#include "http/message.h"
#include "http/range.h"

namespace sluice::api {

/// The request's conditions, laid on the representation that `etag` names.
struct Conditions {
  bool not_modified = false;
  std::optional<http::ByteRange> range;

  Conditions(const http::RequestHead& head, std::string_view etag);
};

/// Whether the range can be laid on the whole, and where. A suffix of nothing has no range to name: the whole is sent.
struct Placement {
  std::optional<http::Span> span;
  bool is_unsatisfiable = false;
};
Placement place(const std::optional<http::ByteRange>& range, std::uint64_t size);

http::Response range_not_satisfiable(std::uint64_t size);

/// A file at rest, and what is said of it; it never changes under its etag.
struct ServedFile {
  std::shared_ptr<const FileDescriptor> file;
  std::uint64_t size = 0;
  std::string_view content_type;
  std::string_view filename;
  std::string etag;
  bool is_private = false;  // only for the one who asked, not for shared caches
};

/// The answer to a GET or HEAD of it: 200, 206, 304 or 416.
http::Response serve_file(const http::RequestHead& head, const ServedFile& served);

}  // namespace sluice::api
