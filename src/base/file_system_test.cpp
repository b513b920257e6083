// SPDX-License-Identifier: Apache-2.0
#include "base/file_system.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <iterator>

#include "base/temporary_directory_test.h"

namespace sluice {
namespace {

using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class PosixFileSystemTest : public ::testing::Test {
 protected:
  static std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

  std::string content(const std::string& name) const {
    std::ifstream in(directory_ / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  }

  TemporaryDirectory directory_;
  PosixFileSystem fs_;
};

TEST_F(PosixFileSystemTest, CreatesAFileForItsOwnerAlone) {
  const auto file = fs_.create(directory_ / "new");
  ASSERT_TRUE(file);
  struct stat status{};
  ASSERT_EQ(::stat((directory_ / "new").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600u);
}

TEST_F(PosixFileSystemTest, DoesNotCreateOverAnExistingFile) {
  ASSERT_TRUE(fs_.create(directory_ / "new"));
  const auto again = fs_.create(directory_ / "new");
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error(), std::errc::file_exists);
}

TEST_F(PosixFileSystemTest, WritesAtTheOffset) {
  const auto file = fs_.create(directory_ / "file");
  ASSERT_TRUE(file);
  EXPECT_TRUE(fs_.write_at(*file, bytes("world"), 6));
  EXPECT_TRUE(fs_.write_at(*file, bytes("hello "), 0));
  EXPECT_TRUE(fs_.write_at(*file, {}, 0));
  EXPECT_TRUE(fs_.sync(*file));
  EXPECT_EQ(content("file"), "hello world");
}

TEST_F(PosixFileSystemTest, ACreatedFileCanBeReadThroughItsDescriptor) {
  const auto file = fs_.create(directory_ / "file");
  ASSERT_TRUE(file);
  ASSERT_TRUE(fs_.write_at(*file, bytes("abc"), 0));
  ASSERT_TRUE(fs_.remove(directory_ / "file"));
  std::array<char, 8> read{};
  EXPECT_EQ(::pread(file->get(), read.data(), read.size(), 0), 3);
  EXPECT_STREQ(read.data(), "abc");
}

TEST_F(PosixFileSystemTest, OpensForReadingOnly) {
  ASSERT_TRUE(fs_.create(directory_ / "file"));
  const auto file = fs_.open_read(directory_ / "file");
  ASSERT_TRUE(file);
  const auto written = fs_.write_at(*file, bytes("x"), 0);
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error(), std::errc::bad_file_descriptor);
}

TEST_F(PosixFileSystemTest, SaysWhatIsMissing) {
  const std::string missing = directory_ / "missing";
  EXPECT_EQ(fs_.open_read(missing).error(), std::errc::no_such_file_or_directory);
  EXPECT_EQ(fs_.remove(missing).error(), std::errc::no_such_file_or_directory);
  EXPECT_EQ(fs_.list(missing).error(), std::errc::no_such_file_or_directory);
  EXPECT_EQ(fs_.sync_directory(missing).error(), std::errc::no_such_file_or_directory);
  EXPECT_EQ(fs_.link(missing, directory_ / "to").error(), std::errc::no_such_file_or_directory);
  EXPECT_EQ(fs_.create(missing + "/file").error(), std::errc::no_such_file_or_directory);
}

TEST_F(PosixFileSystemTest, ALinkIsASecondNameAndReplacesNothing) {
  ASSERT_TRUE(fs_.write_at(*fs_.create(directory_ / "a"), bytes("a"), 0));
  ASSERT_TRUE(fs_.create(directory_ / "taken"));
  EXPECT_TRUE(fs_.link(directory_ / "a", directory_ / "b"));
  EXPECT_EQ(fs_.link(directory_ / "a", directory_ / "taken").error(), std::errc::file_exists);
  ASSERT_TRUE(fs_.remove(directory_ / "a"));
  EXPECT_EQ(content("b"), "a");
  EXPECT_EQ(content("taken"), "");
}

TEST_F(PosixFileSystemTest, RenamesAndLists) {
  ASSERT_TRUE(fs_.create(directory_ / "a"));
  ASSERT_TRUE(fs_.make_directories(directory_ / "d"));
  ASSERT_TRUE(fs_.rename(directory_ / "a", directory_ / "b"));
  EXPECT_THAT(*fs_.list(directory_.path()), UnorderedElementsAre("b", "d"));
  EXPECT_THAT(*fs_.list(directory_ / "d"), IsEmpty());
}

TEST_F(PosixFileSystemTest, MakesDirectoriesWithTheirParents) {
  const std::string path = directory_ / "a/b/c";
  EXPECT_TRUE(fs_.make_directories(path));
  EXPECT_TRUE(fs_.make_directories(path));
  EXPECT_TRUE(fs_.sync_directory(path));
  struct stat status{};
  ASSERT_EQ(::stat((directory_ / "a/b").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700u);
}

TEST_F(PosixFileSystemTest, AFileInTheWayOfADirectoryIsAnError) {
  ASSERT_TRUE(fs_.create(directory_ / "file"));
  EXPECT_FALSE(fs_.make_directories(directory_ / "file/below"));
}

TEST(FileDescriptor, ClosesWhatItOwnsOnce) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  FileDescriptor read_end(ends[0]);
  FileDescriptor write_end(ends[1]);

  FileDescriptor moved = std::move(write_end);
  EXPECT_FALSE(write_end);  // NOLINT: what a moved one looks like is promised
  EXPECT_TRUE(moved);
  ASSERT_EQ(::write(moved.get(), "x", 1), 1);
  moved.reset();
  moved.reset();

  std::array<char, 2> read{};
  EXPECT_EQ(::read(read_end.get(), read.data(), read.size()), 1);
  EXPECT_EQ(::read(read_end.get(), read.data(), read.size()), 0);  // end: the other side is closed
}

}  // namespace
}  // namespace sluice
