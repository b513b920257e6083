// SPDX-License-Identifier: Apache-2.0
// The parts of `get` that need no server; client_session_test.cpp has the rest.
#include "cli/get.h"

#include <gtest/gtest.h>

#include "base/text.h"
#include "http/content_disposition.h"

namespace sluice::cli {
namespace {

std::string name_from(std::string_view content_disposition) {
  return safe_file_name(http::filename_of(content_disposition), "id");
}

TEST(SafeFileName, IsWhatContentDispositionSays) {
  EXPECT_EQ(name_from("attachment; filename=cat.jpg"), "cat.jpg");
  EXPECT_EQ(name_from("inline; filename=\"my cat.jpg\""), "my cat.jpg");
  EXPECT_EQ(name_from("inline; filename=\"a \\\"b\\\".txt\""), "a \"b\".txt");
}

TEST(SafeFileName, PrefersTheExtendedName) {
  EXPECT_EQ(name_from("attachment; filename=\"na_ve.txt\"; filename*=UTF-8''na%C3%AFve.txt"), "naïve.txt");
  EXPECT_EQ(name_from("attachment; filename*=utf-8'en'na%C3%AFve.txt; filename=\"na_ve.txt\""), "naïve.txt");
  EXPECT_EQ(name_from("attachment; filename=\"plain.txt\"; filename*=UTF-8''%FF"), "plain.txt");
}

TEST(SafeFileName, IsTheFallbackWhenNothingUsableIsSaid) {
  EXPECT_EQ(name_from(""), "id");
  EXPECT_EQ(name_from("inline"), "id");
  EXPECT_EQ(name_from("inline; filename=\"\""), "id");
  EXPECT_EQ(name_from("inline; filename=\"..\""), "id");
  EXPECT_EQ(name_from("inline; filename=\"some/folder/\""), "id");
}

TEST(SafeFileName, NeverLeavesTheFolder) {
  EXPECT_EQ(name_from("inline; filename*=UTF-8''..%2F..%2Fetc%2Fpasswd"), "passwd");
  EXPECT_EQ(safe_file_name("C:\\Windows\\evil.exe", "id"), "evil.exe");
  EXPECT_EQ(safe_file_name("/..", "id"), "id");
}

TEST(SafeFileName, HoldsNoControlCharactersAndIsNotHidden) {
  EXPECT_EQ(safe_file_name("a\x1b[2J\nb.txt", "id"), "a[2Jb.txt");
  EXPECT_EQ(safe_file_name("..bashrc", "id"), "bashrc");
  EXPECT_EQ(safe_file_name(". .profile ", "id"), "profile");
  EXPECT_EQ(safe_file_name("photo\u202Egpj.exe", "id"), "photogpj.exe");
  EXPECT_EQ(safe_file_name("\xff\xfe", "id"), "id");
}

TEST(SafeFileName, IsShortAndKeepsItsExtension) {
  std::string name;
  for (int i = 0; i < 200; ++i) name += "ü";
  const std::string safe = safe_file_name(name + ".jpeg", "id");
  EXPECT_LE(safe.size(), 200u);
  EXPECT_TRUE(safe.ends_with("ü.jpeg"));
  EXPECT_TRUE(is_utf8(safe));
}

TEST(ParseContentRange, ReadsARangeItsTotalAndTheirAbsence) {
  EXPECT_EQ(parse_content_range("bytes 4-9/10"), (ContentRange{4, 9, 10}));
  EXPECT_EQ(parse_content_range("bytes 4-9/*"), (ContentRange{4, 9, std::nullopt}));
  EXPECT_EQ(parse_content_range("Bytes */10"), (ContentRange{std::nullopt, std::nullopt, 10}));
}

TEST(ParseContentRange, RefusesWhatMakesNoSense) {
  for (const char* const field : {"", "bytes", "bytes ", "bytes 4-9", "bytes 9-4/10", "bytes 4-10/10", "bytes 4-/10",
                                  "bytes -4/10", "items 4-9/10", "bytes 4-9/10x", "bytes 4-9/99999999999999999999"}) {
    EXPECT_FALSE(parse_content_range(field)) << field;
  }
}

}  // namespace
}  // namespace sluice::cli
