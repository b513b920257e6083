// SPDX-License-Identifier: Apache-2.0
#include "base/faulty_file_system_test.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string_view>

#include "base/temporary_directory_test.h"

namespace sluice {
namespace {

using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class FaultyFileSystemTest : public ::testing::Test {
 protected:
  static std::size_t all(std::size_t pending) { return pending; }

  void write(const FileDescriptor& file, std::string_view text, std::uint64_t offset) {
    ASSERT_TRUE(fs_.write_at(file, std::as_bytes(std::span(text)), offset));
  }
  std::string content(const std::string& name) const {
    std::ifstream in(directory_ / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  }
  std::vector<std::string> names(const std::string& name = ".") { return *fs_.list(directory_ / name); }
  void sync() { ASSERT_TRUE(fs_.sync_directory(directory_.path())); }

  TemporaryDirectory directory_;
  PosixFileSystem real_;
  FaultyFileSystem fs_{real_, directory_.path()};
};

TEST_F(FaultyFileSystemTest, FailsTheCallThatWasChosenOnce) {
  fs_.fail_call(FaultyFileSystem::Call::kCreate, 2, ENOSPC);
  EXPECT_TRUE(fs_.create(directory_ / "a"));
  EXPECT_EQ(fs_.create(directory_ / "b").error(), std::errc::no_space_on_device);
  EXPECT_TRUE(fs_.create(directory_ / "c"));
  EXPECT_THAT(names(), UnorderedElementsAre("a", "c"));
  EXPECT_EQ(fs_.count(FaultyFileSystem::Call::kCreate), 3u);
}

TEST_F(FaultyFileSystemTest, WithoutPowerNothingHappens) {
  fs_.cut_power_after(1);
  EXPECT_TRUE(fs_.create(directory_ / "a"));
  EXPECT_EQ(fs_.remove(directory_ / "a").error(), std::errc::io_error);
  EXPECT_EQ(fs_.open_read(directory_ / "a").error(), std::errc::io_error);
  fs_.drop_unsynced(all);
  EXPECT_THAT(names(), UnorderedElementsAre("a"));
}

TEST_F(FaultyFileSystemTest, LosesAFileWhoseNameWasNotSynced) {
  const auto file = fs_.create(directory_ / "a");
  write(*file, "bytes", 0);
  ASSERT_TRUE(fs_.sync(*file));
  fs_.drop_unsynced();
  EXPECT_THAT(names(), IsEmpty());
}

TEST_F(FaultyFileSystemTest, KeepsTheBytesThatWereSynced) {
  const auto file = fs_.create(directory_ / "a");
  sync();
  write(*file, "kept", 0);
  ASSERT_TRUE(fs_.sync(*file));
  write(*file, " lost", 4);
  EXPECT_EQ(content("a"), "kept lost");
  fs_.drop_unsynced();
  EXPECT_EQ(content("a"), "kept");
}

TEST_F(FaultyFileSystemTest, KeepsTheFirstPendingChanges) {
  const auto file = fs_.create(directory_ / "a");
  write(*file, "one ", 0);
  write(*file, "two", 4);
  ASSERT_TRUE(fs_.create(directory_ / "b"));
  fs_.drop_unsynced([](std::size_t pending) { return std::min<std::size_t>(pending, 1); });
  EXPECT_THAT(names(), UnorderedElementsAre("a"));
  EXPECT_EQ(content("a"), "one ");
}

TEST_F(FaultyFileSystemTest, TakesBackLinksRenamesAndRemovals) {
  for (const char* name : {"linked", "renamed", "removed"}) ASSERT_TRUE(fs_.create(directory_ / name));
  sync();
  ASSERT_TRUE(fs_.link(directory_ / "linked", directory_ / "linked2"));
  ASSERT_TRUE(fs_.rename(directory_ / "renamed", directory_ / "renamed2"));
  ASSERT_TRUE(fs_.remove(directory_ / "removed"));
  EXPECT_THAT(names(), UnorderedElementsAre("linked", "linked2", "renamed2"));
  fs_.drop_unsynced();
  EXPECT_THAT(names(), UnorderedElementsAre("linked", "renamed", "removed"));
}

TEST_F(FaultyFileSystemTest, TwoNamesOfAFileStayTwoNamesOfOneFile) {
  const auto file = fs_.create(directory_ / "a");
  ASSERT_TRUE(fs_.link(directory_ / "a", directory_ / "b"));
  sync();
  write(*file, "x", 0);
  ASSERT_TRUE(fs_.sync(*file));
  fs_.drop_unsynced();
  EXPECT_EQ(content("b"), "x");
  EXPECT_TRUE(std::filesystem::equivalent(directory_ / "a", directory_ / "b"));
}

TEST_F(FaultyFileSystemTest, ADirectoryNeedsItsParentSyncedToo) {
  ASSERT_TRUE(fs_.make_directories(directory_ / "d/e"));
  ASSERT_TRUE(fs_.create(directory_ / "d/e/file"));
  ASSERT_TRUE(fs_.sync_directory(directory_ / "d/e"));
  sync();
  fs_.drop_unsynced();
  EXPECT_THAT(names("d"), IsEmpty());
}

TEST_F(FaultyFileSystemTest, WhatWasThereBeforeIsSynced) {
  ASSERT_TRUE(real_.make_directories(directory_ / "d"));
  std::ofstream(directory_ / "d/old") << "old";
  FaultyFileSystem later(real_, directory_.path());
  ASSERT_TRUE(later.remove(directory_ / "d/old"));
  later.drop_unsynced();
  EXPECT_EQ(content("d/old"), "old");
}

}  // namespace
}  // namespace sluice
