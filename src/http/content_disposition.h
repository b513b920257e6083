// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace sluice::http {

/// The value of a Content-Disposition field (RFC 6266): `inline` or `attachment`, with the file name when there is
/// one. A name that is not plain ASCII, or that recipients are known to read differently when quoted, is given twice:
/// as `filename*` in UTF-8 (RFC 8187), and as a `filename` that every old recipient understands.
///
/// The result never holds CR, LF or any other control character, whatever the name holds.
std::string content_disposition(bool is_inline, std::string_view filename);

/// The file name in a Content-Disposition value, `filename*` before `filename`; empty if there is none that can be
/// read. What comes back is the sender's word: it may hold slashes.
std::string filename_of(std::string_view content_disposition);

}  // namespace sluice::http
