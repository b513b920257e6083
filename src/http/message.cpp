// SPDX-License-Identifier: Apache-2.0
#include "http/message.h"

#include <algorithm>

namespace sluice::http {
namespace {

constexpr std::string_view kColon = ": ";
constexpr std::string_view kLineEnd = "\r\n";

// Without a way out of the middle, so that it is done sixteen bytes at a time.
bool is_fit_for_a_field(std::string_view value) {
  bool is_unfit = false;
  for (const char c : value) is_unfit |= static_cast<unsigned char>(c) < ' ' || c == 0x7f;
  return !is_unfit;
}

}  // namespace

void Fields::add(std::string_view name, std::string_view value) {
  is_fit_ = is_fit_ && is_fit_for_a_field(value);
  text_.append(name).append(kColon).append(value).append(kLineEnd);
}

void Fields::add(const Fields& others) {
  is_fit_ = is_fit_ && others.is_fit_;
  text_ += others.text_;
}

Fields::Iterator::value_type Fields::Iterator::operator*() const {
  const std::size_t colon = rest_.find(kColon);
  const std::size_t value = colon + kColon.size();
  return {rest_.substr(0, colon), rest_.substr(value, rest_.find(kLineEnd) - value)};
}

Fields::Iterator& Fields::Iterator::operator++() {
  rest_.remove_prefix(rest_.find(kLineEnd) + kLineEnd.size());
  return *this;
}

std::string_view reason_phrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 206:
      return "Partial Content";
    case 304:
      return "Not Modified";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 413:
      return "Content Too Large";
    case 414:
      return "URI Too Long";
    case 416:
      return "Range Not Satisfiable";
    case 417:
      return "Expectation Failed";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    case 507:
      return "Insufficient Storage";
    default:
      return "Unknown";
  }
}

}  // namespace sluice::http
