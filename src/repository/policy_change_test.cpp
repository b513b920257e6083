// SPDX-License-Identifier: Apache-2.0
// What is ruled, through the whole repository, and what becomes of it when other policies come into force meanwhile.
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "repository/repository_fixture_test.h"

namespace sluice::repository {
namespace {

using config::UnauthenticatedAccess;
using std::chrono::hours;
using std::chrono::milliseconds;

class PolicyChangeTest : public RepositoryTest {
 protected:
  static inline const DownloadOptions kNobody{.has_token = false, .wait = kForever, .network = ""};

  Result<Mxc> reserve_elsewhere(std::string content_type = "") {
    const Result<Created> created =
        loop_.start(repository().create({.user = "@nora:example.net"}, "example.net", std::move(content_type), ""))
            .get();
    if (!created) return Failure(created.error());
    return created->mxc;
  }
  template <class T>
  static void expect_forbidden(const Result<T>& result) {
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().http_status, 403);
    EXPECT_EQ(result.error().errcode, "M_FORBIDDEN");
  }
};

// ---- who may read ----

TEST_F(PolicyChangeTest, AStalledDownloadSeesANewFreezeWhenItWakes) {
  for (const bool is_live : {true, false}) {
    limits_.downloads.live = is_live;
    limits_.downloads.unauthenticated = UnauthenticatedAccess::kAllow;
    replace_policies();
    const Mxc mxc = reserve();
    auto reader = stall_download(mxc, kNobody);
    auto other = stall_download(mxc);
    limits_.downloads.unauthenticated = UnauthenticatedAccess::kFrozen;
    replace_policies();
    ASSERT_TRUE(fill(mxc, "content"));
    EXPECT_EQ(reader->outcome().status(), 404);
    EXPECT_EQ(other->outcome().content, "content");
  }
}

TEST_F(PolicyChangeTest, AStalledDownloadSeesThatATokenIsNeededWhenItWakes) {
  const Mxc mxc = reserve();
  auto reader = stall_download(mxc, kNobody);
  limits_.downloads.unauthenticated = UnauthenticatedAccess::kDeny;
  replace_policies();
  ASSERT_TRUE(fill(mxc, "content"));
  EXPECT_EQ(reader->outcome().errcode(), "M_MISSING_TOKEN");
}

TEST_F(PolicyChangeTest, AStalledDownloadEndsAsSoonAsTheFreezeComes) {
  limits_.downloads.unauthenticated = UnauthenticatedAccess::kFrozen;
  limits_.downloads.frozen_since = clock_.now() + milliseconds(100);
  const Mxc mxc = reserve();
  auto reader = stall_download(mxc, kNobody);
  clock_.advance_wall(hours(1));
  EXPECT_EQ(reader->outcome().status(), 404);
}

TEST_F(PolicyChangeTest, AFreezeInTheFarFutureFreezesNothing) {
  limits_.downloads.unauthenticated = UnauthenticatedAccess::kFrozen;
  limits_.downloads.frozen_since = std::chrono::sys_days(std::chrono::year(9999) / 12 / 31);
  const Mxc mxc = reserve();
  auto reader = stall_download(mxc, kNobody);
  ASSERT_TRUE(fill(mxc, "content"));
  EXPECT_EQ(reader->outcome().content, "content");
}

TEST_F(PolicyChangeTest, WhatIsHotIsFrozenToo) {
  const Mxc mxc = store("content");
  ASSERT_EQ(look(mxc).content, "content") << "now its file is at hand";
  limits_.downloads.unauthenticated = UnauthenticatedAccess::kFrozen;
  replace_policies();
  EXPECT_EQ(download(mxc, kNobody).status(), 404);
  limits_.downloads.frozen_since = clock_.now() + hours(1);
  replace_policies();
  EXPECT_EQ(download(mxc, kNobody).content, "content");
}

TEST_F(PolicyChangeTest, TheHomeserverWhoseMediaItIsSaysWhoMayRead) {
  const Mxc here = store("here");
  const auto there = reserve_elsewhere();
  ASSERT_TRUE(there);
  auto upload = *begin(*there, {.user = "@nora:example.net"});
  ASSERT_TRUE(write(upload, "there"));
  ASSERT_TRUE(seal(upload));
  Policies mixed = policies();
  mixed[1].downloads.unauthenticated = UnauthenticatedAccess::kDeny;
  replace_policies(std::move(mixed));
  EXPECT_EQ(download(here, kNobody).content, "here");
  EXPECT_EQ(download(*there, kNobody).status(), 401);
  EXPECT_EQ(download(*there).content, "there");
}

// ---- how much, and of what type ----

TEST_F(PolicyChangeTest, ARunningUploadKeepsItsLimit) {
  limits_.uploads.max_size = 100;
  const Mxc mxc = reserve();
  const Mxc other = reserve();
  auto upload = *begin(mxc);
  limits_.uploads.max_size = 10;
  replace_policies();
  ASSERT_TRUE(write(upload, std::string(100, 'x')));
  EXPECT_FALSE(write(upload, "y")) << "the limit with which it began";
  auto later = *begin(other);
  EXPECT_FALSE(write(later, std::string(11, 'x')));
}

TEST_F(PolicyChangeTest, RefusesTypesThatAreNotAllowed) {
  limits_.uploads.content_types.allow = {"image/*"};
  expect_forbidden(create(kAlice, "text/html"));
  EXPECT_TRUE(create(kAlice, "image/png"));
  const Mxc mxc = reserve();
  expect_forbidden(begin(mxc, kAlice, {.content_type = "text/html"}));
  expect_forbidden(begin(mxc, kAlice, {.content_type = ""}));  // application/octet-stream
  EXPECT_TRUE(begin(mxc, kAlice, {.content_type = "Image/PNG; a=b"}));
  EXPECT_EQ(repository().running_uploads(), 0u);
}

TEST_F(PolicyChangeTest, AskAgainForATypeThatWasNamedBefore) {
  const auto created = create(kAlice, "text/html");
  ASSERT_TRUE(created);
  limits_.uploads.content_types.deny = {"text/html"};
  replace_policies();
  expect_forbidden(begin(created->mxc, kAlice, {.content_type = ""}));
  EXPECT_TRUE(begin(created->mxc, kAlice, {.content_type = "text/plain"}));
}

TEST_F(PolicyChangeTest, EachHomeserverHasItsOwnLimits) {
  Policies mixed = policies();
  mixed[1].uploads.content_types.deny = {"image/*"};
  mixed[1].uploads.max_size = 3;
  mixed[1].uploads.max_pending_per_user = 2;
  replace_policies(std::move(mixed));
  EXPECT_TRUE(create(kAlice, "image/png"));
  expect_forbidden(reserve_elsewhere("image/png"));
  const auto there = reserve_elsewhere();
  ASSERT_TRUE(there);
  const auto refused = begin(*there, {.user = "@nora:example.net"}, {.content_length = 4});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().errcode, "M_TOO_LARGE");
  ASSERT_TRUE(reserve_elsewhere());
  const auto third = reserve_elsewhere();
  ASSERT_FALSE(third);
  EXPECT_EQ(third.error().errcode, "M_LIMIT_EXCEEDED");
}

TEST_F(PolicyChangeTest, TheWaitingRoomTakesItsNewLimits) {
  const Mxc mxc = reserve();
  auto reader = stall_download(mxc);
  limits_.downloads.max_waiting = 1;
  replace_policies();
  EXPECT_EQ(download(mxc).errcode(), "M_NOT_YET_UPLOADED");
  limits_.downloads.max_waiting = 2;
  replace_policies();
  auto second = stall_download(mxc);
  ASSERT_TRUE(fill(mxc, "content"));
  EXPECT_EQ(reader->outcome().content, "content");
  EXPECT_EQ(second->outcome().content, "content");
}

}  // namespace
}  // namespace sluice::repository
