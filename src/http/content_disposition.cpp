// SPDX-License-Identifier: Apache-2.0
#include "http/content_disposition.h"

#include <algorithm>

#include "base/text.h"

namespace sluice::http {
namespace {

// RFC 6266, appendix D: quoted pairs, and anything that looks like %-encoding, are read differently by different
// recipients.
bool is_plain(std::string_view name) {
  return std::ranges::all_of(name, [](char c) { return c >= ' ' && c < 0x7f && c != '"' && c != '\\' && c != '%'; });
}

// One placeholder a character, not one a byte.
std::string plain_form(std::string_view name) {
  std::string plain;
  for (const char c : name) {
    if (is_plain({&c, 1})) {
      plain.push_back(c);
    } else if ((static_cast<unsigned char>(c) & 0xC0) != 0x80) {
      plain.push_back('_');
    }
  }
  return plain;
}

struct Parameter {
  std::string name;
  std::string value;
};

// Takes one `name=value` off the front of `text`, with the semicolon before it. False at the end, or at what cannot
// be read.
bool take_parameter(std::string_view& text, Parameter& parameter) {
  std::size_t equals = 0;
  do {  // some write parameters without a value, or two semicolons
    const std::size_t semicolon = text.find(';');
    if (semicolon == std::string_view::npos) return false;
    text.remove_prefix(semicolon + 1);
    equals = text.find_first_of("=;");
    if (equals == std::string_view::npos) return false;
  } while (text[equals] == ';');
  parameter.name = to_lower(trim(text.substr(0, equals)));
  parameter.value.clear();
  text.remove_prefix(equals + 1);
  while (text.starts_with(' ') || text.starts_with('\t')) text.remove_prefix(1);
  if (!text.starts_with('"')) {
    const std::size_t end = std::min(text.find(';'), text.size());
    parameter.value = trim(text.substr(0, end));
    text.remove_prefix(end);
    return true;
  }
  for (std::size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '"') {
      text.remove_prefix(i + 1);
      return true;
    }
    if (text[i] == '\\' && i + 1 < text.size()) ++i;
    parameter.value.push_back(text[i]);
  }
  return false;
}

}  // namespace

std::string content_disposition(bool is_inline, std::string_view filename) {
  std::string value = is_inline ? "inline" : "attachment";
  if (filename.empty()) return value;
  value += "; filename=\"" + plain_form(filename) + "\"";
  if (!is_plain(filename)) value += "; filename*=UTF-8''" + percent_encode(filename);
  return value;
}

std::string filename_of(std::string_view content_disposition) {
  std::string filename;
  Parameter parameter;
  while (take_parameter(content_disposition, parameter)) {
    if (parameter.name == "filename") filename = parameter.value;
    if (parameter.name != "filename*") continue;
    const std::vector<std::string_view> parts = split(parameter.value, '\'');
    if (parts.size() != 3 || !equals_ignoring_case(parts[0], "UTF-8")) continue;
    if (auto decoded = percent_decode(parts[2]); decoded && is_utf8(*decoded)) return *std::move(decoded);
  }
  return filename;
}

}  // namespace sluice::http
