// SPDX-License-Identifier: Apache-2.0
#include "blobs/folder_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <random>

#include "base/faulty_file_system_test.h"
#include "base/temporary_directory_test.h"
#include "blobs/blob_store_contract_test.h"

namespace sluice::blobs {
namespace {

using Call = FaultyFileSystem::Call;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::map<std::string, std::string> files_below(const std::string& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream in(entry.path(), std::ios::binary);
    files[entry.path().filename().string()] = {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  }
  return files;
}

struct FolderStoreMaker {
  Result<std::unique_ptr<BlobStore>> open() { return open_folder_store(fs, random, directory.path()); }
  std::size_t count_blobs() const { return files_below(directory / "blobs").size(); }

  TemporaryDirectory directory{TemporaryDirectory::in_memory()};
  PosixFileSystem fs;
  SystemRandom random;
};

INSTANTIATE_TYPED_TEST_SUITE_P(FolderStore, BlobStoreContract, FolderStoreMaker);

class FolderStoreTest : public ::testing::Test {
 protected:
  static Sha256Digest digest() { return sha256("content"); }

  void open() {
    auto opened = open_folder_store(fs_, random_, directory_.path());
    ASSERT_TRUE(opened) << opened.error().message;
    store_ = std::move(*opened);
  }
  std::unique_ptr<SpoolFile> receive(std::string_view content = "content") {
    auto file = store_->create_spool();
    EXPECT_TRUE(file && store_->write_at(**file, std::as_bytes(std::span(content)), 0));
    return std::move(*file);
  }
  std::unique_ptr<SpoolFile> hold(std::string_view content = "content") {
    const auto bytes = std::as_bytes(std::span(content));
    return store_->hold({bytes.begin(), bytes.end()});
  }
  std::map<std::string, std::string> spool() const { return files_below(directory_ / "spool"); }
  std::map<std::string, std::string> blobs() const { return files_below(directory_ / "blobs"); }

  TemporaryDirectory directory_{TemporaryDirectory::in_memory()};
  PosixFileSystem real_;
  FaultyFileSystem fs_{real_, directory_.path()};
  SystemRandom random_;
  std::unique_ptr<BlobStore> store_;
};

TEST_F(FolderStoreTest, LaysOutItsFolder) {
  open();
  const auto file = receive();
  ASSERT_THAT(spool(), SizeIs(1));
  const std::string id = spool().begin()->first;
  EXPECT_EQ(id.size(), 22u);

  ASSERT_TRUE(store_->publish(*file, digest()));
  EXPECT_TRUE(std::filesystem::exists(directory_ / ("spool/" + digest().to_hex() + "." + id)));
  EXPECT_TRUE(std::filesystem::exists(directory_ / ("blobs/ed/" + digest().to_hex())));

  store_->settle(*file);
  EXPECT_THAT(spool(), SizeIs(1));
  store_->tidy(kNobodyRefers);
  EXPECT_THAT(spool(), IsEmpty());
  EXPECT_THAT(blobs(), ElementsAre(std::pair(digest().to_hex(), "content")));
}

TEST_F(FolderStoreTest, MakesTheFileOfWhatWasHeldAsAMark) {
  open();
  const auto file = hold();
  EXPECT_THAT(spool(), IsEmpty());
  ASSERT_TRUE(store_->publish(*file, digest()));
  EXPECT_EQ(fs_.count(Call::kRename), 0u);
  ASSERT_THAT(spool(), SizeIs(1));
  EXPECT_TRUE(spool().begin()->first.starts_with(digest().to_hex() + "."));
  EXPECT_EQ(spool().begin()->first.size(), 64u + 1 + 22);
  EXPECT_THAT(blobs(), ElementsAre(std::pair(digest().to_hex(), "content")));
  store_->settle(*file);
  store_->tidy(kNobodyRefers);
  EXPECT_THAT(spool(), IsEmpty());
}

TEST_F(FolderStoreTest, ReplacesADamagedBlobByAnUploadOfTheSameContent) {
  open();
  for (const int upload : {0, 1, 2}) {
    if (upload > 0) std::filesystem::resize_file(directory_ / ("blobs/ed/" + digest().to_hex()), 3);
    const auto file = upload == 2 ? hold() : receive();
    ASSERT_TRUE(store_->publish(*file, digest()));
    store_->settle(*file);
    store_->tidy(kNobodyRefers);
    EXPECT_THAT(spool(), IsEmpty());
    EXPECT_THAT(blobs(), ElementsAre(std::pair(digest().to_hex(), "content")));
  }
}

TEST_F(FolderStoreTest, IsMadeBelowDirectoriesThatDoNotExist) {
  const auto store = open_folder_store(fs_, random_, directory_ / "a/b/store");
  ASSERT_TRUE(store);
  EXPECT_TRUE((*store)->check());
  fs_.drop_unsynced();
  EXPECT_TRUE((*store)->check());
}

TEST_F(FolderStoreTest, CannotBeMadeWhereAFileIs) {
  std::ofstream(directory_ / "file") << "in the way";
  const auto store = open_folder_store(fs_, random_, directory_ / "file");
  ASSERT_FALSE(store);
  EXPECT_EQ(store.error().http_status, 500);
  EXPECT_EQ(store.error().message, "Preparing the blob folder: Not a directory");
}

TEST_F(FolderStoreTest, LeavesForeignNamesInTheSpoolAlone) {
  open();
  std::ofstream(directory_ / "spool/README") << "put here by hand";
  const auto swept = store_->sweep([](const Sha256Digest&) -> Result<bool> { return false; });
  EXPECT_EQ(swept, 0u);
  EXPECT_THAT(spool(), SizeIs(1));
}

TEST_F(FolderStoreTest, AFullDiskIsA507AndTheSpaceComesBack) {
  for (const Call call :
       {Call::kCreate, Call::kWriteAt, Call::kRename, Call::kSync, Call::kSyncDirectory, Call::kLink}) {
    open();
    fs_.fail_call(call, 1, ENOSPC);
    std::optional<Error> error;
    if (auto file = store_->create_spool(); !file) {
      error = file.error();
    } else if (auto written = store_->write_at(**file, std::as_bytes(std::span("content", 7)), 0); !written) {
      error = written.error();
    } else if (auto published = store_->publish(**file, digest()); !published) {
      error = published.error();
    }
    ASSERT_TRUE(error) << static_cast<int>(call);
    EXPECT_EQ(error->http_status, 507) << error->message;
    EXPECT_EQ(error->message.find(directory_.path()), std::string::npos);
    EXPECT_THAT(spool(), IsEmpty()) << static_cast<int>(call);
    EXPECT_THAT(blobs(), IsEmpty()) << static_cast<int>(call);
  }
}

TEST_F(FolderStoreTest, AFullDiskIsA507AndTheSpaceOfWhatWasHeldComesBack) {
  for (const Call call : {Call::kCreate, Call::kWriteAt, Call::kSync, Call::kSyncDirectory, Call::kLink}) {
    open();
    auto file = hold();
    fs_.fail_call(call, 1, ENOSPC);
    const Result<> published = store_->publish(*file, digest());
    ASSERT_FALSE(published) << static_cast<int>(call);
    EXPECT_EQ(published.error().http_status, 507) << published.error().message;
    EXPECT_EQ(published.error().message.find(directory_.path()), std::string::npos);
    file.reset();
    EXPECT_THAT(spool(), IsEmpty()) << static_cast<int>(call);
    EXPECT_THAT(blobs(), IsEmpty()) << static_cast<int>(call);
  }
}

// The link is there, and another upload may have found it: only the catalog can tell whether it may go.
TEST_F(FolderStoreTest, AnErrorAfterTheLinkLeavesTheBlobToTheSweep) {
  open();
  const std::string content(300'000, 'x');  // so large that its name is synced at once
  auto file = receive(content);
  fs_.fail_call(Call::kSyncDirectory, 2, EIO);
  const auto published = store_->publish(*file, sha256(content));
  ASSERT_FALSE(published);
  EXPECT_EQ(published.error().http_status, 500);
  file.reset();
  EXPECT_THAT(blobs(), SizeIs(1));
  EXPECT_EQ(store_->sweep([](const Sha256Digest&) -> Result<bool> { return false; }), 1u);
  EXPECT_THAT(blobs(), IsEmpty());
}

TEST_F(FolderStoreTest, OneThatFailsLeavesTheOthersOfItsGroupBe) {
  for (const auto& [call, is_held] :
       {std::pair(Call::kRename, false), std::pair(Call::kSync, false), std::pair(Call::kLink, false),
        std::pair(Call::kCreate, true), std::pair(Call::kWriteAt, true), std::pair(Call::kSync, true),
        std::pair(Call::kLink, true)}) {
    open();
    std::vector<std::unique_ptr<SpoolFile>> files;
    std::vector<Publication> publications;
    for (const std::string content : {"one", "two", "three"}) {
      files.push_back(is_held ? hold(content) : receive(content));
      publications.push_back({files.back().get(), sha256(content)});
    }
    Publication* const group[] = {&publications[0], &publications[1], &publications[2]};
    fs_.fail_call(call, 2, ENOSPC);
    store_->publish(group);
    EXPECT_TRUE(publications[0].outcome);
    ASSERT_FALSE(publications[1].outcome);
    EXPECT_EQ(publications[1].outcome.error().http_status, 507);
    EXPECT_TRUE(publications[2].outcome);
    files.erase(files.begin() + 1);
    EXPECT_THAT(spool(), SizeIs(2)) << "the one that failed gives its space back at once";
    EXPECT_THAT(blobs(), SizeIs(2));
    for (const auto& file : files) store_->discard(*file, [](const Sha256Digest&) -> Result<bool> { return false; });
    EXPECT_THAT(blobs(), IsEmpty());
  }
}

TEST_F(FolderStoreTest, AGroupSharesTheSyncOfItsMarks) {
  open();
  std::vector<std::unique_ptr<SpoolFile>> files;
  std::vector<Publication> publications;
  publications.reserve(20);
  std::vector<Publication*> group;
  for (int i = 0; i < 20; ++i) {
    files.push_back(receive(std::to_string(i)));
    group.push_back(&publications.emplace_back(files.back().get(), sha256(std::to_string(i))));
  }
  const std::size_t directories_before = fs_.count(Call::kSyncDirectory);
  const std::size_t files_before = fs_.count(Call::kSync);
  store_->publish(group);
  EXPECT_EQ(fs_.count(Call::kSync) - files_before, 20u) << "a file's own sync is never left out";
  EXPECT_EQ(fs_.count(Call::kSyncDirectory) - directories_before, 1u);
}

TEST_F(FolderStoreTest, KeepsTheMarksOfAFolderThatCannotBeSynced) {
  open();
  const auto file = receive();
  ASSERT_TRUE(store_->publish(*file, digest()));
  store_->settle(*file);
  fs_.fail_call(Call::kSyncDirectory, 1, EIO);
  store_->tidy(kNobodyRefers);
  EXPECT_THAT(spool(), SizeIs(1));
  fs_.drop_unsynced();
  EXPECT_EQ(store_->sweep([](const Sha256Digest&) -> Result<bool> { return true; }), 1u);
  EXPECT_THAT(blobs(), ElementsAre(std::pair(digest().to_hex(), "content")));
}

TEST_F(FolderStoreTest, PutsNothingInPlaceThatIsNotWhatItsNameSays) {
  open();
  std::ofstream(directory_ / ("spool/" + digest().to_hex() + ".0123456789012345678901")) << "cont";
  EXPECT_EQ(store_->sweep([](const Sha256Digest&) -> Result<bool> { return true; }), 1u);
  EXPECT_THAT(blobs(), IsEmpty());
}

TEST_F(FolderStoreTest, ADuplicateThatTheCatalogRefusedGivesItsSpaceBackAtOnce) {
  open();
  const auto first = receive();
  ASSERT_TRUE(store_->publish(*first, digest()));
  auto second = receive();
  ASSERT_TRUE(store_->publish(*second, digest()));
  EXPECT_THAT(spool(), SizeIs(2));
  second.reset();
  EXPECT_THAT(spool(), SizeIs(1));
}

TEST_F(FolderStoreTest, TooManyOpenFilesIsA503) {
  open();
  fs_.fail_call(Call::kCreate, 1, EMFILE);
  EXPECT_EQ(store_->create_spool().error().http_status, 503);
  fs_.fail_call(Call::kOpenRead, 1, ENFILE);
  EXPECT_EQ(store_->open(digest()).error().http_status, 503);
}

TEST_F(FolderStoreTest, TheCheckTellsWhatIsBroken) {
  open();
  fs_.fail_call(Call::kCreate, 1, EROFS);
  const auto checked = store_->check();
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().message, "Receiving a file: Read-only file system");
}

// What survives a loss of power by chance. Each costs some seconds, and minutes under the thread sanitizer, which has
// nothing to find where there is one thread.
#ifndef __has_feature
#define __has_feature(feature) 0
#endif
constexpr unsigned kSeeds = __has_feature(thread_sanitizer) ? 1 : 4;

/// Runs uploads, cuts the power after each step in turn, and looks what survived. What the catalog does is on stable
/// storage at once, and it does nothing once the power is off.
class PowerLoss : public ::testing::Test {
 protected:
  /// What a run could be sure of when it ended.
  using Catalog = std::set<Sha256Digest>;
  using Run = std::function<void(BlobStore&, Catalog&)>;
  using Survivors = FaultyFileSystem::Survivors;

  /// How the content comes to the store.
  enum class Way { kReceived, kHeld, kByTurns };

  std::unique_ptr<SpoolFile> receive(BlobStore& store, std::string_view content) {
    const auto bytes = std::as_bytes(std::span(content));
    const bool is_odd = ++received_ % 2 == 1;
    if (way_ == Way::kHeld || (way_ == Way::kByTurns && is_odd)) return store.hold({bytes.begin(), bytes.end()});
    auto file = store.create_spool();
    if (!file) return nullptr;
    // In two parts, so that also half a file is seen.
    if (!store.write_at(**file, bytes.first(3), 0) || !store.write_at(**file, bytes.subspan(3), 3)) return nullptr;
    return std::move(*file);
  }
  std::unique_ptr<SpoolFile> publish(BlobStore& store, std::string_view content) {
    auto file = receive(store, content);
    if (!file || !store.publish(*file, sha256(content))) return nullptr;
    return file;
  }
  void keep(BlobStore& store, Catalog& catalog, std::string_view content) {
    const auto file = publish(store, content);
    if (!file) return;
    catalog.insert(sha256(content));
    store.settle(*file);
    store.tidy(kNobodyRefers);
  }
  void keep_untidied(BlobStore& store, Catalog& catalog, std::string_view content) {
    const auto file = publish(store, content);
    if (!file) return;
    catalog.insert(sha256(content));
    store.settle(*file);
  }
  /// Publishes all together and commits those that went well.
  void keep_group(BlobStore& store, Catalog& catalog, const std::vector<std::string>& contents) {
    std::vector<std::unique_ptr<SpoolFile>> files;
    std::vector<Publication> publications;
    for (const std::string& content : contents) {
      auto file = receive(store, content);
      if (!file) return;
      publications.push_back({file.get(), sha256(content)});
      files.push_back(std::move(file));
    }
    std::vector<Publication*> group;
    for (Publication& publication : publications) group.push_back(&publication);
    store.publish(group);
    for (const Publication& publication : publications) {
      if (!publication.outcome) continue;
      catalog.insert(publication.sha256);
      store.settle(*publication.file);
    }
  }

  /// The catalog forgets it.
  void remove(BlobStore& store, Catalog& catalog, std::string_view content) {
    const auto removal = store.begin_removal(sha256(content));
    if (!removal || !catalog.erase(sha256(content)) || !*removal) return;
    store.finish_removal(**removal);
    store.tidy([&](const Sha256Digest& sha256) { return catalog.contains(sha256); });
  }

  void expect_promise_kept(const Catalog& catalog, const std::string& directory, const std::string& when) {
    std::set<std::string> wanted;
    for (const Sha256Digest& sha256 : catalog) wanted.insert(sha256.to_hex());
    std::set<std::string> found;
    for (const auto& [name, content] : files_below(directory + "/blobs")) {
      found.insert(name);
      EXPECT_EQ(sha256(content).to_hex(), name) << "damaged, " << when;
    }
    EXPECT_EQ(found, wanted) << when;
    EXPECT_THAT(files_below(directory + "/spool"), IsEmpty()) << when;
  }

  // Making the folder anew for each step would be slow.
  static void remove_all_blobs(FaultyFileSystem& fs, const std::string& directory) {
    for (const auto& [name, content] : files_below(directory + "/blobs")) {
      const std::string folder = directory + "/blobs/" + name.substr(0, 2);
      ASSERT_TRUE(fs.remove(folder + '/' + name));
      ASSERT_TRUE(fs.sync_directory(folder));
    }
  }

  void lose_power_at_every_step(const Run& run, const Survivors& survivors, const std::string& how) {
    TemporaryDirectory directory(TemporaryDirectory::in_memory());
    FaultyFileSystem fs(real_, directory.path());
    bool reached_the_end = false;
    for (std::size_t steps = 0; !reached_the_end && !HasFailure(); ++steps) {
      const std::string when = how + ", power lost after step " + std::to_string(steps);
      auto store = *open_folder_store(fs, random_, directory.path());
      remove_all_blobs(fs, directory.path());
      Catalog catalog;
      const std::size_t before = fs.changes();
      received_ = 0;
      fs.cut_power_after(steps);
      run(*store, catalog);
      reached_the_end = fs.changes() - before <= steps;
      store.reset();
      fs.drop_unsynced(survivors);
      sweep_through_power_loss(fs, directory.path(), catalog, survivors, when);
    }
  }

  /// The sweep itself loses power after its first step, then after its second, until it comes to its end.
  void sweep_through_power_loss(FaultyFileSystem& fs, const std::string& directory, const Catalog& catalog,
                                const Survivors& survivors, const std::string& when) {
    for (std::size_t steps = 1;; ++steps) {
      auto store = open_folder_store(fs, random_, directory);
      ASSERT_TRUE(store) << when;
      const std::size_t before = fs.changes();
      fs.cut_power_after(steps);
      const auto swept = (*store)->sweep([&](const Sha256Digest& sha256) { return catalog.contains(sha256); });
      store->reset();
      if (swept && fs.changes() - before < steps) break;
      fs.drop_unsynced(survivors);
    }
    fs.restore_power();
    expect_promise_kept(catalog, directory, when);
  }

  void lose_power_in_many_ways(const Run& run) {
    for (const Way way : {Way::kReceived, Way::kHeld, Way::kByTurns}) {
      way_ = way;
      SCOPED_TRACE("way " + std::to_string(static_cast<int>(way)));
      lose_power_this_way(run);
    }
  }
  void lose_power_this_way(const Run& run) {
    lose_power_at_every_step(run, [](std::size_t) { return std::size_t{0}; }, "nothing unsynced survives");
    lose_power_at_every_step(run, [](std::size_t pending) { return pending; }, "everything survives (kill -9)");
    for (unsigned seed = 0; seed < kSeeds && !HasFailure(); ++seed) {
      std::mt19937 random(seed);
      const auto some = [&](std::size_t pending) { return random() % (pending + 1); };
      lose_power_at_every_step(run, some, "seed " + std::to_string(seed));
    }
  }

  PosixFileSystem real_;
  SystemRandom random_;
  Way way_ = Way::kReceived;
  std::size_t received_ = 0;
};

TEST_F(PowerLoss, AnUploadThatWasCommittedIsThereAndNothingElseIs) {
  lose_power_in_many_ways([this](BlobStore& store, Catalog& catalog) { keep(store, catalog, "content"); });
}

TEST_F(PowerLoss, AnUploadThatTheCatalogDidNotTakeGoes) {
  lose_power_in_many_ways([this](BlobStore& store, Catalog&) { publish(store, "content"); });
}

TEST_F(PowerLoss, AnUploadThatBreaksOffGoes) {
  lose_power_in_many_ways([this](BlobStore& store, Catalog&) { receive(store, "content"); });
}

TEST_F(PowerLoss, TheSecondOfTwoEqualUploadsIsTaken) {
  lose_power_in_many_ways([this](BlobStore& store, Catalog& catalog) {
    const auto refused = publish(store, "content");
    keep(store, catalog, "content");
  });
}

TEST_F(PowerLoss, TheFirstOfTwoEqualUploadsIsTaken) {
  lose_power_in_many_ways([this](BlobStore& store, Catalog& catalog) {
    const auto first = receive(store, "content");
    const auto refused = receive(store, "content");
    if (!first || !store.publish(*first, sha256("content"))) return;
    if (!refused || !store.publish(*refused, sha256("content"))) return;
    catalog.insert(sha256("content"));
    store.settle(*first);
  });
}

TEST_F(PowerLoss, AnOlderUploadOfEqualContentStays) {
  lose_power_in_many_ways([this](BlobStore& store, Catalog& catalog) {
    keep(store, catalog, "content");
    publish(store, "content");
    keep(store, catalog, "other");
  });
}

TEST_F(PowerLoss, ALargeUploadThatWasCommittedIsThere) {
  const std::string content(300'000, 'x');
  lose_power_in_many_ways([&](BlobStore& store, Catalog& catalog) { keep(store, catalog, content); });
}

TEST_F(PowerLoss, WhatWasNeverTidiedIsThere) {
  lose_power_in_many_ways([this](BlobStore& store, Catalog& catalog) {
    keep_untidied(store, catalog, "content");
    keep_untidied(store, catalog, "other");
    keep_untidied(store, catalog, "content");
  });
}

TEST_F(PowerLoss, EqualContentUnderWayDoesNotHarmWhatWasNeverTidied) {
  lose_power_in_many_ways([this](BlobStore& store, Catalog& catalog) {
    keep_untidied(store, catalog, "content");
    publish(store, "content");
  });
}

TEST_F(PowerLoss, DiscardingEqualContentDoesNotHarmWhatWasNeverTidied) {
  lose_power_in_many_ways([this](BlobStore& store, Catalog& catalog) {
    const auto discarded = publish(store, "content");
    keep_untidied(store, catalog, "content");
    if (!discarded) return;
    store.discard(*discarded, [&](const Sha256Digest& sha256) { return catalog.contains(sha256); });
    store.tidy(kNobodyRefers);
  });
}

TEST_F(PowerLoss, WhatWasRemovedDoesNotComeBack) {
  lose_power_in_many_ways([this](BlobStore& store, Catalog& catalog) {
    keep(store, catalog, "content");
    keep_untidied(store, catalog, "other");
    remove(store, catalog, "content");
    remove(store, catalog, "other");
  });
}

TEST_F(PowerLoss, WhatComesAgainAfterItWasRemovedIsThere) {
  lose_power_in_many_ways([this](BlobStore& store, Catalog& catalog) {
    keep(store, catalog, "content");
    remove(store, catalog, "content");
    keep(store, catalog, "content");
  });
}

TEST_F(PowerLoss, EqualContentUnderWayOutlivesARemoval) {
  lose_power_in_many_ways([this](BlobStore& store, Catalog& catalog) {
    keep(store, catalog, "content");
    const auto uploaded = publish(store, "content");
    remove(store, catalog, "content");
    if (!uploaded) return;
    catalog.insert(sha256("content"));
    store.settle(*uploaded);
    store.tidy([&](const Sha256Digest& sha256) { return catalog.contains(sha256); });
  });
}

TEST_F(PowerLoss, OfAGroupIsThereWhatWasCommittedAndNothingElse) {
  lose_power_in_many_ways([this](BlobStore& store, Catalog& catalog) {
    keep_group(store, catalog, {"one", "two", "same", "same"});
    store.tidy(kNobodyRefers);
  });
}

TEST_F(PowerLoss, TheNextGroupDoesNotHarmTheOneBeforeIt) {
  lose_power_in_many_ways([this](BlobStore& store, Catalog& catalog) {
    keep_group(store, catalog, {"one", "same"});
    keep_group(store, catalog, {"two", "same"});
    store.tidy(kNobodyRefers);
    keep_group(store, catalog, {"three", "one"});
  });
}

TEST_F(PowerLoss, DoesNotTakeABlobThatAnotherUploadLinkedButCouldNotSync) {
  const std::string content(300'000, 'x');  // so large that its name is synced at once
  TemporaryDirectory directory(TemporaryDirectory::in_memory());
  FaultyFileSystem fs(real_, directory.path());
  auto store = *open_folder_store(fs, random_, directory.path());
  fs.fail_call(Call::kSyncDirectory, 2, EIO);
  ASSERT_FALSE(publish(*store, content));
  Catalog catalog;
  keep(*store, catalog, content);
  ASSERT_EQ(catalog.size(), 1u);
  fs.drop_unsynced();
  EXPECT_EQ(files_below(directory / "blobs").size(), 1u);
}

TEST_F(PowerLoss, WhileTheFolderIsMadeLeavesAFolderThatCanBeOpened) {
  TemporaryDirectory directory(TemporaryDirectory::in_memory());
  for (const std::size_t steps : {0u, 1u, 100u, 255u, 256u, 257u, 258u, 259u, 260u, 261u}) {
    const std::string path = directory / std::to_string(steps) + "/store";
    FaultyFileSystem fs(real_, directory.path());
    fs.cut_power_after(steps);
    (void)open_folder_store(fs, random_, path);
    fs.drop_unsynced();
    auto store = open_folder_store(fs, random_, path);
    ASSERT_TRUE(store) << steps;
    Catalog catalog;
    keep(**store, catalog, "content");
    fs.drop_unsynced();
    EXPECT_EQ(files_below(path + "/blobs").size(), 1u) << steps;
  }
}

}  // namespace
}  // namespace sluice::blobs
