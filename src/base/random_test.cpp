// SPDX-License-Identifier: Apache-2.0
#include "base/random.h"

#include <gtest/gtest.h>

#include <set>
#include <string_view>
#include <vector>

#include "base/mxc.h"

namespace sluice {
namespace {

/// Gives the bytes of a text.
class Fixed final : public RandomSource {
 public:
  explicit Fixed(std::string_view bytes) : bytes_(bytes) {}
  void fill(std::span<std::byte> out) override {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>(bytes_[i]);
  }

 private:
  std::string_view bytes_;
};

std::string id_from(std::string_view bytes) {
  Fixed source(bytes);
  return random_id(source, bytes.size());
}

// The vectors of RFC 4648 section 10, without padding.
TEST(RandomId, IsBase64Url) {
  EXPECT_EQ(id_from(""), "");
  EXPECT_EQ(id_from("f"), "Zg");
  EXPECT_EQ(id_from("fo"), "Zm8");
  EXPECT_EQ(id_from("foo"), "Zm9v");
  EXPECT_EQ(id_from("foobar"), "Zm9vYmFy");
  EXPECT_EQ(id_from("\xFB\xEF\xFF"), "--__");
}

TEST(RandomId, IsAMediaIdAndDiffersEachTime) {
  SystemRandom random;
  std::set<std::string> seen;
  for (int i = 0; i < 1000; ++i) {
    const std::string id = random_id(random, 24);
    EXPECT_EQ(id.size(), 32u);
    EXPECT_TRUE(is_media_id(id));
    EXPECT_TRUE(seen.insert(id).second);
  }
}

TEST(SystemRandom, FillsMoreThanOneCallGives) {
  SystemRandom random;
  std::vector<std::byte> bytes(1 << 16);
  random.fill(bytes);
  // A stretch that was left out would be zero; 64 zero bytes in a row do not come by chance.
  for (std::size_t i = 0; i < bytes.size(); i += 64) {
    bool filled = false;
    for (std::size_t k = i; k < i + 64; ++k) filled = filled || bytes[k] != std::byte{0};
    EXPECT_TRUE(filled) << i;
  }
  random.fill({});
}

}  // namespace
}  // namespace sluice
