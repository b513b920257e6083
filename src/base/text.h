// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

char to_lower(char c);  // ASCII only, whatever the locale
std::string to_lower(std::string_view text);
/// 0 to 15 for a hexadecimal digit of either case, else -1.
int hex_value(char c);
bool equals_ignoring_case(std::string_view a, std::string_view b);
std::string_view trim(std::string_view text);  // strips spaces and tabs

/// Splits at every `separator`; an empty text gives one empty part.
std::vector<std::string_view> split(std::string_view text, char separator);

/// Well-formed UTF-8 (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF.
bool is_utf8(std::string_view text);

/// True if any byte is a control character (0x00-0x1F, 0x7F).
bool has_control_characters(std::string_view text);

/// Decodes %XX. Nothing when a % is not followed by two hexadecimal digits. `plus_is_space` for query values.
std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space = false);

/// Encodes every byte but RFC 3986's unreserved characters.
std::string percent_encode(std::string_view text);

/// `type/subtype` of a media type, in small letters and without parameters; empty for what is none (RFC 9110, section
/// 8.3.1), and for what is several to a browser, which splits a Content-Type at its commas.
std::string media_type_essence(std::string_view media_type);

/// The candidate at the smallest edit distance, if that is small enough to be a misspelling.
std::optional<std::string_view> nearest(std::string_view word, const std::vector<std::string_view>& candidates);

}  // namespace sluice
