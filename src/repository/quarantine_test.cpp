// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <latch>
#include <string>
#include <vector>

#include "repository/repository_fixture_test.h"

namespace sluice::repository {
namespace {

using Visibility = Repository::Visibility;

class QuarantineTest : public RepositoryTest {
 protected:
  std::size_t set(std::string_view content, Visibility visibility) {
    return *loop_.start(repository().set_visibility(std::vector{sha256(content)}, visibility)).get();
  }
  Result<std::size_t> set(const Mxc& mxc, Visibility visibility) {
    return loop_.start(repository().set_visibility(mxc, visibility)).get();
  }
  std::size_t set_user(const std::string& user, Visibility visibility) {
    return *loop_.start(repository().set_visibility_of_user(user, visibility)).get();
  }
  Result<> upload_by(const auth::Requester& requester, const Mxc& mxc, std::string_view content) {
    auto upload = begin(mxc, requester);
    if (!upload) return Failure(upload.error());
    if (Result<> written = write(*upload, content); !written) return written;
    return seal(*upload);
  }
  bool is_hot(const Mxc& mxc) { return repository().open_hot({mxc, true, clock_.steady()}) != nullptr; }
};

TEST_F(QuarantineTest, HidesAllThatHasTheContentAndShowsItAgain) {
  const Mxc first = store("bad");
  const Mxc second = store("bad");
  const Mxc other = store("good");
  EXPECT_EQ(set(first, Visibility::kHidden), 2u);
  EXPECT_EQ(look(first).errcode(), "M_NOT_FOUND");
  EXPECT_EQ(look(second).errcode(), "M_NOT_FOUND");
  EXPECT_EQ(look(other).content, "good");
  EXPECT_EQ(set(second, Visibility::kShown), 2u);
  EXPECT_EQ(look(first).content, "bad");
  EXPECT_EQ(set("bad", Visibility::kHidden), 2u);
  EXPECT_EQ(look(first).status(), 404);
  EXPECT_EQ(set("bad", Visibility::kShown), 2u);
  EXPECT_EQ(look(first).content, "bad");
}

TEST_F(QuarantineTest, WhatIsHotIsHiddenAtOnce) {
  const Mxc bad = store("bad");
  const Mxc good = store("good");
  look(bad);
  look(good);
  ASSERT_TRUE(is_hot(bad));
  set("bad", Visibility::kHidden);
  EXPECT_FALSE(is_hot(bad));
  EXPECT_TRUE(is_hot(good));
}

// A lookup that began before must not leave in the cache what it found.
TEST_F(QuarantineTest, WhatWasLookedUpBeforeIsNotFoundAfterwards) {
  const Mxc mxc = store("bad");
  catalog_.set_find_hooks(
      {.before = [](int) {},
       .after =
           [&](int lookup) {
             if (lookup == 1) {
               uploading_loop_.start(repository().set_visibility(std::vector{sha256("bad")}, Visibility::kHidden))
                   .get()
                   .value();
             }
           }});
  look(mxc);
  catalog_.clear_find_hooks();
  EXPECT_FALSE(is_hot(mxc));
  EXPECT_EQ(look(mxc).status(), 404);
}

TEST_F(QuarantineTest, AnUploadOfTheContentIsRefusedAndNotKept) {
  set("bad", Visibility::kHidden);
  const Mxc mxc = reserve();
  auto upload = *begin(mxc);
  ASSERT_TRUE(write(upload, "bad"));
  auto reader = start_download(mxc);
  reader->await_opened();
  const Result<> sealed = seal(upload);
  ASSERT_FALSE(sealed);
  EXPECT_EQ(sealed.error().http_status, 403);
  EXPECT_EQ(sealed.error().errcode, "M_FORBIDDEN");
  upload.reset();
  const Outcome outcome = reader->outcome();
  EXPECT_FALSE(outcome.is_whole) << "who followed it must not take it for whole";
  EXPECT_EQ(fill(mxc, "good"), Result<>()) << "the id may be filled with something else";
  close();
  EXPECT_EQ(count_blobs(), 1u);
  EXPECT_TRUE(spool().empty());
}

TEST_F(QuarantineTest, StaysWhenTheMediaIsDeleted) {
  const Mxc mxc = store("bad");
  set(mxc, Visibility::kHidden).value();
  EXPECT_EQ(remove(mxc).error().http_status, 404) << "its owner sees it no more";
  EXPECT_TRUE(remove(mxc, kAdmin));
  close();
  EXPECT_EQ(count_blobs(), 0u);
  EXPECT_EQ(fill(reserve(), "bad").error().http_status, 403);
}

TEST_F(QuarantineTest, OfAUserHidesAllThatWasStoredUntilThen) {
  std::vector<Mxc> mallorys;
  for (int i = 0; i < 250; ++i) {
    mallorys.push_back(reserve(kMallory));
    ASSERT_TRUE(upload_by(kMallory, mallorys.back(), std::to_string(i)));
  }
  const Mxc equal = store("7");
  const Mxc alices = store("alice's");
  EXPECT_EQ(set_user(kMallory.user, Visibility::kHidden), 251u);
  for (const Mxc& mxc : mallorys) EXPECT_EQ(look(mxc).status(), 404);
  EXPECT_EQ(look(equal).status(), 404);
  EXPECT_EQ(look(alices).content, "alice's");
  EXPECT_EQ(set_user(kMallory.user, Visibility::kHidden), 0u);
  EXPECT_EQ(set_user(kMallory.user, Visibility::kShown), 251u);
  EXPECT_EQ(look(mallorys[99]).content, "99");
  EXPECT_EQ(look(equal).content, "7");
}

TEST_F(QuarantineTest, OfAnIdWithoutContentIs404) {
  EXPECT_EQ(set(reserve(), Visibility::kHidden).error().http_status, 404);
  EXPECT_EQ(set(*Mxc::of("example.org", "unknown"), Visibility::kHidden).error().http_status, 404);
}

TEST_F(QuarantineTest, AdminsCanStillSeeWhatItIs) {
  const Mxc mxc = store("bad");
  set(mxc, Visibility::kHidden).value();
  EXPECT_EQ(loop_.start(repository().look_up(mxc, false)).get().error().http_status, 404);
  const auto described = loop_.start(repository().look_up(mxc, true)).get();
  ASSERT_TRUE(described);
  EXPECT_EQ(described->stored->sha256, sha256("bad"));
  EXPECT_TRUE(described->is_quarantined);
  EXPECT_EQ(loop_.start(repository().arrival(mxc)).get().error().http_status, 404);
  EXPECT_EQ(loop_.start(repository().look_up(reserve(), true)).get().error().http_status, 504);
}

}  // namespace
}  // namespace sluice::repository
