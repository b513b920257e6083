// SPDX-License-Identifier: Apache-2.0
#include "repository/stored_cache.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

namespace sluice::repository {
namespace {

Mxc id(int number) { return *Mxc::of("example.org", fmt::format("id{}", number)); }

std::shared_ptr<const StoredFile> stored(int number, std::uint64_t attempt = 1) {
  return std::make_shared<const StoredFile>(
      StoredFile{{.mxc = id(number), .attempt = attempt}, std::make_shared<const FileDescriptor>()});
}

bool is_open(StoredCache& cache, int number) {
  const auto found = cache.find(id(number));
  return found && found->file;
}

void keep(StoredCache& cache, int number, std::uint64_t attempt = 1) {
  cache.keep(stored(number, attempt), cache.now(id(number)));
}

TEST(StoredCache, FindsWhatItKeeps) {
  StoredCache cache(100, 100);
  EXPECT_EQ(cache.find(id(1)), nullptr);
  keep(cache, 1);
  ASSERT_NE(cache.find(id(1)), nullptr);
  EXPECT_EQ(cache.find(id(1))->media.mxc, id(1));
  EXPECT_EQ(cache.find(id(2)), nullptr);
  EXPECT_EQ(cache.find(*Mxc::of("elsewhere.org", "id1")), nullptr);
}

TEST(StoredCache, IsBounded) {
  constexpr int kMany = 10'000;
  constexpr int kMax = 160;
  StoredCache cache(kMax, 0);
  for (int i = 0; i < kMany; ++i) keep(cache, i);
  int kept = 0;
  for (int i = 0; i < kMany; ++i) kept += cache.find(id(i)) ? 1 : 0;
  EXPECT_GT(kept, 0);
  EXPECT_LE(kept, kMax);
  EXPECT_NE(cache.find(id(kMany - 1)), nullptr) << "the last is there";
}

TEST(StoredCache, KeepsWhatIsUsed) {
  StoredCache cache(160, 0);
  keep(cache, 0);
  for (int i = 1; i < 10'000; ++i) {
    keep(cache, i);
    EXPECT_NE(cache.find(id(0)), nullptr) << "after " << i;
  }
}

TEST(StoredCache, KeepsNothingWithoutRoom) {
  StoredCache cache(0, 100);
  keep(cache, 1);
  EXPECT_EQ(cache.find(id(1)), nullptr);
}

TEST(StoredCache, ForgetsAtOnce) {
  StoredCache cache(100, 100);
  keep(cache, 1);
  cache.forget(id(1));
  EXPECT_EQ(cache.find(id(1)), nullptr);
  cache.forget(id(2));
  keep(cache, 1);
  EXPECT_NE(cache.find(id(1)), nullptr);
}

TEST(StoredCache, DoesNotKeepWhatWasLookedUpBeforeItWasForgotten) {
  StoredCache cache(100, 100);
  const StoredCache::Moment before = cache.now(id(1));
  cache.forget(id(1));
  cache.keep(stored(1), before);
  EXPECT_EQ(cache.find(id(1)), nullptr);
}

TEST(StoredCache, LetsGoOfFilesThatGiveWay) {
  StoredCache cache(16, 1600);  // one open in each shard
  std::vector<std::weak_ptr<const FileDescriptor>> all;
  for (int i = 0; i < 1000; ++i) {
    const auto file = stored(i);
    all.push_back(file->file);
    cache.keep(file, cache.now(id(i)));
  }
  EXPECT_LE(std::ranges::count_if(all, [](const auto& file) { return !file.expired(); }), 16);
}

TEST(StoredCache, KeepsTheRecordOfAFileThatGaveWay) {
  StoredCache cache(16, 160);
  constexpr int kFew = 50;
  for (int i = 0; i < kFew; ++i) keep(cache, i, 7);
  for (int i = 0; i < kFew; ++i) {
    const auto found = cache.find(id(i));
    ASSERT_NE(found, nullptr);
    EXPECT_EQ(found->media.attempt, 7u);
  }
  int open = 0;
  for (int i = 0; i < kFew; ++i) open += is_open(cache, i) ? 1 : 0;
  EXPECT_LE(open, 16);
}

TEST(StoredCache, BoundsTheRecords) {
  StoredCache cache(16, 160);
  constexpr int kMany = 10'000;
  for (int i = 0; i < kMany; ++i) keep(cache, i);
  int kept = 0;
  for (int i = 0; i < kMany; ++i) kept += cache.find(id(i)) ? 1 : 0;
  EXPECT_EQ(kept, 16 + 160);
}

TEST(StoredCache, ARecordWhoseFileIsOpenedAgainIsOpen) {
  StoredCache cache(16, 1600);
  for (int i = 0; i < 100; ++i) keep(cache, i);
  for (int i = 0; i < 100; ++i) {
    keep(cache, i);
    EXPECT_TRUE(is_open(cache, i));
  }
}

TEST(StoredCache, ForgetsARecordAsItForgetsAFile) {
  StoredCache cache(16, 1600);
  for (int i = 0; i < 100; ++i) keep(cache, i);
  for (int i = 0; i < 100; ++i) {
    cache.forget(id(i));
    EXPECT_EQ(cache.find(id(i)), nullptr);
  }
}

// What a "catalog" says is one number per id, which deletions raise; nobody may find an older one after a deletion.
TEST(StoredCache, IsExactUnderConcurrency) {
  constexpr int kIds = 4;
  StoredCache cache(100, 100);
  std::array<std::atomic<std::uint64_t>, kIds> catalog{};
  std::atomic<bool> done = false;
  std::vector<std::jthread> readers;
  for (int reader = 0; reader < 2; ++reader) {
    readers.emplace_back([&] {
      for (int i = 0; !done; i = (i + 1) % kIds) {
        const std::uint64_t least = catalog[static_cast<std::size_t>(i)].load();
        if (const auto found = cache.find(id(i))) {
          // A deletion bumps the catalog first and forgets then, so what is found may be one behind, in between.
          ASSERT_GE(found->media.attempt + 1, least);
          continue;
        }
        const StoredCache::Moment moment = cache.now(id(i));
        cache.keep(stored(i, catalog[static_cast<std::size_t>(i)].load()), moment);
      }
    });
  }
  for (int round = 0; round < 20'000; ++round) {
    const int i = round % kIds;
    const std::uint64_t deleted = ++catalog[static_cast<std::size_t>(i)];
    cache.forget(id(i));
    if (const auto found = cache.find(id(i))) {
      ASSERT_EQ(found->media.attempt, deleted);
    }
  }
  done = true;
}

TEST(StoredCache, ForgetsAllThatHasAContent) {
  StoredCache cache(320, 1000);
  const auto is_bad = [](int number) { return number % 2 == 0; };
  const auto with_content = [&](int number) {
    const Sha256Digest sha256 = sluice::sha256(is_bad(number) ? "bad" : "good");
    return std::make_shared<const StoredFile>(
        StoredFile{{.mxc = id(number), .sha256 = sha256}, std::make_shared<const FileDescriptor>()});
  };
  std::vector<StoredCache::Moment> before;
  for (int i = 0; i < 40; ++i) {
    before.push_back(cache.now(id(i)));
    cache.keep(with_content(i), before.back());
  }
  cache.forget_contents(std::vector{sha256("of nobody"), sha256("bad")});
  for (int i = 0; i < 40; ++i) EXPECT_EQ(cache.find(id(i)) == nullptr, is_bad(i)) << i;
  cache.keep(with_content(0), before[0]);
  EXPECT_EQ(cache.find(id(0)), nullptr) << "what was looked up before is not kept after";
}

}  // namespace
}  // namespace sluice::repository
