#include "server/config/start_check.h"

#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
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
  static Config WithBackend(const std::string& url) {
    Config config;
    config.listen.address = config.metrics_address = "127.0.0.1:0";
    config.admin_address = "";
    config.sites.emplace_back().backends.emplace_back().url = url;
    return config;
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

TEST_F(StartCheckTest, AUnixSocketNeedsAFolderThatIsThereOrThatSystemdMakes) {
  Write("file", "");
  EXPECT_EQ(Problems("unix:" + folder_ + "/a", "unix://" + folder_ + "/b", ""), std::vector<std::string>());
  EXPECT_EQ(Problems("unix:/run/goad-no-such/a", "unix:///run/goad-no-such/b", ""), std::vector<std::string>());
  for (const std::string none : {"/no/a", "/no/such/a", "/file/a"}) {
    const std::vector<std::string> all = Problems("127.0.0.1:0", "unix:" + folder_ + none, "");
    ASSERT_EQ(all.size(), 1u) << none;
    EXPECT_THAT(all[0], HasSubstr("admin.address: \"unix:" + folder_ + none + "\" has no folder to be in: "));
  }
  EXPECT_EQ(Problems("unix:/run/goad-no-such/deeper/a", "", "").size(), 1u);
  EXPECT_EQ(Problems("unix:" + folder_ + "/no/a", "", "").size(), 1u);
}

TEST_F(StartCheckTest, ABackendIsNotGoadItself) {
  const auto problems = [](const std::string& listen, const std::string& url) {
    Config config = WithBackend(url);
    config.listen.address = listen;
    config.metrics_address = "127.0.0.1:9464";
    const auto all = StartProblems(config);
    return all.empty() ? "" : all[0].path + ": " + all[0].message;
  };
  for (const char* url : {"http://127.0.0.1:7443", "https://localhost:7443/x", "HTTP://127.0.0.5:7443"}) {
    EXPECT_EQ(problems("0.0.0.0:7443", url),
              "sites[0].backends[0].url: \"" + std::string(url) + "\" is goad's own listen.address \"0.0.0.0:7443\"");
  }
  EXPECT_THAT(problems("127.0.0.1:7443", "http://localhost:7443"), HasSubstr("goad's own listen.address"));
  EXPECT_THAT(problems("127.0.0.1:7443", "http://localhost:9464"), HasSubstr("goad's own metrics.address"));
  for (const char* url : {"http://127.0.0.1:7444", "http://127.0.0.2:7443", "http://192.0.2.1:7443"}) {
    EXPECT_EQ(problems("127.0.0.1:7443", url), "");
  }
  EXPECT_EQ(problems("0.0.0.0:7443", "http://192.0.2.1:7443"), "") << "the same port of another machine";
  EXPECT_EQ(problems("0.0.0.0:0", "http://127.0.0.1:80"), "");
}

TEST_F(StartCheckTest, ANameThatIsNotFoundYetIsAWarning) {
  Config config = WithBackend("http://goad-no-such-host.invalid:1");
  config.sites[0].backends.push_back(config.sites[0].backends[0]);
  config.sites[0].backends[1].url += "1";
  const auto began = std::chrono::steady_clock::now();
  std::vector<std::string> warnings;
  EXPECT_TRUE(StartProblems(config, &warnings).empty());
  ASSERT_EQ(warnings.size(), 1u) << "a name once";
  EXPECT_THAT(warnings[0], HasSubstr("sites[0].backends[0].url: goad-no-such-host.invalid is not found"));
  for (int k = 0; k < 63; ++k) {
    config.sites[0].backends.push_back(config.sites[0].backends[0]);
    config.sites[0].backends.back().url = "http://goad-no-such-host" + std::to_string(k) + ".invalid";
  }
  EXPECT_TRUE(StartProblems(config, &warnings).empty());
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(6)) << "however many there are";
}

TEST_F(StartCheckTest, AKeyThatGoesOverTheNetInTheClearIsAWarning) {
  const auto warnings = [](const std::string& url, const std::string& key) {
    Config config = WithBackend(url);
    config.sites[0].backends[0].api_key = key;
    std::vector<std::string> all;
    EXPECT_TRUE(StartProblems(config, &all).empty());
    return all;
  };
  for (const char* far : {"http://192.0.2.1", "http://[2001:db8::1]:80", "http://172.32.0.1", "http://11.0.0.1"}) {
    const std::vector<std::string> all = warnings(far, "s3cret");
    ASSERT_EQ(all.size(), 1u) << far;
    EXPECT_EQ(all[0], "sites[0].backends[0].api_key_file: the key goes to \"" + std::string(far) +
                          "\" unencrypted, and that is not known to be a private address; use https://");
    EXPECT_EQ(warnings(far, "").size(), 0u);
  }
  EXPECT_EQ(warnings("http://llm.goad-no-such-host.invalid", "s3cret").size(), 2u) << "not found, and who knows where";
  EXPECT_EQ(warnings("http://goad-no-such-host.local", "s3cret").size(), 1u);
  for (const char* near : {"https://192.0.2.1", "http://127.0.0.1", "http://localhost", "http://10.1.2.3",
                           "http://172.31.0.1", "http://192.168.1.1", "http://169.254.1.1", "http://100.64.0.1",
                           "http://[::1]", "http://[fd00::1]", "http://[fe80::1]", "http://[::ffff:10.0.0.1]"}) {
    EXPECT_EQ(warnings(near, "s3cret").size(), 0u) << near;
  }
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
