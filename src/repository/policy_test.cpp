// SPDX-License-Identifier: Apache-2.0
#include "repository/policy.h"

#include <gtest/gtest.h>

#include <string_view>

namespace sluice::repository {
namespace {

bool is_allowed(const config::ContentTypes& rules, std::string_view content_type) {
  const Result<> checked = check_content_type_allowed(rules, content_type);
  if (!checked) {
    EXPECT_EQ(checked.error().http_status, 403);
    EXPECT_EQ(checked.error().errcode, "M_FORBIDDEN");
  }
  return checked.has_value();
}

TEST(ContentTypeRules, AreForNobodyUnlessGiven) {
  for (const char* type : {"image/png", "application/octet-stream", "no type", "", "a/b, c/d"}) {
    EXPECT_TRUE(is_allowed({}, type)) << type;
  }
}

TEST(ContentTypeRules, LookAtTheEssence) {
  const config::ContentTypes rules{.allow = {"image/*", "Text/Plain"}, .deny = {}};
  for (const char* type : {"image/png", "IMAGE/PNG", " image/svg+xml ; charset=utf-8", "text/plain;charset=x"}) {
    EXPECT_TRUE(is_allowed(rules, type)) << type;
  }
  for (const char* type : {"text/html", "imagefoo/png", "image", "x-image/png", "application/octet-stream"}) {
    EXPECT_FALSE(is_allowed(rules, type)) << type;
  }
}

TEST(ContentTypeRules, DenyWhatIsAllowedToo) {
  const config::ContentTypes rules{.allow = {"image/*"}, .deny = {"image/svg+xml"}};
  EXPECT_TRUE(is_allowed(rules, "image/png"));
  EXPECT_FALSE(is_allowed(rules, "image/svg+xml"));
  EXPECT_FALSE(is_allowed({.allow = {}, .deny = {"*/*"}}, "image/png"));
  EXPECT_TRUE(is_allowed({.allow = {"*/*"}, .deny = {"text/html"}}, "image/png"));
}

// A browser would take these for HTML.
TEST(ContentTypeRules, AllowNothingThatCannotBeToldToBeOneType) {
  const config::ContentTypes rules{.allow = {}, .deny = {"text/html"}};
  EXPECT_TRUE(is_allowed(rules, "image/png"));
  for (const char* type : {"text/html", "text/html,", "image/png, text/html", "image/png;a=b,text/html", "html"}) {
    EXPECT_FALSE(is_allowed(rules, type)) << type;
  }
}

TEST(Policies, LayTheHomeserversOwnOverWhatHoldsForAll) {
  config::Config config;
  config.uploads.max_size = 1000;
  config.uploads.content_types.deny = {"text/html"};
  config.uploads.create_rate = {.per_second = 1, .burst = 2};
  config.downloads.unauthenticated = config::UnauthenticatedAccess::kDeny;
  config.downloads.rate.per_user = {.bytes_per_second = 100, .burst = 200};
  config.homeservers.resize(2);
  config.homeservers[0].server_name = "example.org";
  config::Homeserver& own = config.homeservers[1];
  own.server_name = "example.net";
  own.uploads.max_size = 50;
  own.uploads.max_pending_per_user = 3;
  own.uploads.create_rate.burst = 7;
  own.uploads.content_types.deny.emplace();
  own.downloads.unauthenticated = config::UnauthenticatedAccess::kFrozen;
  own.downloads.frozen_since = WallTime(std::chrono::hours(1));
  own.downloads.rate.per_user.bytes_per_second = 0;

  const Policies policies = policies_of(config);
  ASSERT_EQ(policies.size(), 2u);
  const Policy& first = *find_policy(policies, "example.org");
  EXPECT_EQ(first.uploads.max_size, 1000u);
  EXPECT_EQ(first.uploads.content_types.deny.size(), 1u);
  EXPECT_EQ(first.downloads.unauthenticated, config::UnauthenticatedAccess::kDeny);
  EXPECT_EQ(first.downloads.rate.per_user.bytes_per_second, 100u);
  const Policy& second = *find_policy(policies, "example.net");
  EXPECT_EQ(second.uploads.max_size, 50u);
  EXPECT_EQ(second.uploads.max_pending_per_user, 3u);
  EXPECT_EQ(second.uploads.create_rate.per_second, 1);
  EXPECT_EQ(second.uploads.create_rate.burst, 7);
  EXPECT_TRUE(second.uploads.content_types.deny.empty()) << "an empty list of its own is one";
  EXPECT_EQ(second.downloads.unauthenticated, config::UnauthenticatedAccess::kFrozen);
  EXPECT_EQ(second.downloads.frozen_since, WallTime(std::chrono::hours(1)));
  EXPECT_EQ(second.downloads.rate.per_user.bytes_per_second, 0u);
  EXPECT_EQ(second.downloads.rate.per_user.burst, 200u);
  EXPECT_EQ(find_policy(policies, "elsewhere.org"), nullptr);
}

}  // namespace
}  // namespace sluice::repository
