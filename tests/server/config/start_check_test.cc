#include "server/config/start_check.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/config/config_loader.h"

namespace goad::server {
namespace {

using testing::HasSubstr;

class StartCheckTest : public testing::Test {
 protected:
  StartCheckTest() {
    std::string name = testing::TempDir() + "goad_start_XXXXXX";
    folder_ = mkdtemp(name.data());
  }
  ~StartCheckTest() override { std::filesystem::remove_all(folder_); }
  std::string Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ + "/" + name) << text;
    return folder_ + "/" + name;
  }
  // "field: problem" of each.
  static std::vector<std::string> Problems(const std::string& listen, const std::string& admin,
                                           const std::string& metrics) {
    Config config;
    config.listen.address = listen;
    config.admin_address = admin;
    config.metrics_address = metrics;
    std::vector<std::string> all;
    for (const ConfigProblem& problem : StartProblems(config)) all.push_back(problem.path + ": " + problem.message);
    return all;
  }
  std::string folder_;
};

TEST_F(StartCheckTest, AFileThatIsWrittenIsARegularOneInAFolderThatIsThere) {
  ASSERT_EQ(mkfifo((folder_ + "/fifo").c_str(), 0600), 0);
  for (const auto& problem : {DecisionLogProblem, LockFileProblem}) {
    EXPECT_EQ(problem(""), "");
    EXPECT_EQ(problem(folder_ + "/new"), "");
    EXPECT_EQ(problem(Write("old", "")), "");
    EXPECT_EQ(problem(folder_), folder_ + ": is a directory, want a regular file");
    EXPECT_EQ(problem(folder_ + "/fifo"), folder_ + "/fifo: is a FIFO, want a regular file");
    EXPECT_EQ(problem("/dev/full"), "/dev/full: is a device, want a regular file");
    EXPECT_THAT(problem(folder_ + "/no/x"), HasSubstr("its folder cannot be written: No such file"));
    EXPECT_THAT(problem(folder_ + "/old/x"), HasSubstr("is not a folder"));
  }
  EXPECT_EQ(DecisionLogProblem("/dev/null"), "");
}

TEST_F(StartCheckTest, AddressesThatGoTogether) {
  using None = std::vector<std::string>;
  EXPECT_EQ(Problems("127.0.0.1:7443", "127.0.0.1:7444", "127.0.0.1:7445"), None());
  EXPECT_EQ(Problems("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"), None()) << "each gets one that is free";
  EXPECT_EQ(Problems("unix:/a", "unix:/b", ""), None());
  EXPECT_EQ(Problems("0.0.0.0:7443", "", "127.0.0.1:7444"), None());
  EXPECT_EQ(Problems("127.0.0.1:7443", "127.0.0.2:7443", ""), None());
}

TEST_F(StartCheckTest, AddressesThatClash) {
  for (const auto& [listen, admin] :
       std::vector<std::pair<std::string, std::string>>{{"127.0.0.1:7443", "127.0.0.1:7443"},
                                                        {"0.0.0.0:7443", "127.0.0.1:7443"},
                                                        {"127.0.0.1:7443", "[::]:7443"},
                                                        {"localhost:7443", "127.0.0.1:7443"},
                                                        {"LOCALHOST:7443", "localhost:7443"},
                                                        {"unix:/a", "unix:///a"}}) {
    EXPECT_EQ(
        Problems(listen, admin, ""),
        std::vector<std::string>{"admin.address: \"" + admin + "\" clashes with listen.address \"" + listen + "\""});
  }
  EXPECT_EQ(Problems("127.0.0.1:1", "127.0.0.1:2", "0.0.0.0:2"),
            std::vector<std::string>{"metrics.address: \"0.0.0.0:2\" clashes with admin.address \"127.0.0.1:2\""});
}

TEST_F(StartCheckTest, AddressesThatCannotBeBound) {
  const std::vector<std::string> name = Problems("goad-no-such-host.invalid:7443", "", "");
  ASSERT_EQ(name.size(), 1u);
  EXPECT_THAT(name[0], HasSubstr("listen.address: \"goad-no-such-host.invalid:7443\" names a host that is not found"));
  const std::vector<std::string> other = Problems("127.0.0.1:1", "", "192.0.2.1:7443");  // TEST-NET-1: nobody's
  ASSERT_EQ(other.size(), 1u);
  EXPECT_THAT(other[0], HasSubstr("metrics.address: \"192.0.2.1:7443\" cannot be bound, is it one of this machine?"));
}

TEST_F(StartCheckTest, AllProblemsAtOnceWithTheirLinesAndNoneAtAReload) {
  const std::string yaml = Write("goad.yaml",
                                 "sites: [{name: a, backends: [{url: \"http://h\"}]}]\n"
                                 "decision_log: {path: /nowhere/x}\n"
                                 "lock_file: /dev/full\n"
                                 "policy: {tau: 2}\n");
  const std::string start(LoadConfig(yaml).status().message());
  EXPECT_THAT(start, HasSubstr(":2:16: decision_log.path: /nowhere/x: its folder"));
  EXPECT_THAT(start, HasSubstr(":3:1: lock_file: /dev/full: is a device"));
  EXPECT_THAT(start, HasSubstr(":4:10: policy.tau: 2"));
  const std::string reload(LoadConfig(yaml, /*starting=*/false).status().message());
  EXPECT_EQ(reload, yaml + ":4:10: policy.tau: 2 is not in 0..1") << "a reload goes on without its log";
}

}  // namespace
}  // namespace goad::server
