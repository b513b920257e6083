// SPDX-License-Identifier: Apache-2.0
#include "http/content_disposition.h"

#include <gtest/gtest.h>

#include "base/text.h"

namespace sluice::http {
namespace {

using namespace std::string_literals;

TEST(ContentDisposition, NamesTheTypeAlone) {
  EXPECT_EQ(content_disposition(true, ""), "inline");
  EXPECT_EQ(content_disposition(false, ""), "attachment");
}

TEST(ContentDisposition, QuotesAPlainName) {
  EXPECT_EQ(content_disposition(true, "a.txt"), R"(inline; filename="a.txt")");
  EXPECT_EQ(content_disposition(false, "a b;c=d's.txt"), R"(attachment; filename="a b;c=d's.txt")");
}

TEST(ContentDisposition, GivesOtherNamesTwice) {
  EXPECT_EQ(content_disposition(true, "é.txt"), R"(inline; filename="_.txt"; filename*=UTF-8''%C3%A9.txt)");
  EXPECT_EQ(content_disposition(true, R"(a"b)"), R"(inline; filename="a_b"; filename*=UTF-8''a%22b)");
  EXPECT_EQ(content_disposition(true, R"(a\b)"), R"(inline; filename="a_b"; filename*=UTF-8''a%5Cb)");
  EXPECT_EQ(content_disposition(true, "50%20"), R"(inline; filename="50_20"; filename*=UTF-8''50%2520)");
}

TEST(ContentDisposition, NeverHoldsControlCharacters) {
  const std::string value = content_disposition(false, "a\r\nSet-Cookie: b\0\t\x7f\x80\xff"s);
  EXPECT_FALSE(has_control_characters(value)) << value;
  for (const char c : value) EXPECT_GE(c, ' ') << "not ASCII";
}

TEST(FilenameOf, ReadsBackWhatIsWritten) {
  for (const std::string name : {"a", " a ", "a;b", "a=b", "a'b", "a\"b", "a\\", "\"", "100%", "%41", "日本 語.png",
                                 "../a", "filename*=UTF-8''b", "; filename=\"b\""}) {
    EXPECT_EQ(filename_of(content_disposition(true, name)), name);
    EXPECT_EQ(filename_of(content_disposition(false, name)), name);
  }
}

TEST(FilenameOf, ReadsWhatOthersWrite) {
  EXPECT_EQ(filename_of("attachment; filename=a.txt"), "a.txt");
  EXPECT_EQ(filename_of("attachment;filename=\"a b.txt\";"), "a b.txt");
  EXPECT_EQ(filename_of("ATTACHMENT; FileName = \"a.txt\" ; size=5"), "a.txt");
  EXPECT_EQ(filename_of(R"(inline; filename="a\"b\\c")"), R"(a"b\c)");
  EXPECT_EQ(filename_of("inline; x=\"; filename=no\"; filename=yes"), "yes");
  EXPECT_EQ(filename_of("inline; filename*=utf-8'en'%e2%82%ac"), "€");
}

TEST(FilenameOf, PrefersTheExtendedName) {
  EXPECT_EQ(filename_of("inline; filename=\"_\"; filename*=UTF-8''%C3%A9"), "é");
  EXPECT_EQ(filename_of("inline; filename*=UTF-8''%C3%A9; filename=\"_\""), "é");
}

TEST(FilenameOf, FallsBackWhenTheExtendedNameCannotBeRead) {
  for (const char* extended : {"UTF-8''%C3", "UTF-8''%4", "UTF-8'a", "ISO-8859-1''%E9", "UTF-8''%FF", "a", ""}) {
    EXPECT_EQ(filename_of("inline; filename*="s + extended + "; filename=plain"), "plain") << extended;
  }
}

TEST(FilenameOf, StepsOverParametersWithoutAValue) {
  EXPECT_EQ(filename_of("attachment; odd; filename=a"), "a");
  EXPECT_EQ(filename_of("attachment;; filename=a"), "a");
}

TEST(FilenameOf, IsEmptyWhenThereIsNone) {
  for (const char* value : {"", "inline", "inline;", "inline; filename", "inline; filename=", "inline; filename=\"a",
                            "inline; name=a", "inline; filename=\"a\\", "filename=a"}) {
    EXPECT_EQ(filename_of(value), "") << value;
  }
}

}  // namespace
}  // namespace sluice::http
