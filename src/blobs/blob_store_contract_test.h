// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <latch>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "blobs/blob_store.h"

namespace sluice::blobs {

inline std::string read_all(const FileDescriptor& file) {
  std::string content;
  std::string chunk(4096, '\0');
  for (;;) {
    const ssize_t got = ::pread(file.get(), chunk.data(), chunk.size(), static_cast<off_t>(content.size()));
    if (got <= 0) return content;
    content.append(chunk, 0, static_cast<std::size_t>(got));
  }
}

/// A catalog that is empty.
inline const IsReferenced kNobodyRefers = [](const Sha256Digest&) -> Result<bool> { return false; };

/// What every BlobStore promises. `Maker` is default-constructed for each test and provides
///   Result<std::unique_ptr<BlobStore>> open();  // opened again, the store finds what was there
///   std::size_t count_blobs();                  // how many contents it keeps
template <class Maker>
class BlobStoreContract : public ::testing::Test {
 protected:
  BlobStoreContract() { reopen(); }

  void reopen() {
    store_.reset();
    auto opened = maker_.open();
    if (!opened) throw std::runtime_error(opened.error().message);
    store_ = std::move(*opened);
  }

  std::unique_ptr<SpoolFile> receive(std::string_view content) {
    auto file = store_->create_spool();
    EXPECT_TRUE(file) << file.error().message;
    EXPECT_TRUE(store_->write_at(**file, std::as_bytes(std::span(content)), 0));
    return std::move(*file);
  }
  std::unique_ptr<SpoolFile> hold(std::string_view content) {
    const auto bytes = std::as_bytes(std::span(content));
    return store_->hold({bytes.begin(), bytes.end()});
  }
  std::unique_ptr<SpoolFile> publish(std::string_view content) { return publish(receive(content), content); }
  std::unique_ptr<SpoolFile> publish(std::unique_ptr<SpoolFile> file, std::string_view content) {
    const Result<> published = store_->publish(*file, sha256(content));
    EXPECT_TRUE(published) << published.error().message;
    return file;
  }
  void keep(std::string_view content) {
    const auto file = publish(content);
    committed_.insert(sha256(content));
    store_->settle(*file);
    store_->tidy(kNobodyRefers);
  }
  void discard(SpoolFile& file) { store_->discard(file, is_committed_); }
  /// What a catalog does that forgets the only media of a content.
  void remove(std::string_view content) {
    const auto removal = store_->begin_removal(sha256(content));
    ASSERT_TRUE(removal) << removal.error().message;
    committed_.erase(sha256(content));
    if (*removal) store_->finish_removal(**removal);
  }
  bool tidy() { return store_->tidy(is_committed_); }
  std::size_t sweep() {
    const auto removed = store_->sweep(is_committed_);
    EXPECT_TRUE(removed) << removed.error().message;
    return removed.value_or(0);
  }
  std::string content_of(const Sha256Digest& sha256) {
    const auto file = store_->open(sha256);
    return file ? read_all(**file) : file.error().errcode;
  }

  Maker maker_;
  std::unique_ptr<BlobStore> store_;
  std::set<Sha256Digest> committed_;  // what a catalog would refer to
  const IsReferenced is_committed_ = [this](const Sha256Digest& sha256) { return committed_.contains(sha256); };
};

TYPED_TEST_SUITE_P(BlobStoreContract);

TYPED_TEST_P(BlobStoreContract, KeepsWhatWasPublished) {
  auto file = this->store_->create_spool();
  ASSERT_TRUE(file);
  const std::string big(300'000, 'x');
  ASSERT_TRUE(this->store_->write_at(**file, std::as_bytes(std::span("begin", 5)), 0));
  ASSERT_TRUE(this->store_->write_at(**file, std::as_bytes(std::span(big)), 5));
  ASSERT_TRUE(this->store_->publish(**file, sha256("begin" + big)));
  EXPECT_EQ(this->content_of(sha256("begin" + big)), "begin" + big);
  this->store_->settle(**file);
  file->reset();
  EXPECT_EQ(this->content_of(sha256("begin" + big)), "begin" + big);
  this->reopen();
  EXPECT_EQ(this->content_of(sha256("begin" + big)), "begin" + big);
}

TYPED_TEST_P(BlobStoreContract, KeepsAnEmptyFile) {
  this->keep("");
  EXPECT_EQ(this->content_of(sha256("")), "");
  EXPECT_EQ(this->maker_.count_blobs(), 1u);
}

TYPED_TEST_P(BlobStoreContract, KeepsWhatWasHeld) {
  for (const std::string content : {"held", ""}) {
    auto file = this->hold(content);
    EXPECT_EQ(this->content_of(sha256(content)), "M_NOT_FOUND");
    file = this->publish(std::move(file), content);
    EXPECT_EQ(file->descriptor(), nullptr);
    EXPECT_EQ(this->content_of(sha256(content)), content);
    this->committed_.insert(sha256(content));
    this->store_->settle(*file);
    file.reset();
    this->store_->tidy(kNobodyRefers);
    EXPECT_EQ(this->sweep(), 0u);
    this->reopen();
    EXPECT_EQ(this->content_of(sha256(content)), content);
  }
}

TYPED_TEST_P(BlobStoreContract, WhatWasHeldAndNeverPublishedLeavesNothing) {
  this->hold("held").reset();
  EXPECT_EQ(this->sweep(), 0u);
  EXPECT_EQ(this->maker_.count_blobs(), 0u);
}

TYPED_TEST_P(BlobStoreContract, WhatWasHeldIsDiscardedOrSweptAsAnyOther) {
  const auto discarded = this->publish(this->hold("discarded"), "discarded");
  this->discard(*discarded);
  EXPECT_EQ(this->maker_.count_blobs(), 0u);
  this->publish(this->hold("refused"), "refused").reset();
  this->reopen();
  EXPECT_EQ(this->sweep(), 1u);
  EXPECT_EQ(this->maker_.count_blobs(), 0u);
}

TYPED_TEST_P(BlobStoreContract, WhatWasHeldIsTheSameAsWhatWasReceived) {
  const auto received = this->publish("same");
  const auto held = this->publish(this->hold("same"), "same");
  const auto held_too = this->publish(this->hold("same"), "same");
  EXPECT_EQ(this->maker_.count_blobs(), 1u);
  this->discard(*received);
  this->discard(*held);
  this->committed_.insert(sha256("same"));
  this->store_->settle(*held_too);
  this->store_->tidy(kNobodyRefers);
  EXPECT_EQ(this->content_of(sha256("same")), "same");
}

TYPED_TEST_P(BlobStoreContract, SaysWhatIsMissing) {
  const auto missing = this->store_->open(sha256("never seen"));
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().http_status, 404);
  EXPECT_EQ(missing.error().errcode, "M_NOT_FOUND");
}

TYPED_TEST_P(BlobStoreContract, ShowsNothingBeforeItIsPublished) {
  const auto file = this->receive("half");
  EXPECT_EQ(this->content_of(sha256("half")), "M_NOT_FOUND");
}

TYPED_TEST_P(BlobStoreContract, KeepsEqualContentOnce) {
  this->keep("same");
  this->keep("same");
  this->keep("other");
  EXPECT_EQ(this->maker_.count_blobs(), 2u);
  EXPECT_EQ(this->content_of(sha256("same")), "same");
  EXPECT_EQ(this->sweep(), 0u);
}

TYPED_TEST_P(BlobStoreContract, EqualContentAtTheSameTimeIsKeptOnce) {
  constexpr std::size_t kUploads = 8;
  std::vector<std::unique_ptr<SpoolFile>> files;
  for (std::size_t i = 0; i < kUploads; ++i) files.push_back(this->receive("same"));
  std::latch start(kUploads);
  {
    std::vector<std::jthread> uploads;
    for (auto& file : files) {
      uploads.emplace_back([this, &start, &file] {
        start.arrive_and_wait();
        EXPECT_TRUE(this->store_->publish(*file, sha256("same")));
        EXPECT_EQ(this->content_of(sha256("same")), "same");
        this->store_->settle(*file);
        this->store_->tidy(kNobodyRefers);
      });
    }
  }
  EXPECT_EQ(this->maker_.count_blobs(), 1u);
  EXPECT_EQ(this->sweep(), 0u);
}

TYPED_TEST_P(BlobStoreContract, KeepsWhatWasPublishedTogether) {
  const std::vector<std::string> contents = {"one", "two", "same", "same", "", std::string(300'000, 'x')};
  std::vector<std::unique_ptr<SpoolFile>> files;
  std::vector<Publication> publications;
  for (const std::string& content : contents) {
    files.push_back(files.size() % 2 == 0 ? this->receive(content) : this->hold(content));
    publications.push_back({files.back().get(), sha256(content)});
  }
  std::vector<Publication*> group;
  for (Publication& publication : publications) group.push_back(&publication);
  this->store_->publish(group);
  for (const Publication& publication : publications) {
    EXPECT_TRUE(publication.outcome);
    this->committed_.insert(publication.sha256);
    this->store_->settle(*publication.file);
  }
  this->store_->tidy(kNobodyRefers);
  EXPECT_EQ(this->maker_.count_blobs(), 5u);
  this->reopen();
  EXPECT_EQ(this->sweep(), 0u);
  for (const std::string& content : contents) EXPECT_EQ(this->content_of(sha256(content)), content);
}

TYPED_TEST_P(BlobStoreContract, PublishesNothingTogether) { this->store_->publish(std::span<Publication* const>()); }

TYPED_TEST_P(BlobStoreContract, WhatWasSettledAndNeverTidiedIsThereAfterTheSweep) {
  const auto file = this->publish("content");
  this->committed_.insert(sha256("content"));
  this->store_->settle(*file);
  EXPECT_EQ(this->content_of(sha256("content")), "content");
  this->reopen();
  EXPECT_EQ(this->sweep(), 1u);
  EXPECT_EQ(this->content_of(sha256("content")), "content");
  EXPECT_EQ(this->sweep(), 0u);
}

TYPED_TEST_P(BlobStoreContract, AReaderKeepsTheBytesAfterTheNameIsGone) {
  std::shared_ptr<const FileDescriptor> reader;
  {
    const auto file = this->receive("broken off");
    reader = file->descriptor();
  }
  EXPECT_EQ(read_all(*reader), "broken off");
}

TYPED_TEST_P(BlobStoreContract, AReaderFollowsFromTheSpoolIntoTheStore) {
  auto file = this->publish("whole");
  const auto reader = file->descriptor();
  this->store_->settle(*file);
  file.reset();
  EXPECT_EQ(read_all(*reader), "whole");
}

TYPED_TEST_P(BlobStoreContract, ABrokenUploadLeavesNothing) {
  this->receive("broken off").reset();
  EXPECT_EQ(this->sweep(), 0u);
  EXPECT_EQ(this->maker_.count_blobs(), 0u);
}

TYPED_TEST_P(BlobStoreContract, AnUploadThatTheCatalogDidNotTakeIsSweptAtTheNextStart) {
  this->publish("refused").reset();
  EXPECT_EQ(this->content_of(sha256("refused")), "refused");
  this->reopen();
  EXPECT_EQ(this->sweep(), 1u);
  EXPECT_EQ(this->content_of(sha256("refused")), "M_NOT_FOUND");
  EXPECT_EQ(this->sweep(), 0u);
}

TYPED_TEST_P(BlobStoreContract, AnUploadThatTheCatalogTookAfterAllSurvivesTheSweep) {
  this->publish("commit failed, but is on disk").reset();
  this->committed_.insert(sha256("commit failed, but is on disk"));
  this->reopen();
  EXPECT_EQ(this->sweep(), 1u);
  EXPECT_EQ(this->content_of(sha256("commit failed, but is on disk")), "commit failed, but is on disk");
}

TYPED_TEST_P(BlobStoreContract, ARefusedUploadLeavesEqualContentAlone) {
  auto refused_first = this->publish("same");
  this->keep("same");
  refused_first.reset();
  this->publish("same").reset();
  EXPECT_EQ(this->content_of(sha256("same")), "same");
  this->reopen();
  this->sweep();
  EXPECT_EQ(this->content_of(sha256("same")), "same");
}

TYPED_TEST_P(BlobStoreContract, EqualContentRefusedTwiceIsGoneAfterTheSweep) {
  this->publish("same").reset();
  this->publish("same").reset();
  this->reopen();
  this->sweep();
  EXPECT_EQ(this->maker_.count_blobs(), 0u);
}

TYPED_TEST_P(BlobStoreContract, ADiscardedUploadGivesItsSpaceBackAtOnce) {
  const auto file = this->publish("no room in the catalog");
  this->discard(*file);
  EXPECT_EQ(this->maker_.count_blobs(), 0u);
  EXPECT_EQ(this->sweep(), 0u);
}

TYPED_TEST_P(BlobStoreContract, DiscardingLeavesEqualContentThatIsStored) {
  this->keep("same");
  const auto file = this->publish("same");
  this->discard(*file);
  EXPECT_EQ(this->content_of(sha256("same")), "same");
}

TYPED_TEST_P(BlobStoreContract, DiscardingLeavesEqualContentThatIsOnItsWay) {
  const auto discarded = this->publish("same");
  const auto on_its_way = this->publish("same");
  this->discard(*discarded);
  this->committed_.insert(sha256("same"));
  this->store_->settle(*on_its_way);
  EXPECT_EQ(this->content_of(sha256("same")), "same");
  this->reopen();
  this->sweep();
  EXPECT_EQ(this->content_of(sha256("same")), "same");
}

TYPED_TEST_P(BlobStoreContract, TheLastOfSeveralToBeDiscardedTakesTheContentAlong) {
  const auto first = this->publish("same");
  auto second = this->publish("same");
  auto third = this->publish("same");
  this->discard(*first);
  third.reset();
  this->discard(*second);
  EXPECT_EQ(this->maker_.count_blobs(), 0u);
}

TYPED_TEST_P(BlobStoreContract, ReadersAtTheSameTimeShareADescriptor) {
  this->keep("read by many");
  const auto first = this->store_->open(sha256("read by many"));
  const auto second = this->store_->open(sha256("read by many"));
  ASSERT_TRUE(first && second);
  EXPECT_EQ((*first)->get(), (*second)->get());
}

TYPED_TEST_P(BlobStoreContract, ASweepThatCannotAskRemovesNothing) {
  this->publish("unknown").reset();
  this->reopen();
  const auto swept =
      this->store_->sweep([](const Sha256Digest&) -> Result<bool> { return fail::internal("the catalog is broken"); });
  ASSERT_FALSE(swept);
  EXPECT_EQ(swept.error().message, "the catalog is broken");
  EXPECT_EQ(this->content_of(sha256("unknown")), "unknown");
  EXPECT_EQ(this->sweep(), 1u);
}

// ---- removing ----

TYPED_TEST_P(BlobStoreContract, WhatIsRemovedIsGone) {
  this->keep("content");
  this->keep("other");
  this->remove("content");
  EXPECT_EQ(this->content_of(sha256("content")), "content") << "before it is tidied";
  EXPECT_FALSE(this->tidy());
  EXPECT_EQ(this->content_of(sha256("content")), "M_NOT_FOUND");
  EXPECT_EQ(this->content_of(sha256("other")), "other");
  EXPECT_EQ(this->maker_.count_blobs(), 1u);
  EXPECT_EQ(this->sweep(), 0u);
  this->keep("content");
  EXPECT_EQ(this->content_of(sha256("content")), "content") << "it may come again";
}

TYPED_TEST_P(BlobStoreContract, WhoReadsKeepsTheBytesOfWhatIsRemoved) {
  this->keep("content");
  const auto reader = *this->store_->open(sha256("content"));
  this->remove("content");
  EXPECT_FALSE(this->tidy());
  EXPECT_EQ(read_all(*reader), "content");
  EXPECT_EQ(this->content_of(sha256("content")), "M_NOT_FOUND") << "the reader's file is not handed out any more";
}

TYPED_TEST_P(BlobStoreContract, WhatSomebodyStillRefersToIsNotRemoved) {
  this->keep("content");
  this->remove("content");
  this->committed_.insert(sha256("content"));
  EXPECT_FALSE(this->tidy());
  EXPECT_EQ(this->content_of(sha256("content")), "content");
  EXPECT_EQ(this->sweep(), 0u);
}

TYPED_TEST_P(BlobStoreContract, EqualContentRemovedTwiceAtOnceIsGone) {
  this->keep("content");
  this->remove("content");
  this->remove("content");
  EXPECT_FALSE(this->tidy());
  EXPECT_EQ(this->maker_.count_blobs(), 0u);
  EXPECT_EQ(this->sweep(), 0u);
}

TYPED_TEST_P(BlobStoreContract, WhatIsRemovedRightAfterItWasSettledIsGone) {
  const auto file = this->publish("content");
  this->store_->settle(*file);
  this->remove("content");
  EXPECT_FALSE(this->tidy());
  EXPECT_EQ(this->maker_.count_blobs(), 0u);
}

TYPED_TEST_P(BlobStoreContract, ARemovalWaitsForAnUploadOfEqualContent) {
  this->keep("content");
  const auto uploaded = this->publish("content");
  this->remove("content");
  EXPECT_TRUE(this->tidy());
  EXPECT_EQ(this->content_of(sha256("content")), "content");
  this->committed_.insert(sha256("content"));
  this->store_->settle(*uploaded);
  EXPECT_FALSE(this->tidy());
  EXPECT_EQ(this->content_of(sha256("content")), "content");
  EXPECT_EQ(this->sweep(), 0u);
}

TYPED_TEST_P(BlobStoreContract, ARemovalWaitsForAnUploadThatIsThenDiscarded) {
  this->keep("content");
  const auto refused = this->publish("content");
  this->remove("content");
  EXPECT_TRUE(this->tidy());
  this->discard(*refused);
  EXPECT_FALSE(this->tidy());
  EXPECT_EQ(this->maker_.count_blobs(), 0u);
  EXPECT_EQ(this->sweep(), 0u);
}

TYPED_TEST_P(BlobStoreContract, ARemovalThatIsNotFinishedIsDecidedByTheSweep) {
  for (const bool was_forgotten : {false, true}) {
    this->keep("content");
    ASSERT_TRUE(this->store_->begin_removal(sha256("content")));
    if (was_forgotten) this->committed_.clear();
    this->tidy();
    EXPECT_EQ(this->content_of(sha256("content")), "content");
    this->reopen();
    EXPECT_EQ(this->sweep(), 1u);
    EXPECT_EQ(this->content_of(sha256("content")), was_forgotten ? "M_NOT_FOUND" : "content");
  }
}

TYPED_TEST_P(BlobStoreContract, WhatIsMissingNeedsNoRemoval) {
  const auto removal = this->store_->begin_removal(sha256("nothing"));
  ASSERT_TRUE(removal);
  EXPECT_EQ(*removal, nullptr);
}

TYPED_TEST_P(BlobStoreContract, ARemovalThatCannotAskRemovesNothing) {
  this->keep("content");
  this->remove("content");
  EXPECT_TRUE(this->store_->tidy([](const Sha256Digest&) -> Result<bool> { return fail::internal("broken"); }));
  EXPECT_EQ(this->content_of(sha256("content")), "content");
  EXPECT_FALSE(this->tidy());
  EXPECT_EQ(this->maker_.count_blobs(), 0u);
}

// Uploads and removals of one content by many threads: whoever was told that it is stored finds it.
TYPED_TEST_P(BlobStoreContract, RemovingAndUploadingEqualContentAtTheSameTimeLosesNothing) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 100;
  std::mutex mutex;
  int references = 0;
  const IsReferenced is_referenced = [&](const Sha256Digest&) -> Result<bool> {
    const std::lock_guard lock(mutex);
    return references > 0;
  };
  std::vector<std::jthread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < kRounds; ++round) {
        const auto file = this->publish("content");
        {
          const std::lock_guard lock(mutex);
          ++references;
        }
        this->store_->settle(*file);
        if (round % 2 == 0) this->store_->tidy(is_referenced);
        ASSERT_EQ(this->content_of(sha256("content")), "content");
        const auto removal = this->store_->begin_removal(sha256("content"));
        ASSERT_TRUE(removal && *removal);
        {
          const std::lock_guard lock(mutex);
          --references;
        }
        this->store_->finish_removal(**removal);
        if (round % 3 == 0) this->store_->tidy(is_referenced);
      }
    });
  }
  threads.clear();
  EXPECT_FALSE(this->store_->tidy(is_referenced));
  EXPECT_EQ(this->maker_.count_blobs(), 0u);
  EXPECT_EQ(this->sweep(), 0u);
}

TYPED_TEST_P(BlobStoreContract, TheCheckLeavesNothing) {
  EXPECT_TRUE(this->store_->check());
  EXPECT_EQ(this->sweep(), 0u);
}

REGISTER_TYPED_TEST_SUITE_P(BlobStoreContract, KeepsWhatWasPublished, KeepsAnEmptyFile, KeepsWhatWasHeld,
                            WhatWasHeldAndNeverPublishedLeavesNothing, WhatWasHeldIsDiscardedOrSweptAsAnyOther,
                            WhatWasHeldIsTheSameAsWhatWasReceived, SaysWhatIsMissing, ShowsNothingBeforeItIsPublished,
                            KeepsEqualContentOnce, EqualContentAtTheSameTimeIsKeptOnce, KeepsWhatWasPublishedTogether,
                            PublishesNothingTogether, WhatWasSettledAndNeverTidiedIsThereAfterTheSweep,
                            AReaderKeepsTheBytesAfterTheNameIsGone, AReaderFollowsFromTheSpoolIntoTheStore,
                            ABrokenUploadLeavesNothing, AnUploadThatTheCatalogDidNotTakeIsSweptAtTheNextStart,
                            AnUploadThatTheCatalogTookAfterAllSurvivesTheSweep, ARefusedUploadLeavesEqualContentAlone,
                            EqualContentRefusedTwiceIsGoneAfterTheSweep, ADiscardedUploadGivesItsSpaceBackAtOnce,
                            DiscardingLeavesEqualContentThatIsStored, DiscardingLeavesEqualContentThatIsOnItsWay,
                            TheLastOfSeveralToBeDiscardedTakesTheContentAlong, ReadersAtTheSameTimeShareADescriptor,
                            ASweepThatCannotAskRemovesNothing, WhatIsRemovedIsGone,
                            WhoReadsKeepsTheBytesOfWhatIsRemoved, WhatSomebodyStillRefersToIsNotRemoved,
                            EqualContentRemovedTwiceAtOnceIsGone, WhatIsRemovedRightAfterItWasSettledIsGone,
                            ARemovalWaitsForAnUploadOfEqualContent, ARemovalWaitsForAnUploadThatIsThenDiscarded,
                            ARemovalThatIsNotFinishedIsDecidedByTheSweep, WhatIsMissingNeedsNoRemoval,
                            ARemovalThatCannotAskRemovesNothing,
                            RemovingAndUploadingEqualContentAtTheSameTimeLosesNothing, TheCheckLeavesNothing);

}  // namespace sluice::blobs
