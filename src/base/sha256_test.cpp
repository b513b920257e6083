// SPDX-License-Identifier: Apache-2.0
#include "base/sha256.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>

namespace sluice {
namespace {

constexpr const char* kEmpty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
constexpr const char* kAbc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

// The examples of FIPS 180.
TEST(Sha256, HashesTheKnownExamples) {
  EXPECT_EQ(sha256("").to_hex(), kEmpty);
  EXPECT_EQ(sha256("abc").to_hex(), kAbc);
  EXPECT_EQ(sha256(std::string(1'000'000, 'a')).to_hex(),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, TheWayItIsFedDoesNotMatter) {
  const std::string text(10'000, 'x');
  const auto bytes = std::as_bytes(std::span(text));
  for (const std::size_t step : {1u, 63u, 64u, 65u, 4096u}) {
    Sha256Hasher hasher;
    for (std::size_t at = 0; at < bytes.size(); at += step) {
      hasher.update(bytes.subspan(at, std::min(step, bytes.size() - at)));
    }
    hasher.update({});
    EXPECT_EQ(hasher.finish(), sha256(text)) << step;
  }
}

TEST(Sha256, AHasherMovesWithWhatItWasFed) {
  Sha256Hasher first;
  first.update(std::as_bytes(std::span("ab", 2)));
  Sha256Hasher second = std::move(first);
  second.update(std::as_bytes(std::span("c", 1)));
  EXPECT_EQ(second.finish().to_hex(), kAbc);
}

TEST(Sha256, ReadsTheHexItWrites) {
  Sha256Digest digest;
  ASSERT_TRUE(Sha256Digest::from_hex(kAbc, digest));
  EXPECT_EQ(digest, sha256("abc"));
  std::string upper(kAbc);
  for (char& c : upper) c = c >= 'a' ? static_cast<char>(c - 'a' + 'A') : c;
  ASSERT_TRUE(Sha256Digest::from_hex(upper, digest));
  EXPECT_EQ(digest, sha256("abc"));
}

TEST(Sha256, LeavesTheDigestAloneWhenTheHexIsBad) {
  Sha256Digest digest = sha256("abc");
  const std::string good(kEmpty);
  for (const std::string& bad :
       {std::string(), good.substr(1), good + "0", good.substr(1) + "g", good.substr(1) + " "}) {
    EXPECT_FALSE(Sha256Digest::from_hex(bad, digest)) << bad;
    EXPECT_EQ(digest, sha256("abc"));
  }
}

}  // namespace
}  // namespace sluice
