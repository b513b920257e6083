// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "catalog/catalog_contract_test.h"

namespace sluice::catalog {

/// What every Catalog promises of what is stored already: removing, quarantine, usage. As CatalogContract.
template <class Maker>
class StoredMediaContract : public CatalogContract<Maker> {};

TYPED_TEST_SUITE_P(StoredMediaContract);

// ---- removing ----

TYPED_TEST_P(StoredMediaContract, RemovesWhatIsReservedOrStored) {
  this->reserve(this->reservation("a"));
  this->store(this->stored("b"));
  for (const char* id : {"a", "b"}) {
    EXPECT_EQ(this->catalog_->remove(this->find(this->mxc(id))), true);
    this->reopen();
    EXPECT_FALSE(this->find(this->mxc(id)).reservation);
    EXPECT_FALSE(this->find(this->mxc(id)).stored);
  }
  EXPECT_EQ(this->catalog_->refers_to(sha256("content")), false);
}

TYPED_TEST_P(StoredMediaContract, RemovesNothingThatIsNotAsItWasFound) {
  this->reserve(this->reservation("a"));
  const Record reserved = this->find(this->mxc("a"));
  this->store(this->stored("a"));
  EXPECT_EQ(this->catalog_->remove(reserved), false);
  const Record stored = this->find(this->mxc("a"));
  ASSERT_TRUE(stored.stored);
  EXPECT_EQ(this->catalog_->remove(stored), true);
  EXPECT_EQ(this->catalog_->remove(stored), false);
  EXPECT_EQ(this->catalog_->remove(Record{}), false);
}

TYPED_TEST_P(StoredMediaContract, ARemovedReservationIsPendingNoMore) {
  this->reserve(this->reservation("a"));
  EXPECT_FALSE(this->catalog_->reserve(this->reservation("b"), 1));
  ASSERT_EQ(this->catalog_->remove(this->find(this->mxc("a"))), true);
  EXPECT_TRUE(this->catalog_->reserve(this->reservation("b"), 1));
}

// ---- quarantine ----

TYPED_TEST_P(StoredMediaContract, HidesAllThatHasAQuarantinedContent) {
  for (const char* id : {"a", "b"}) this->store(this->stored(id, "bad"));
  this->store(this->stored("c", "good"));
  const std::vector contents{sha256("bad"), sha256("of nobody")};
  EXPECT_EQ(this->catalog_->quarantine(contents), 2u);
  EXPECT_EQ(this->catalog_->quarantine(contents), 0u) << "they were hidden before";
  this->reopen();
  EXPECT_TRUE(this->find(this->mxc("a")).is_quarantined);
  EXPECT_TRUE(this->find(this->mxc("b")).is_quarantined);
  EXPECT_TRUE(this->find(this->mxc("b")).stored) << "it is not removed";
  EXPECT_FALSE(this->find(this->mxc("c")).is_quarantined);
  EXPECT_EQ(this->catalog_->refers_to(sha256("bad")), true);
  EXPECT_EQ(this->catalog_->release(contents), 2u);
  EXPECT_FALSE(this->find(this->mxc("a")).is_quarantined);
}

TYPED_TEST_P(StoredMediaContract, RefusesWhatIsQuarantinedAlsoAfterAllOfItWasRemoved) {
  this->store(this->stored("a", "bad"));
  this->reserve(this->reservation("b"));
  ASSERT_TRUE(this->catalog_->quarantine(std::vector{sha256("bad")}));
  ASSERT_EQ(this->catalog_->remove(this->find(this->mxc("a"))), true);
  for (const char* id : {"a", "b"}) {
    EXPECT_EQ(this->catalog_->store(this->stored(id, "bad")).error().errcode, "M_FORBIDDEN");
  }
  EXPECT_TRUE(this->find(this->mxc("b")).reservation);
  ASSERT_TRUE(this->catalog_->release(std::vector{sha256("bad")}));
  this->store(this->stored("b", "bad"));
}

TYPED_TEST_P(StoredMediaContract, AReservationIsNeverQuarantined) {
  this->reserve(this->reservation("a"));
  ASSERT_TRUE(this->catalog_->quarantine(std::vector{Sha256Digest()}));
  EXPECT_FALSE(this->find(this->mxc("a")).is_quarantined);
}

TYPED_TEST_P(StoredMediaContract, ListsWhatAUserHasStoredPageByPage) {
  for (int i = 0; i < 10; ++i) {
    StoredMedia media = this->stored("id" + std::to_string(i), std::string(static_cast<std::size_t>(i % 3), 'x'));
    media.stored_at = this->at(i / 2);
    this->store(media);
  }
  StoredMedia of_another = this->stored("other");
  of_another.user = "@bob:example.org";
  this->store(of_another);
  this->reserve(this->reservation("reserved"));
  std::optional<StoredMedia> last;
  std::vector<std::string> ids;
  for (const std::size_t expected : {4u, 4u, 2u, 0u}) {
    const auto page = this->catalog_->stored_by("@alice:example.org", last, 4);
    ASSERT_TRUE(page);
    ASSERT_EQ(page->size(), expected);
    for (const StoredMedia& media : *page) {
      ids.push_back(media.mxc.media_id());
      this->expect_same(media, *this->find(media.mxc).stored);
    }
    if (!page->empty()) last = page->back();
  }
  std::ranges::sort(ids);
  EXPECT_EQ(std::ranges::adjacent_find(ids), ids.end());
  EXPECT_EQ(ids.size(), 10u);
}

// ---- usage ----

TYPED_TEST_P(StoredMediaContract, CountsWhatEachUserHasStored) {
  const auto usage = [this](const char* user) {
    const Usage used = this->catalog_->usage(user).value_or(Usage{99, 99});
    return std::pair(used.files, used.bytes);
  };
  using Pair = std::pair<std::uint64_t, std::uint64_t>;
  EXPECT_EQ(usage("@alice:example.org"), Pair(0, 0));
  this->store(this->stored("a", "12345"));
  this->reserve(this->reservation("b"));
  EXPECT_EQ(usage("@alice:example.org"), Pair(1, 5)) << "what is reserved does not count";
  this->store(this->stored("b", "123"));
  EXPECT_FALSE(this->catalog_->store(this->stored("b", "1234567")));
  StoredMedia of_another = this->stored("c", "12");
  of_another.user = "@bob:example.org";
  this->store(of_another);
  this->reopen();
  EXPECT_EQ(usage("@alice:example.org"), Pair(2, 8));
  EXPECT_EQ(usage("@bob:example.org"), Pair(1, 2));
  ASSERT_TRUE(this->catalog_->remove(this->find(this->mxc("a"))));
  EXPECT_EQ(usage("@alice:example.org"), Pair(1, 3));
  ASSERT_TRUE(this->catalog_->remove(this->find(this->mxc("b"))));
  EXPECT_EQ(usage("@alice:example.org"), Pair(0, 0));
  struct Thrown {};
  EXPECT_THROW((void)this->catalog_->in_one_transaction([&] {
    this->store(this->stored("d"));
    throw Thrown();
  }),
               Thrown);
  EXPECT_EQ(usage("@alice:example.org"), Pair(0, 0));
}

TYPED_TEST_P(StoredMediaContract, StoresNoMoreThanTheAllowance) {
  const Allowance files{.max_files = 2, .max_bytes = {}, .window = {}};
  const Allowance bytes{.max_files = {}, .max_bytes = 10, .window = {}};
  EXPECT_TRUE(this->catalog_->store(this->stored("a", "12345"), files));
  EXPECT_TRUE(this->catalog_->store(this->stored("b", "12345"), bytes));
  for (const Allowance& allowance : {files, bytes}) {
    const Result<> refused = this->catalog_->store(this->stored("c", "1"), allowance);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().http_status, 403);
    EXPECT_EQ(refused.error().errcode, "M_FORBIDDEN");
  }
  EXPECT_FALSE(this->find(this->mxc("c")).stored);
  EXPECT_TRUE(this->catalog_->store(this->stored("c", ""), bytes)) << "nothing more fits";
}

TYPED_TEST_P(StoredMediaContract, TellsHowMuchMoreFits) {
  this->store(this->stored("a", "12345"));
  const auto room = [this](const Usage& wanted, const Allowance& allowance) {
    return this->catalog_->check_room("@alice:example.org", wanted, allowance, this->at(600)).value_or(99);
  };
  EXPECT_EQ(room({1, 2}, {.max_files = {}, .max_bytes = 10, .window = {}}), 3u);
  EXPECT_EQ(room({1, 2}, {.max_files = {}, .max_bytes = 10, .window = Allowance::Window{8, Milliseconds(1000)}}), 1u);
  EXPECT_EQ(room({1, 6}, {.max_files = {}, .max_bytes = 10, .window = {}}), 99u);
  EXPECT_GT(room({1, 6}, {.max_files = 5, .max_bytes = {}, .window = {}}), 1'000'000u);
}

TYPED_TEST_P(StoredMediaContract, WhatWasStoredBeforeTheWindowDoesNotCountInIt) {
  const Allowance allowance{.max_files = {}, .max_bytes = {}, .window = Allowance::Window{10, Milliseconds(100)}};
  const auto store_at = [&](const char* id, std::int64_t time, std::string_view content) {
    StoredMedia media = this->stored(id, content);
    media.stored_at = this->at(time);
    return this->catalog_->store(media, allowance);
  };
  EXPECT_TRUE(store_at("a", 0, "1234"));
  EXPECT_TRUE(store_at("b", 50, "1234"));
  const Result<> refused = store_at("c", 60, "123456");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().errcode, "M_LIMIT_EXCEEDED");
  EXPECT_EQ(refused.error().retry_after, Milliseconds(40)) << "then the first has left the window";
  EXPECT_FALSE(store_at("c", 99, "123456"));
  EXPECT_TRUE(store_at("c", 100, "123456"));
  EXPECT_EQ(store_at("d", 101, "123456789").error().retry_after, Milliseconds(99));
}

TYPED_TEST_P(StoredMediaContract, TheAllowanceIsExactUnderConcurrency) {
  constexpr int kThreads = 8;
  const Allowance allowance{.max_files = 20, .max_bytes = {}, .window = {}};
  std::atomic<int> taken = 0;
  std::vector<std::jthread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < 10; ++i) {
        if (this->catalog_->store(this->stored(std::to_string(thread) + "-" + std::to_string(i)), allowance)) ++taken;
      }
    });
  }
  threads.clear();
  EXPECT_EQ(taken, 20);
  EXPECT_EQ(this->catalog_->usage("@alice:example.org")->files, 20u);
}

REGISTER_TYPED_TEST_SUITE_P(StoredMediaContract, RemovesWhatIsReservedOrStored, RemovesNothingThatIsNotAsItWasFound,
                            ARemovedReservationIsPendingNoMore, HidesAllThatHasAQuarantinedContent,
                            RefusesWhatIsQuarantinedAlsoAfterAllOfItWasRemoved, AReservationIsNeverQuarantined,
                            ListsWhatAUserHasStoredPageByPage, CountsWhatEachUserHasStored,
                            StoresNoMoreThanTheAllowance, TellsHowMuchMoreFits,
                            WhatWasStoredBeforeTheWindowDoesNotCountInIt, TheAllowanceIsExactUnderConcurrency);

}  // namespace sluice::catalog
