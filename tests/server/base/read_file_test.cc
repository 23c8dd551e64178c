#include "server/base/read_file.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace goad::server {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class ReadFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "goad-read-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string At(const std::string& name) const { return folder_ + "/" + name; }
  std::string Write(const std::string& name, const std::string& text) const {
    std::ofstream(At(name), std::ios::binary) << text;
    return At(name);
  }
  static std::string Error(const std::string& path, size_t most = kMaxFileBytes) {
    const auto text = ReadFile(path, most);
    EXPECT_FALSE(text.ok()) << path;
    return std::string(text.status().message());
  }

  std::string folder_;
};

TEST_F(ReadFileTest, ReadsAnyBytes) {
  EXPECT_EQ(*ReadFile(Write("empty", "")), "");
  std::string bytes;
  for (int k = 0; k < 100000; ++k) bytes += static_cast<char>(k * 7);
  EXPECT_EQ(*ReadFile(Write("bytes", bytes)), bytes);
  std::filesystem::create_symlink(At("bytes"), At("link"));
  EXPECT_EQ(*ReadFile(At("link")), bytes);
  EXPECT_TRUE(ReadFile("/proc/self/status").ok()) << "a file whose size is said to be 0";
}

TEST_F(ReadFileTest, RefusesWhatIsNoRegularFileByName) {
  EXPECT_EQ(Error(folder_), folder_ + ": is a directory, want a regular file");
  ASSERT_EQ(mkfifo(At("fifo").c_str(), 0600), 0);
  EXPECT_EQ(Error(At("fifo")), At("fifo") + ": is a FIFO, want a regular file");
  EXPECT_EQ(Error("/dev/zero"), "/dev/zero: is a device, want a regular file");
  EXPECT_EQ(Error("/dev/null"), "/dev/null: is a device, want a regular file");
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, At("socket").c_str(), sizeof address.sun_path - 1);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_THAT(Error(At("socket")), HasSubstr("socket"));
  close(fd);
}

TEST_F(ReadFileTest, NamesThePathAndTheReason) {
  EXPECT_THAT(Error(At("nothing")), StartsWith(At("nothing") + ": cannot be opened: No such file"));
  EXPECT_TRUE(absl::IsNotFound(ReadFile(At("nothing")).status()));
  EXPECT_THAT(Error(""), HasSubstr("No such file"));
  EXPECT_THAT(Error(std::string("a\0b", 3)), HasSubstr("NUL"));
  std::filesystem::create_symlink(At("loop"), At("loop"));
  EXPECT_THAT(Error(At("loop")), HasSubstr("symbolic links"));
  EXPECT_LT(Error(std::string(100000, 'x')).size(), 400u) << "a path is clipped before it is quoted";
  EXPECT_EQ(Error(At("a\nb")).find('\n'), std::string::npos);
}

TEST_F(ReadFileTest, AnErrorOfReadingIsNoEndOfFile) {
  EXPECT_THAT(Error("/proc/self/mem"), HasSubstr("cannot be read: "));  // EIO: nothing is mapped at 0
}

TEST_F(ReadFileTest, HoldsNoMoreThanItMay) {
  EXPECT_EQ(ReadFile(Write("ten", "0123456789"), 10)->size(), 10u);
  EXPECT_THAT(Error(Write("eleven", "0123456789a"), 10), HasSubstr("more than 10 bytes"));
  ASSERT_EQ(truncate(Write("sparse", "x").c_str(), off_t{1} << 40), 0);
  EXPECT_THAT(Error(At("sparse")), HasSubstr("more than"));
  EXPECT_THAT(Error("/proc/self/status", 10), HasSubstr("more than 10 bytes"));
}

// A writer cuts the file and fills it again in place, until a read was caught in the middle of it and said so.
TEST_F(ReadFileTest, RefusesAFileThatChangesWhileItIsRead) {
  const std::string whole(1 << 20, 'x'), path = Write("busy", whole);
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    while (!stop) {
      const int fd = open(path.c_str(), O_WRONLY | O_TRUNC);
      for (size_t at = 0; at < whole.size(); at += 64 << 10) {
        if (write(fd, whole.data() + at, 64 << 10) < 0) break;
      }
      close(fd);
    }
  });
  absl::Status refused;
  for (int k = 0; k < 1000000 && refused.ok(); ++k) refused = ReadFile(path).status();
  stop = true;
  writer.join();
  EXPECT_THAT(std::string(refused.message()), HasSubstr("changed while it was read"));
}

}  // namespace
}  // namespace goad::server
