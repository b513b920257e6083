// SPDX-License-Identifier: Apache-2.0
#include "repository/commit_queue.h"

#include <gtest/gtest.h>

#include <future>
#include <latch>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "repository/repository_fixture_test.h"

namespace sluice::repository {
namespace {

const Error kBroken{500, "M_UNKNOWN", "the catalog's disk is broken", {}, false};

class CommitQueueTest : public RepositoryTest {
 protected:
  /// A change under way, so that those that come now gather behind it.
  void hold() {
    const auto wait = [this]() -> Result<> {
      holding_.count_down();
      go_on_.wait();
      return {};
    };
    held_ = loop_.start(queue_.run(wait));
    holding_.wait();
  }
  template <class Work>
  std::future<Result<>> start(Work work) {
    auto started = loop_.start(queue_.run(std::move(work)));
    loop_.start(detail::do_nothing()).get();  // it is queued
    return started;
  }
  std::future<Result<>> start_store(const Mxc& mxc, std::string_view content) {
    return start([this, mxc, content]() -> Result<> {
      return catalog_.store(
          {.mxc = mxc, .user = "@alice:example.org", .content_type = "text/plain", .sha256 = sha256(content)});
    });
  }
  void let_go() {
    go_on_.count_down();
    EXPECT_TRUE(held_.get());
  }
  bool is_stored(const Mxc& mxc) { return catalog_.find(mxc)->stored.has_value(); }

  const Mxc a_ = reserve();
  const Mxc b_ = reserve();
  std::latch holding_{1};
  std::latch go_on_{1};
  CommitQueue queue_{catalog_};
  std::future<Result<>> held_;
};

TEST_F(CommitQueueTest, NeighboursShareACommitAndEachHasItsOwnAnswer) {
  const std::size_t commits_before = catalog_.commits();
  hold();
  auto first = start_store(a_, "first");
  auto second = start_store(a_, "second");
  auto other = start_store(b_, "other");
  let_go();
  EXPECT_TRUE(first.get());
  const Result<> refused = second.get();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().http_status, 409);
  EXPECT_TRUE(other.get());
  EXPECT_EQ(catalog_.commits() - commits_before, 2u);
  EXPECT_EQ(catalog_.find(a_)->stored->sha256, sha256("first"));
  EXPECT_TRUE(is_stored(b_));
}

TEST_F(CommitQueueTest, ACommitThatFailsFailsAllWhoShareItAndNoOther) {
  hold();
  catalog_.fail_commit(kBroken);  // the next: the one under way has begun
  auto first = start_store(a_, "first");
  auto refused = start_store(a_, "second");
  auto other = start_store(b_, "other");
  let_go();
  for (auto* result : {&first, &refused, &other}) {
    const Result<> failed = result->get();
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error(), kBroken) << "what was decided on what is not there is worth nothing";
  }
  EXPECT_FALSE(is_stored(a_));
  EXPECT_FALSE(is_stored(b_));
  EXPECT_TRUE(start_store(a_, "again").get());
  EXPECT_TRUE(is_stored(a_));
}

TEST_F(CommitQueueTest, WhatThrowsThrowsToItsOwnCallerOnly) {
  hold();
  auto thrown = start([]() -> Result<> { throw std::runtime_error("a bug"); });
  auto other = start_store(b_, "other");
  let_go();
  EXPECT_THROW((void)thrown.get(), std::runtime_error);
  EXPECT_TRUE(other.get());
  EXPECT_TRUE(is_stored(b_));
}

TEST_F(CommitQueueTest, FinishesWhatIsQueuedBeforeItEnds) {
  std::optional<CommitQueue> queue(std::in_place, catalog_);
  std::vector<std::future<Result<>>> results;
  for (const Mxc& mxc : {a_, b_}) {
    results.push_back(loop_.start(queue->run([this, mxc]() -> Result<> {
      return catalog_.store({.mxc = mxc, .user = "@alice:example.org", .content_type = "text/plain"});
    })));
  }
  loop_.start(detail::do_nothing()).get();
  queue.reset();
  EXPECT_TRUE(is_stored(a_));
  EXPECT_TRUE(is_stored(b_));
  for (auto& result : results) EXPECT_TRUE(result.get());
}

}  // namespace
}  // namespace sluice::repository
