// SPDX-License-Identifier: Apache-2.0
#include "repository/quota.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "repository/repository_fixture_test.h"

namespace sluice::repository {
namespace {

TEST(Pattern, StarsStandForAnything) {
  EXPECT_TRUE(matches_pattern("*", ""));
  EXPECT_TRUE(matches_pattern("*", "@alice:example.org"));
  EXPECT_TRUE(matches_pattern("@alice:example.org", "@alice:example.org"));
  EXPECT_FALSE(matches_pattern("@alice:example.org", "@alice:example.or"));
  EXPECT_FALSE(matches_pattern("@alice:example.or", "@alice:example.org"));
  EXPECT_TRUE(matches_pattern("@*:example.org", "@alice:example.org"));
  EXPECT_TRUE(matches_pattern("@whatsapp_*:example.org", "@whatsapp_1:example.org"));
  EXPECT_FALSE(matches_pattern("@whatsapp_*:example.org", "@whatsapp_1:example.net"));
  EXPECT_TRUE(matches_pattern("*a*b*", "xxaxxbaab"));
  EXPECT_TRUE(matches_pattern("a*ab", "aab"));
  EXPECT_TRUE(matches_pattern("a**b", "ab"));
  EXPECT_FALSE(matches_pattern("a*b", "abc"));
  EXPECT_FALSE(matches_pattern("", "a"));
  EXPECT_TRUE(matches_pattern("", ""));
}

class QuotaTest : public RepositoryTest {
 protected:
  QuotaTest() { limits_.quotas.push_back({.users = "@mallory:*", .max_files = {}, .max_bytes = {}, .window = {}}); }

  Result<UploadPtr> begin_sized(std::uint64_t size) {
    UploadOptions options;
    options.content_length = size;
    return begin(reserve(kMallory), kMallory, options);
  }
  Result<UploadPtr> begin_unsized() { return begin(reserve(kMallory), kMallory); }
  Result<Mxc> upload(std::string_view content) {
    auto upload = begin_sized(content.size());
    if (!upload) return Failure(upload.error());
    if (Result<> written = write(*upload, content); !written) return Failure(written.error());
    if (Result<> sealed = seal(*upload); !sealed) return Failure(sealed.error());
    return (*upload)->mxc();
  }
  static void expect_forbidden(const auto& refused) {
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().http_status, 403);
    EXPECT_EQ(refused.error().errcode, "M_FORBIDDEN");
  }
};

TEST_F(QuotaTest, IsForThoseWhomItNames) {
  limits_.quotas[0].max_files = 0;
  expect_forbidden(begin_sized(1));
  EXPECT_NO_THROW(store("of alice"));
}

TEST_F(QuotaTest, TheFirstThatNamesAUserCounts) {
  limits_.quotas[0].max_bytes = 100;
  limits_.quotas.push_back({.users = "*", .max_files = 0, .max_bytes = {}, .window = {}});
  EXPECT_TRUE(upload("content"));
  EXPECT_EQ(fill(reserve(), "of alice").error().http_status, 403);
}

TEST_F(QuotaTest, BytesAreRefusedBeforeTheBody) {
  limits_.quotas[0].max_bytes = 10;
  const Mxc first = *upload("1234567");
  expect_forbidden(begin_sized(4));
  EXPECT_TRUE(upload("123"));
  expect_forbidden(begin_sized(1));
  ASSERT_TRUE(remove(first, kMallory));
  EXPECT_TRUE(upload("1234567")) << "what was deleted counts no more";
}

TEST_F(QuotaTest, UploadsThatRunAtTheSameTimeCountTogether) {
  limits_.quotas[0].max_bytes = 10;
  limits_.quotas[0].max_files = 3;
  auto first = begin_sized(6);
  ASSERT_TRUE(first);
  expect_forbidden(begin_sized(5));
  auto second = begin_sized(4);
  ASSERT_TRUE(second);
  second->reset();
  EXPECT_TRUE(begin_sized(3)) << "one that broke off counts no more";
  auto third = begin_sized(1);
  auto fourth = begin_sized(1);
  EXPECT_TRUE(third && fourth);
  expect_forbidden(begin_sized(0));
}

TEST_F(QuotaTest, AnUploadOfUnknownLengthIsBrokenOffWhereTheQuotaEnds) {
  limits_.quotas[0].max_bytes = 10;
  auto upload = *begin_unsized();
  EXPECT_TRUE(write(upload, "1234567890"));
  expect_forbidden(write(upload, "1"));
  expect_forbidden(begin_sized(1));  // what has come counts
}

TEST_F(QuotaTest, UploadsOfUnknownLengthCannotPassItTogether) {
  limits_.quotas[0].max_bytes = 10;
  auto first = *begin_unsized();
  auto second = *begin_unsized();
  EXPECT_TRUE(write(first, "123456"));
  EXPECT_TRUE(write(second, "123456"));
  EXPECT_TRUE(seal(first));
  expect_forbidden(seal(second));
  first.reset();
  second.reset();
  close();
  EXPECT_EQ(count_blobs(), 1u) << "equal content was stored; nothing else is";
  EXPECT_TRUE(spool().empty());
}

TEST_F(QuotaTest, AWindowOpensAgain) {
  limits_.quotas[0].window = {.bytes = 10, .per = Milliseconds(1000)};
  EXPECT_TRUE(upload("123456"));
  clock_.advance_wall(Milliseconds(300));
  const auto refused = begin_sized(5);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().http_status, 429);
  EXPECT_EQ(refused.error().errcode, "M_LIMIT_EXCEEDED");
  EXPECT_EQ(refused.error().retry_after, Milliseconds(700));
  clock_.advance_wall(Milliseconds(700));
  EXPECT_TRUE(upload("12345"));
  expect_forbidden(begin_sized(11));  // waiting would not help
}

TEST_F(QuotaTest, UsageIsTold) {
  EXPECT_TRUE(upload("12345"));
  EXPECT_TRUE(upload("12345"));
  (void)reserve(kMallory);
  const auto used = loop_.start(repository().usage(kMallory.user)).get();
  ASSERT_TRUE(used);
  EXPECT_EQ(used->files, 2u);
  EXPECT_EQ(used->bytes, 10u) << "equal content counts for each id";
}

}  // namespace
}  // namespace sluice::repository
