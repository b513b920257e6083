// SPDX-License-Identifier: Apache-2.0
#include "repository/following_hasher.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <future>
#include <memory>
#include <span>
#include <vector>

#include "base/random.h"
#include "base/temporary_directory_test.h"

namespace sluice::repository {
namespace {

class FollowingHasherTest : public ::testing::Test {
 protected:
  FollowingHasherTest() { random_.fill(content_); }

  std::shared_ptr<FollowingHasher> follow(std::size_t hashed = 0) {
    Sha256Hasher begun;
    begun.update(std::span(content_).first(hashed));
    write(0, hashed);
    return std::make_shared<FollowingHasher>(std::move(begun), hashed, file_, pool_);
  }
  void write(std::size_t from, std::size_t to) {
    ASSERT_TRUE(files_.write_at(*file_, std::span(content_).subspan(from, to - from), from));
  }
  Sha256Digest digest(std::size_t size) const { return sha256(std::span(content_).first(size)); }

  const TemporaryDirectory directory_{TemporaryDirectory::in_memory()};
  PosixFileSystem files_;
  SystemRandom random_;
  std::vector<std::byte> content_ = std::vector<std::byte>(24 * 1024 * 1024 + 7);
  const std::shared_ptr<const FileDescriptor> file_ =
      std::make_shared<const FileDescriptor>(*files_.create(directory_ / "file"));
  BlockingPool pool_{"test", 1};
};

TEST_F(FollowingHasherTest, HashesWhatIsWrittenInAnyPieces) {
  for (const std::size_t piece : {100'000UL, 262'144UL, 3'000'000UL, content_.size()}) {
    const auto hasher = follow();
    for (std::size_t at = 0; at < content_.size();) {
      const std::size_t to = std::min(at + piece, content_.size());
      write(at, to);
      hasher->advance(to);
      at = to;
    }
    EXPECT_EQ(hasher->finish(content_.size()), digest(content_.size())) << piece;
  }
}

TEST_F(FollowingHasherTest, GoesOnWhereAnotherHasBegun) {
  for (const std::size_t size : {0UL, 1UL, 1'000'000UL, 5'000'000UL}) {
    const auto hasher = follow(size);
    EXPECT_EQ(hasher->finish(size), digest(size)) << size;
    const auto another = follow(size);
    write(size, content_.size());
    another->advance(content_.size());
    EXPECT_EQ(another->finish(content_.size()), digest(content_.size())) << size;
  }
}

// With a pool that never comes to it, all is up to the writer.
TEST_F(FollowingHasherTest, DoesNotNeedTheOtherThread) {
  std::promise<void> end;
  pool_.submit([ended = end.get_future().share()] { ended.wait(); });
  const auto hasher = follow();
  write(0, content_.size());
  hasher->advance(content_.size());
  EXPECT_EQ(hasher->finish(content_.size()), digest(content_.size()));
  end.set_value();
}

TEST_F(FollowingHasherTest, TellsOfAFileThatIsShorterThanItShouldBe) {
  const auto hasher = follow();
  write(0, 2'000'000);
  hasher->advance(2'000'000);
  ASSERT_EQ(::ftruncate(file_->get(), 1'000'000), 0);
  const Result<Sha256Digest> finished = hasher->finish(3'000'000);
  ASSERT_FALSE(finished);
  EXPECT_EQ(finished.error().http_status, 500);
}

TEST_F(FollowingHasherTest, LeavesNothingRunningForSomebodyWhoHasLeft) {
  std::weak_ptr<FollowingHasher> seen;
  {
    const auto hasher = follow();
    seen = hasher;
    write(0, content_.size());
    hasher->advance(content_.size());
    hasher->abandon();
  }
  std::promise<void> done;
  pool_.submit([&] { done.set_value(); });
  done.get_future().wait();
  EXPECT_TRUE(seen.expired());
}

}  // namespace
}  // namespace sluice::repository
