// SPDX-License-Identifier: Apache-2.0
#include "cli/default_setup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "base/temporary_directory_test.h"

namespace sluice::cli {
namespace {

using ::testing::HasSubstr;

class DefaultSetupTest : public ::testing::Test {
 protected:
  config::Environment environment() const {
    return {.names =
                [this] {
                  std::vector<std::string> names;
                  for (const auto& [name, value] : variables_) names.push_back(name);
                  return names;
                },
            .get = [this](const std::string& name) -> std::optional<std::string> {
              const auto found = variables_.find(name);
              return found == variables_.end() ? std::nullopt : std::optional(found->second);
            }};
  }
  std::expected<DefaultSetup, std::string> make() const { return make_default_setup(environment()); }
  std::string read(const std::string& path) const {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void write(const std::string& path, std::string_view text, mode_t mode = 0600) const {
    std::ofstream(path) << text;
    EXPECT_EQ(::chmod(path.c_str(), mode), 0);
  }

  const TemporaryDirectory directory_;
  const std::string data_dir_ = directory_ / "data";
  std::map<std::string, std::string> variables_ = {{"SLUICE_DATA_DIR", data_dir_}};
};

TEST_F(DefaultSetupTest, HasOneAdminWithANewToken) {
  const auto setup = make();
  ASSERT_TRUE(setup) << setup.error();
  EXPECT_TRUE(setup->token_is_new);
  EXPECT_EQ(setup->token.size(), 32u) << "24 random bytes";
  EXPECT_EQ(setup->token_file, data_dir_ + "/token");
  ASSERT_EQ(setup->config.homeservers.size(), 1u);
  const config::Homeserver& homeserver = setup->config.homeservers[0];
  EXPECT_EQ(homeserver.server_name, "localhost");
  ASSERT_EQ(homeserver.tokens.size(), 1u);
  EXPECT_EQ(homeserver.tokens[0].token, setup->token);
  EXPECT_EQ(homeserver.tokens[0].user, "@admin:localhost");
  EXPECT_TRUE(homeserver.tokens[0].admin);
}

TEST_F(DefaultSetupTest, KeepsTheTokenWhereOnlyItsOwnerCanReadIt) {
  const auto setup = make();
  ASSERT_TRUE(setup);
  EXPECT_EQ(read(setup->token_file), setup->token + "\n");
  struct stat status{};
  ASSERT_EQ(::stat(setup->token_file.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  ASSERT_EQ(::stat(data_dir_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700u);
  EXPECT_FALSE(std::filesystem::exists(setup->token_file + ".new"));
}

TEST_F(DefaultSetupTest, FindsItsTokenAgain) {
  const auto first = make();
  const auto second = make();
  ASSERT_TRUE(first && second);
  EXPECT_FALSE(second->token_is_new);
  EXPECT_EQ(second->token, first->token);
  EXPECT_EQ(second->config.homeservers[0].tokens[0].token, first->token);
}

TEST_F(DefaultSetupTest, MakesDifferentTokensInDifferentPlaces) {
  const auto first = make();
  variables_["SLUICE_DATA_DIR"] = directory_ / "elsewhere";
  const auto second = make();
  ASSERT_TRUE(first && second);
  EXPECT_NE(second->token, first->token);
}

TEST_F(DefaultSetupTest, TakesATokenThatSomebodyWrote) {
  std::filesystem::create_directory(data_dir_);
  write(data_dir_ + "/token", "  my-own-token \t\nand a second line\n");
  const auto setup = make();
  ASSERT_TRUE(setup) << setup.error();
  EXPECT_FALSE(setup->token_is_new);
  EXPECT_EQ(setup->token, "my-own-token");
}

TEST_F(DefaultSetupTest, RefusesATokenThatOthersMayHavePlanted) {
  std::filesystem::create_directory(data_dir_);
  write(data_dir_ + "/token", "planted\n");
  std::filesystem::permissions(data_dir_ + "/token", std::filesystem::perms(0666));
  const auto readable = make();
  ASSERT_FALSE(readable);
  EXPECT_THAT(readable.error(), testing::HasSubstr("chmod 600"));
  std::filesystem::rename(data_dir_ + "/token", data_dir_ + "/elsewhere");
  std::filesystem::create_symlink("elsewhere", data_dir_ + "/token");
  EXPECT_FALSE(make());
}

TEST_F(DefaultSetupTest, DoesNotTakeAnEmptyTokenForOne) {
  std::filesystem::create_directory(data_dir_);
  for (const std::string_view text : {"", "\n", "  \n"}) {
    write(data_dir_ + "/token", text);
    const auto setup = make();
    ASSERT_TRUE(setup) << setup.error();
    EXPECT_TRUE(setup->token_is_new);
    EXPECT_EQ(read(setup->token_file), setup->token + "\n");
  }
}

TEST_F(DefaultSetupTest, GetsOverAnInterruptedStart) {
  std::filesystem::create_directory(data_dir_);
  write(data_dir_ + "/token.new", "half a tok");
  const auto setup = make();
  ASSERT_TRUE(setup) << setup.error();
  EXPECT_EQ(setup->token.size(), 32u);
  EXPECT_FALSE(std::filesystem::exists(data_dir_ + "/token.new"));
}

TEST_F(DefaultSetupTest, LetsTheEnvironmentHaveTheLastWord) {
  variables_["SLUICE_UPLOADS_MAX_SIZE"] = "1GiB";
  variables_["SLUICE_LISTEN"] = "127.0.0.1:0";
  const auto setup = make();
  ASSERT_TRUE(setup) << setup.error();
  EXPECT_EQ(setup->config.uploads.max_size, 1ull << 30);
  EXPECT_EQ(setup->config.listen.port, 0);
  EXPECT_EQ(setup->config.data_dir, data_dir_);
}

TEST_F(DefaultSetupTest, TellsAMistakeInTheEnvironment) {
  variables_["SLUICE_UPLOADS_MAX_SIZE"] = "much";
  const auto setup = make();
  ASSERT_FALSE(setup);
  EXPECT_THAT(setup.error(), HasSubstr("SLUICE_UPLOADS_MAX_SIZE"));
  EXPECT_FALSE(setup.error().ends_with('\n'));
  EXPECT_FALSE(std::filesystem::exists(data_dir_)) << "nothing is made before all is well";
}

TEST_F(DefaultSetupTest, RefusesATokenThatIsNone) {
  std::filesystem::create_directory(data_dir_);
  write(data_dir_ + "/token", "two words\n");
  const auto setup = make();
  ASSERT_FALSE(setup);
  EXPECT_THAT(setup.error(), HasSubstr("token"));
  EXPECT_EQ(setup.error().find("two words"), std::string::npos) << "no message repeats a secret";
}

// Whoever can write the token is an admin; whoever can read it, too.
TEST_F(DefaultSetupTest, RefusesATokenThatOthersCouldHavePlantedOrRead) {
  std::filesystem::create_directory(data_dir_);
  for (const mode_t mode : {0640u, 0604u, 0620u, 0602u, 0666u}) {
    write(data_dir_ + "/token", "my-own-token\n", mode);
    const auto setup = make();
    ASSERT_FALSE(setup) << mode;
    EXPECT_THAT(setup.error(), HasSubstr(data_dir_ + "/token"));
  }
  write(directory_ / "elsewhere", "my-own-token\n");
  std::filesystem::remove(data_dir_ + "/token");
  std::filesystem::create_symlink(directory_ / "elsewhere", data_dir_ + "/token");
  EXPECT_FALSE(make());
  std::filesystem::remove(data_dir_ + "/token");
  std::filesystem::create_directory(data_dir_ + "/token");
  EXPECT_FALSE(make());
}

TEST_F(DefaultSetupTest, TellsWhereItCannotWrite) {
  write(directory_ / "file", "");
  variables_["SLUICE_DATA_DIR"] = directory_ / "file/data";
  const auto setup = make();
  ASSERT_FALSE(setup);
  EXPECT_THAT(setup.error(), HasSubstr("cannot create " + (directory_ / "file/data")));

  std::filesystem::create_directories(data_dir_ + "/token.new/in the way");
  variables_["SLUICE_DATA_DIR"] = data_dir_;
  const auto other = make();
  ASSERT_FALSE(other);
  EXPECT_THAT(other.error(), HasSubstr("cannot write " + data_dir_ + "/token"));
}

}  // namespace
}  // namespace sluice::cli
