// SPDX-License-Identifier: Apache-2.0
#include "repository/repository.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "repository/media_id.h"
#include "repository/repository_fixture_test.h"

namespace sluice::repository {
namespace {

using CreateTest = RepositoryTest;

// ---- create ----

TEST_F(CreateTest, GivesANewIdThatExpires) {
  limits_.uploads.unused_expiry = std::chrono::hours(24);
  const auto created = create();
  ASSERT_TRUE(created);
  EXPECT_EQ(created->mxc.server_name(), "example.org");
  EXPECT_EQ(created->mxc.media_id().size(), kMediaIdLength);
  EXPECT_EQ(created->unused_expires_at, clock_.now() + std::chrono::hours(24));
}

TEST_F(CreateTest, NeverGivesAnIdTwice) {
  std::set<std::string> ids;
  for (int i = 0; i < 50; ++i) ids.insert(reserve().media_id());
  EXPECT_EQ(ids.size(), 50u);
}

TEST_F(CreateTest, RefusesGuests) {
  const auto created = create(kGuest);
  ASSERT_FALSE(created);
  EXPECT_EQ(created.error().http_status, 403);
  EXPECT_EQ(created.error().errcode, "M_GUEST_ACCESS_FORBIDDEN");
}

TEST_F(CreateTest, ChecksContentTypeAndFilename) {
  for (const auto& [content_type, filename] : {
           std::pair<std::string, std::string>{std::string(256, 'a'), ""},
           {"text/\xff", ""},
           {"text/plain\r\nSet-Cookie: a=b", ""},
           {"", std::string(1025, 'a')},
           {"", "\xc3\x28.txt"},
           {"", "a\nb.txt"},
           {"", std::string("a\0b.txt", 7)},
       }) {
    const auto created = create(kAlice, content_type, filename);
    ASSERT_FALSE(created) << content_type << " " << filename;
    EXPECT_EQ(created.error().http_status, 400);
    EXPECT_EQ(created.error().errcode, "M_INVALID_PARAM");
  }
  EXPECT_TRUE(create(kAlice, std::string(255, 'a'), std::string(1024, 'a')));
  EXPECT_TRUE(create(kAlice, "text/plain; charset=utf-8", "Grüße 🎉.txt"));
}

TEST_F(CreateTest, LimitsTheRateOfEachUser) {
  limits_.uploads.create_rate = {.per_second = 10, .burst = 3};
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(create());
  const auto refused = create();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().http_status, 429);
  EXPECT_EQ(refused.error().errcode, "M_LIMIT_EXCEEDED");
  ASSERT_TRUE(refused.error().retry_after);
  EXPECT_LE(*refused.error().retry_after, Milliseconds(100));
  EXPECT_TRUE(create(kMallory)) << "another user";
  clock_.advance_steady(Milliseconds(100));
  EXPECT_TRUE(create());
}

TEST_F(CreateTest, LimitsThePendingIdsOfEachUser) {
  limits_.uploads.max_pending_per_user = 2;
  const Mxc first = reserve();
  clock_.advance_wall(std::chrono::hours(1));
  reserve();
  const auto refused = create();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().http_status, 429);
  EXPECT_EQ(refused.error().errcode, "M_LIMIT_EXCEEDED");
  EXPECT_EQ(refused.error().retry_after, std::chrono::seconds(5))
      << "any upload may end before the first of them expires";
  EXPECT_TRUE(create(kMallory)) << "another user";

  ASSERT_TRUE(fill(first, "content"));
  EXPECT_TRUE(create()) << "what is filled is not pending";
  EXPECT_FALSE(create());
  clock_.advance_wall(limits_.uploads.unused_expiry);
  EXPECT_TRUE(create()) << "what is expired is not pending";
}

TEST_F(CreateTest, TellsWhatIsBroken) {
  catalog_.fail_reserve({507, "M_UNKNOWN", "full", {}, false});
  const auto created = create();
  ASSERT_FALSE(created);
  EXPECT_EQ(created.error().http_status, 507);
  EXPECT_TRUE(create());
}

// ---- reap, check, levels ----

class UpkeepTest : public RepositoryTest {
 protected:
  std::size_t reap() { return loop_.start(repository().reap()).get().value(); }
  Result<> check() { return loop_.start(repository().check()).get(); }
};

TEST_F(UpkeepTest, ReapsWhatIsExpiredAndNothingElse) {
  const Mxc expired = reserve();
  const Mxc stored = store("content");
  clock_.advance_wall(limits_.uploads.unused_expiry / 2);
  const Mxc pending = reserve();
  clock_.advance_wall(limits_.uploads.unused_expiry / 2);
  EXPECT_EQ(reap(), 1u);
  EXPECT_EQ(reap(), 0u);
  EXPECT_EQ(look(expired).status(), 404);
  EXPECT_EQ(look(pending).errcode(), "M_NOT_YET_UPLOADED");
  EXPECT_EQ(look(stored).content, "content");
}

TEST_F(UpkeepTest, ReapsAnIdWhoseUploadRunsWithoutHarmToIt) {
  const Mxc mxc = reserve();
  auto upload = *begin(mxc);
  clock_.advance_wall(limits_.uploads.unused_expiry);
  EXPECT_EQ(reap(), 1u);
  auto reader = stall_download(mxc);
  ASSERT_TRUE(write(upload, "content"));
  ASSERT_TRUE(seal(upload));
  EXPECT_EQ(reader->outcome().content, "content");
  EXPECT_EQ(look(mxc).content, "content");
}

TEST_F(UpkeepTest, IsHealthyWhileCatalogAndStoreAnswer) {
  const auto check_later = [this] {
    clock_.advance_steady(std::chrono::seconds(1));
    return check();
  };
  EXPECT_TRUE(check_later());
  catalog_.fail_check({500, "M_UNKNOWN", "damaged", {}, false});
  EXPECT_FALSE(check_later());
  EXPECT_TRUE(check_later());
  disk_.fail_call(FaultyFileSystem::Call::kCreate, 1, ENOSPC);
  EXPECT_FALSE(check_later());
  EXPECT_TRUE(check_later());
}

TEST_F(UpkeepTest, LooksAtItsHealthAtMostOnceASecond) {
  EXPECT_TRUE(check());
  catalog_.fail_check({500, "M_UNKNOWN", "damaged", {}, false});
  EXPECT_TRUE(check()) << "what was found last";
  clock_.advance_steady(std::chrono::seconds(1));
  EXPECT_FALSE(check());
  EXPECT_FALSE(check()) << "what was found last";
  clock_.advance_steady(std::chrono::seconds(1));
  EXPECT_TRUE(check());
}

TEST_F(UpkeepTest, CountsWhatGoesOn) {
  const Mxc mxc = reserve();
  const Mxc other = reserve();
  EXPECT_EQ(repository().running_uploads(), 0u);
  auto upload = *begin(mxc);
  EXPECT_EQ(repository().running_uploads(), 1u);

  auto stalled = stall_download(other);
  EXPECT_EQ(repository().stalled_downloads(), 1u);
  stalled->caller().leave();
  stalled->outcome();
  EXPECT_EQ(repository().stalled_downloads(), 0u);

  ASSERT_TRUE(write(upload, "first"));
  const auto transfer = std::make_shared<transfer::Transfer>(
      transfer::Description{.content_type = "text/plain", .filename = "", .size = {}}, nullptr);
  auto follower = repository().follow(transfer, std::make_shared<Signal>(loop_.loop()));
  EXPECT_EQ(repository().live_followers(), 1u);
  follower.reset();
  EXPECT_EQ(repository().live_followers(), 0u);

  ASSERT_TRUE(seal(upload));
  upload.reset();
  EXPECT_EQ(repository().running_uploads(), 0u);
}

}  // namespace
}  // namespace sluice::repository
