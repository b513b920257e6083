// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <future>
#include <latch>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "catalog/catalog.h"

namespace sluice::catalog {

/// What every Catalog promises. `Maker` is default-constructed for each test and provides
///   Result<std::unique_ptr<Catalog>> open();  // opened again, the catalog finds what was there
template <class Maker>
class CatalogContract : public ::testing::Test {
 protected:
  static constexpr std::uint32_t kUnlimited = std::numeric_limits<std::uint32_t>::max();

  CatalogContract() { reopen(); }

  void reopen() {
    catalog_.reset();
    auto opened = maker_.open();
    if (!opened) throw std::runtime_error(opened.error().message);
    catalog_ = std::move(*opened);
  }

  static WallTime at(std::int64_t milliseconds) { return WallTime(Milliseconds(1'700'000'000'000 + milliseconds)); }
  static Mxc mxc(std::string_view id, std::string_view server = "example.org") { return *Mxc::of(server, id); }

  static Reservation reservation(std::string_view id, std::int64_t created = 0, std::int64_t expires = 1000,
                                 std::string_view user = "@alice:example.org") {
    return {.mxc = mxc(id),
            .user = std::string(user),
            .created_at = at(created),
            .expires_at = at(expires),
            .content_type = "",
            .filename = ""};
  }
  static StoredMedia stored(std::string_view id, std::string_view content = "content") {
    return {.mxc = mxc(id),
            .user = "@alice:example.org",
            .created_at = at(0),
            .stored_at = at(500),
            .content_type = "text/plain",
            .filename = "",
            .size = content.size(),
            .sha256 = sha256(content),
            .attempt = 1};
  }

  void reserve(const Reservation& reservation) {
    const Result<> reserved = catalog_->reserve(reservation, kUnlimited);
    ASSERT_TRUE(reserved) << reserved.error().message;
  }
  void store(const StoredMedia& media) {
    const Result<> done = catalog_->store(media);
    ASSERT_TRUE(done) << done.error().message;
  }
  Record find(const Mxc& wanted) {
    const Result<Record> found = catalog_->find(wanted);
    EXPECT_TRUE(found) << found.error().message;
    return found.value_or(Record{});
  }

  static void expect_same(const Reservation& found, const Reservation& wanted) {
    EXPECT_EQ(found.mxc, wanted.mxc);
    EXPECT_EQ(found.user, wanted.user);
    EXPECT_EQ(found.created_at, wanted.created_at);
    EXPECT_EQ(found.expires_at, wanted.expires_at);
    EXPECT_EQ(found.content_type, wanted.content_type);
    EXPECT_EQ(found.filename, wanted.filename);
  }
  static void expect_same(const StoredMedia& found, const StoredMedia& wanted) {
    EXPECT_EQ(found.mxc, wanted.mxc);
    EXPECT_EQ(found.user, wanted.user);
    EXPECT_EQ(found.created_at, wanted.created_at);
    EXPECT_EQ(found.stored_at, wanted.stored_at);
    EXPECT_EQ(found.content_type, wanted.content_type);
    EXPECT_EQ(found.filename, wanted.filename);
    EXPECT_EQ(found.size, wanted.size);
    EXPECT_EQ(found.sha256, wanted.sha256);
    EXPECT_EQ(found.attempt, wanted.attempt);
  }

  Maker maker_;
  std::unique_ptr<Catalog> catalog_;
};

TYPED_TEST_SUITE_P(CatalogContract);

TYPED_TEST_P(CatalogContract, KnowsNothingOfAnUnknownId) {
  const Record record = this->find(this->mxc("unknown"));
  EXPECT_FALSE(record.reservation);
  EXPECT_FALSE(record.stored);
}

TYPED_TEST_P(CatalogContract, FindsAReservationAsItWasMade) {
  Reservation made = this->reservation("a", -5, 123'456);
  made.content_type = "image/png";
  made.filename = "cat.png";
  this->reserve(made);
  const Record record = this->find(made.mxc);
  ASSERT_TRUE(record.reservation);
  EXPECT_FALSE(record.stored);
  this->expect_same(*record.reservation, made);
}

TYPED_TEST_P(CatalogContract, StoringTakesThePlaceOfTheReservation) {
  this->reserve(this->reservation("a"));
  StoredMedia media = this->stored("a");
  media.user = "@bob:example.org";
  media.filename = "f";
  this->store(media);
  const Record record = this->find(media.mxc);
  EXPECT_FALSE(record.reservation);
  ASSERT_TRUE(record.stored);
  this->expect_same(*record.stored, media);
  EXPECT_EQ(this->catalog_->reap(this->at(1'000'000), 10), 0u);
  EXPECT_TRUE(this->find(media.mxc).stored);
}

TYPED_TEST_P(CatalogContract, StoresWithoutAReservation) {
  this->store(this->stored("plain"));
  EXPECT_TRUE(this->find(this->mxc("plain")).stored);
}

TYPED_TEST_P(CatalogContract, StoresWhatWasReapedWhileItWasReceived) {
  this->reserve(this->reservation("slow", 0, 10));
  ASSERT_EQ(this->catalog_->reap(this->at(10), 10), 1u);
  this->store(this->stored("slow"));
  EXPECT_TRUE(this->find(this->mxc("slow")).stored);
}

TYPED_TEST_P(CatalogContract, StoringTwiceIsAConflictAndChangesNothing) {
  const StoredMedia first = this->stored("a", "first");
  this->store(first);
  const Result<> second = this->catalog_->store(this->stored("a", "second"));
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().http_status, 409);
  EXPECT_EQ(second.error().errcode, "M_CANNOT_OVERWRITE_MEDIA");
  this->expect_same(*this->find(first.mxc).stored, first);
  EXPECT_EQ(this->catalog_->refers_to(sha256("second")), false);
}

TYPED_TEST_P(CatalogContract, OneOfManyThatStoreAtTheSameTimeWins) {
  constexpr int kThreads = 8;
  std::atomic<int> won = 0;
  std::latch start(kThreads);
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&, i] {
        start.arrive_and_wait();
        const Result<> done = this->catalog_->store(this->stored("a", std::to_string(i)));
        if (done) {
          ++won;
        } else {
          EXPECT_EQ(done.error().http_status, 409);
        }
      });
    }
  }
  EXPECT_EQ(won, 1);
}

TYPED_TEST_P(CatalogContract, AnIdCannotBeReservedTwiceNorAfterItWasStored) {
  this->reserve(this->reservation("reserved"));
  this->store(this->stored("stored"));
  for (const char* id : {"reserved", "stored"}) {
    const Result<> again = this->catalog_->reserve(this->reservation(id, 1, 2000), this->kUnlimited);
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().http_status, 500);
  }
  EXPECT_EQ(this->find(this->mxc("reserved")).reservation->expires_at, this->at(1000));
  EXPECT_TRUE(this->find(this->mxc("stored")).stored);
}

TYPED_TEST_P(CatalogContract, IdsOfDifferentServersAndCasesAreDifferent) {
  Reservation other_server = this->reservation("id");
  other_server.mxc = this->mxc("id", "example.com");
  this->reserve(this->reservation("id"));
  this->reserve(other_server);
  this->reserve(this->reservation("ID"));
  this->store(this->stored("id"));
  EXPECT_TRUE(this->find(this->mxc("id")).stored);
  EXPECT_TRUE(this->find(other_server.mxc).reservation);
  EXPECT_TRUE(this->find(this->mxc("ID")).reservation);
}

TYPED_TEST_P(CatalogContract, RefusesMoreThanTheLimitUntilTheFirstExpires) {
  ASSERT_TRUE(this->catalog_->reserve(this->reservation("a", 0, 900), 2));
  ASSERT_TRUE(this->catalog_->reserve(this->reservation("b", 0, 700), 2));
  const Result<> refused = this->catalog_->reserve(this->reservation("c", 100, 1100), 2);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().http_status, 429);
  EXPECT_EQ(refused.error().errcode, "M_LIMIT_EXCEEDED");
  EXPECT_EQ(refused.error().retry_after, Milliseconds(600));
  EXPECT_FALSE(this->find(this->mxc("c")).reservation);

  const Result<> just_before = this->catalog_->reserve(this->reservation("c", 699, 1700), 2);
  ASSERT_FALSE(just_before);
  EXPECT_EQ(just_before.error().retry_after, Milliseconds(1));
  EXPECT_TRUE(this->catalog_->reserve(this->reservation("c", 700, 1700), 2));
}

TYPED_TEST_P(CatalogContract, CountsEachUserAndOnlyWhatIsPending) {
  ASSERT_TRUE(this->catalog_->reserve(this->reservation("a"), 1));
  EXPECT_TRUE(this->catalog_->reserve(this->reservation("b", 0, 1000, "@bob:example.org"), 1));
  EXPECT_FALSE(this->catalog_->reserve(this->reservation("c"), 1));
  this->store(this->stored("a"));
  EXPECT_TRUE(this->catalog_->reserve(this->reservation("c"), 1));
}

TYPED_TEST_P(CatalogContract, ALimitOfNoneRefusesWithoutATimeToComeBack) {
  const Result<> refused = this->catalog_->reserve(this->reservation("a"), 0);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().http_status, 429);
  EXPECT_FALSE(refused.error().retry_after);
}

TYPED_TEST_P(CatalogContract, TheLimitIsExactUnderConcurrency) {
  constexpr int kThreads = 40;
  std::atomic<int> reserved = 0;
  std::latch start(kThreads);
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&, i] {
        start.arrive_and_wait();
        const Result<> done = this->catalog_->reserve(this->reservation("id" + std::to_string(i)), 5);
        if (done) {
          ++reserved;
        } else {
          EXPECT_EQ(done.error().http_status, 429) << done.error().message;
        }
      });
    }
  }
  EXPECT_EQ(reserved, 5);
}

TYPED_TEST_P(CatalogContract, TheLimitIsExactWhenManyReserveTogether) {
  constexpr int kThreads = 8;
  std::atomic<int> reserved = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&, i] {
        EXPECT_TRUE(this->catalog_->in_one_transaction([&] {
          for (int k = 0; k < 4; ++k) {
            const std::string id = std::to_string(i) + "-" + std::to_string(k);
            if (this->catalog_->reserve(this->reservation(id), 10)) ++reserved;
          }
        }));
      });
    }
  }
  EXPECT_EQ(reserved, 10);
}

TYPED_TEST_P(CatalogContract, AnswersManyReadersAndWritersAtOnce) {
  constexpr int kThreads = 24;  // more than any implementation should have connections
  std::latch start(kThreads);
  std::vector<std::jthread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([this, &start, i] {
      start.arrive_and_wait();
      const std::string id = "id" + std::to_string(i);
      EXPECT_TRUE(this->catalog_->reserve(this->reservation(id), this->kUnlimited));
      EXPECT_TRUE(this->find(this->mxc(id)).reservation);
      EXPECT_TRUE(this->catalog_->store(this->stored(id, id)));
      EXPECT_TRUE(this->find(this->mxc(id)).stored);
      EXPECT_EQ(this->catalog_->refers_to(sha256(id)), true);
      EXPECT_TRUE(this->catalog_->check());
    });
  }
}

TYPED_TEST_P(CatalogContract, AnExpiredReservationIsFoundUntilItIsReaped) {
  this->reserve(this->reservation("a", 0, 10));
  EXPECT_TRUE(this->find(this->mxc("a")).reservation->is_expired(this->at(10)));
  EXPECT_EQ(this->catalog_->reap(this->at(9), 100), 0u);
  EXPECT_EQ(this->catalog_->reap(this->at(10), 100), 1u);
  EXPECT_FALSE(this->find(this->mxc("a")).reservation);
}

TYPED_TEST_P(CatalogContract, ReapsInBatchesTheOldestFirst) {
  for (int i = 0; i < 5; ++i) this->reserve(this->reservation("old" + std::to_string(i), 0, 10 + i));
  this->reserve(this->reservation("young", 0, 5000));
  EXPECT_EQ(this->catalog_->reap(this->at(1000), 0), 0u);
  EXPECT_EQ(this->catalog_->reap(this->at(1000), 2), 2u);
  EXPECT_FALSE(this->find(this->mxc("old1")).reservation);
  EXPECT_TRUE(this->find(this->mxc("old2")).reservation);
  EXPECT_EQ(this->catalog_->reap(this->at(1000), std::numeric_limits<std::size_t>::max()), 3u);
  EXPECT_EQ(this->catalog_->reap(this->at(1000), 2), 0u);
  EXPECT_TRUE(this->find(this->mxc("young")).reservation);
}

TYPED_TEST_P(CatalogContract, RefersToContentOnceItIsStored) {
  this->reserve(this->reservation("a"));
  EXPECT_EQ(this->catalog_->refers_to(sha256("x")), false);
  this->store(this->stored("a", "x"));
  this->store(this->stored("b", "x"));
  EXPECT_EQ(this->catalog_->refers_to(sha256("x")), true);
  EXPECT_EQ(this->catalog_->refers_to(sha256("y")), false);
}

TYPED_TEST_P(CatalogContract, KeepsTextAsItIs) {
  using namespace std::string_view_literals;
  int number = 0;
  for (const std::string_view text : {"'; DROP TABLE media; --"sv, "\"quoted\" `back` \\"sv, "naïve 名前 🐈 \u0301"sv,
                                      "a\0b"sv, "?1 :x $y %s"sv, " "sv}) {
    const std::string id = "id" + std::to_string(number++);
    Reservation reserved = this->reservation(id);
    reserved.filename = reserved.content_type = text;
    this->reserve(reserved);
    this->expect_same(*this->find(reserved.mxc).reservation, reserved);

    StoredMedia media = this->stored(id);
    media.filename = media.content_type = media.user = text;
    this->store(media);
    this->expect_same(*this->find(media.mxc).stored, media);
  }
}

TYPED_TEST_P(CatalogContract, KeepsNumbersAsTheyAre) {
  StoredMedia media = this->stored("a");
  media.size = std::numeric_limits<std::uint64_t>::max();
  media.attempt = (std::uint64_t{1} << 63) + 7;
  media.created_at = this->at(-1'800'000'000'000);  // before 1970
  this->store(media);
  this->expect_same(*this->find(media.mxc).stored, media);
}

TYPED_TEST_P(CatalogContract, FindsEverythingWhenOpenedAgain) {
  const Reservation reserved = this->reservation("reserved");
  const StoredMedia media = this->stored("stored");
  this->reserve(reserved);
  this->store(media);
  for (int i = 0; i < 2; ++i) {
    this->reopen();
    this->expect_same(*this->find(reserved.mxc).reservation, reserved);
    this->expect_same(*this->find(media.mxc).stored, media);
    EXPECT_EQ(this->catalog_->refers_to(media.sha256), true);
    EXPECT_FALSE(this->catalog_->reserve(this->reservation("other"), 1));
  }
}

TYPED_TEST_P(CatalogContract, WhatIsChangedTogetherShowsTogether) {
  this->reserve(this->reservation("expired", 0, 10));
  this->reserve(this->reservation("a"));
  const Result<> done = this->catalog_->in_one_transaction([&] {
    this->reserve(this->reservation("b"));
    this->store(this->stored("a"));
    EXPECT_EQ(this->catalog_->reap(this->at(10), 10), 1u);
    const auto readers_see =
        std::async(std::launch::async, [&] {
          return std::array{this->find(this->mxc("a")), this->find(this->mxc("b")), this->find(this->mxc("expired"))};
        }).get();
    EXPECT_TRUE(readers_see[0].reservation);
    EXPECT_FALSE(readers_see[1].reservation);
    EXPECT_TRUE(readers_see[2].reservation);
  });
  ASSERT_TRUE(done) << done.error().message;
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(this->find(this->mxc("a")).stored);
    EXPECT_TRUE(this->find(this->mxc("b")).reservation);
    EXPECT_FALSE(this->find(this->mxc("expired")).reservation);
    this->reopen();
  }
}

TYPED_TEST_P(CatalogContract, ARefusalAmongChangesMadeTogetherLeavesTheOthersBe) {
  this->store(this->stored("stored", "first"));
  const Result<> done = this->catalog_->in_one_transaction([&] {
    EXPECT_TRUE(this->catalog_->reserve(this->reservation("a"), 2));
    EXPECT_EQ(this->catalog_->store(this->stored("stored", "second")).error().http_status, 409);
    EXPECT_TRUE(this->catalog_->reserve(this->reservation("b"), 2));
    EXPECT_EQ(this->catalog_->reserve(this->reservation("c"), 2).error().http_status, 429);
    EXPECT_EQ(this->catalog_->reserve(this->reservation("a"), 9).error().http_status, 500);
    this->store(this->stored("last"));
  });
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_TRUE(this->find(this->mxc("a")).reservation);
  EXPECT_TRUE(this->find(this->mxc("b")).reservation);
  EXPECT_FALSE(this->find(this->mxc("c")).reservation);
  EXPECT_TRUE(this->find(this->mxc("last")).stored);
  EXPECT_EQ(this->find(this->mxc("stored")).stored->sha256, sha256("first"));
}

TYPED_TEST_P(CatalogContract, ChangesMadeTogetherAreTakenBackTogether) {
  struct Thrown {};
  EXPECT_THROW((void)this->catalog_->in_one_transaction([&] {
    this->reserve(this->reservation("a"));
    this->store(this->stored("b"));
    throw Thrown();
  }),
               Thrown);
  EXPECT_FALSE(this->find(this->mxc("a")).reservation);
  EXPECT_FALSE(this->find(this->mxc("b")).stored);
  EXPECT_TRUE(this->catalog_->reserve(this->reservation("c"), 1)) << "what was taken back still counts as pending";
  EXPECT_TRUE(this->catalog_->in_one_transaction([&] { this->store(this->stored("b")); }));
  EXPECT_TRUE(this->find(this->mxc("b")).stored);
}

// What a reservation sees of its group may never be: then it must not be remembered.
TYPED_TEST_P(CatalogContract, TheLimitHoldsAfterAGroupWasTakenBack) {
  struct Thrown {};
  this->reserve(this->reservation("a"));
  this->reserve(this->reservation("b"));
  EXPECT_THROW((void)this->catalog_->in_one_transaction([&] {
    this->store(this->stored("a"));
    EXPECT_TRUE(this->catalog_->reserve(this->reservation("c"), 2));
    throw Thrown();
  }),
               Thrown);
  EXPECT_FALSE(this->catalog_->reserve(this->reservation("d"), 2));
}

TYPED_TEST_P(CatalogContract, TheLimitHoldsWhenItIsRaised) {
  for (const char* id : {"a", "b", "c"}) this->reserve(this->reservation(id));
  EXPECT_FALSE(this->catalog_->reserve(this->reservation("d"), 1));
  EXPECT_FALSE(this->catalog_->reserve(this->reservation("d"), 3));
  EXPECT_TRUE(this->catalog_->reserve(this->reservation("d"), 4));
}

TYPED_TEST_P(CatalogContract, NothingChangedTogetherIsNoError) {
  EXPECT_TRUE(this->catalog_->in_one_transaction([] {}));
}

// Its clock may be set back; what had expired by the later time is pending at the earlier.
TYPED_TEST_P(CatalogContract, TheLimitHoldsWhenTheClockIsSetBack) {
  ASSERT_TRUE(this->catalog_->reserve(this->reservation("a", 0, 100), 2));
  ASSERT_TRUE(this->catalog_->reserve(this->reservation("b", 0, 100), 2));
  ASSERT_TRUE(this->catalog_->reserve(this->reservation("c", 200, 300), 2));
  EXPECT_EQ(this->catalog_->reserve(this->reservation("d", 50, 150), 2).error().http_status, 429);
  EXPECT_TRUE(this->catalog_->reserve(this->reservation("d", 200, 300), 2));
  EXPECT_EQ(this->catalog_->reserve(this->reservation("e", 200, 300), 2).error().http_status, 429);
}

TYPED_TEST_P(CatalogContract, TheLimitHoldsForEachOfManyUsers) {
  for (int round = 0; round < 3; ++round) {
    for (int user = 0; user < 50; ++user) {
      const std::string name = "@user" + std::to_string(user) + ":example.org";
      const std::string id = std::to_string(user) + "-" + std::to_string(round);
      EXPECT_EQ(this->catalog_->reserve(this->reservation(id, 0, 1000, name), 2).has_value(), round < 2);
    }
  }
}

TYPED_TEST_P(CatalogContract, TheCheckChangesNothing) {
  EXPECT_TRUE(this->catalog_->check());
  this->reserve(this->reservation("a"));
  EXPECT_TRUE(this->catalog_->check());
  EXPECT_TRUE(this->find(this->mxc("a")).reservation);
}

REGISTER_TYPED_TEST_SUITE_P(CatalogContract, KnowsNothingOfAnUnknownId, FindsAReservationAsItWasMade,
                            StoringTakesThePlaceOfTheReservation, StoresWithoutAReservation,
                            StoresWhatWasReapedWhileItWasReceived, StoringTwiceIsAConflictAndChangesNothing,
                            OneOfManyThatStoreAtTheSameTimeWins, AnIdCannotBeReservedTwiceNorAfterItWasStored,
                            IdsOfDifferentServersAndCasesAreDifferent, RefusesMoreThanTheLimitUntilTheFirstExpires,
                            CountsEachUserAndOnlyWhatIsPending, ALimitOfNoneRefusesWithoutATimeToComeBack,
                            TheLimitIsExactUnderConcurrency, TheLimitIsExactWhenManyReserveTogether,
                            AnswersManyReadersAndWritersAtOnce, AnExpiredReservationIsFoundUntilItIsReaped,
                            ReapsInBatchesTheOldestFirst, RefersToContentOnceItIsStored, KeepsTextAsItIs,
                            KeepsNumbersAsTheyAre, FindsEverythingWhenOpenedAgain, WhatIsChangedTogetherShowsTogether,
                            ARefusalAmongChangesMadeTogetherLeavesTheOthersBe, ChangesMadeTogetherAreTakenBackTogether,
                            TheLimitHoldsAfterAGroupWasTakenBack, TheLimitHoldsWhenItIsRaised,
                            NothingChangedTogetherIsNoError, TheLimitHoldsWhenTheClockIsSetBack,
                            TheLimitHoldsForEachOfManyUsers, TheCheckChangesNothing);

}  // namespace sluice::catalog
