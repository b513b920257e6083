// SPDX-License-Identifier: Apache-2.0
// The parts of `put` that need no server; client_session_test.cpp has the rest.
#include "cli/put.h"

#include <gtest/gtest.h>

namespace sluice::cli {
namespace {

TEST(GuessContentType, GoesByTheExtensionInAnyCase) {
  EXPECT_EQ(guess_content_type("cat.jpg"), "image/jpeg");
  EXPECT_EQ(guess_content_type("CAT.JPEG"), "image/jpeg");
  EXPECT_EQ(guess_content_type("archive.tar.gz"), "application/gzip");
  EXPECT_EQ(guess_content_type("film.webm"), "video/webm");
}

TEST(GuessContentType, IsNeutralAboutEverythingElse) {
  for (const char* const name : {"", "README", "cat.", "cat.unheard", "jpg"}) {
    EXPECT_EQ(guess_content_type(name), "application/octet-stream") << name;
  }
}

}  // namespace
}  // namespace sluice::cli
