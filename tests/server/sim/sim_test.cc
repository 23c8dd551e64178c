// `goad-sim run` and `replay`: the real engine in virtual time, and its log decided again.
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "gtest/gtest.h"
#include "server/sim/replay.h"
#include "server/sim/run.h"

namespace goad::server {
namespace {

class SimTest : public testing::Test {
 protected:
  SimTest() { std::filesystem::remove(log_); }
  ~SimTest() override { std::filesystem::remove(log_); }

  RunOptions Options(const std::string& policy) const {
    RunOptions options;
    options.policy = policy;
    options.rate = 3000;  // more than the sites answer at once: gain decides
    options.seconds = 0.5;
    options.log = log_;
    return options;
  }
  std::string Log() const {
    std::ifstream in(log_);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }
  const std::string log_ = testing::TempDir() + "goad_sim_" + std::to_string(getpid()) + ".jsonl";
};

size_t Sum(const std::map<std::string, size_t>& counts) {
  size_t sum = 0;
  for (const auto& [name, count] : counts) sum += count;
  return sum;
}

TEST_F(SimTest, EveryQuestionIsAnsweredOnceAndTheSeedDecides) {
  const auto run = SimulateRun(Options("goa"));
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_GT(run->asked, 1000u);
  EXPECT_EQ(run->local_s.size() + run->edge_s.size(), run->asked);
  EXPECT_EQ(Sum(run->local) + Sum(run->offloaded), run->asked);
  EXPECT_GT(run->edge_s.size(), 0u);
  const std::string first = FormatRun(*run, Options("goa"));
  EXPECT_EQ(FormatRun(*SimulateRun(Options("goa")), Options("goa")), first);
}

TEST_F(SimTest, ReplayDecidesEveryLoggedEpochAgainBitForBit) {
  for (const char* policy : {"goa", "goa-relocate", "min-delay", "random"}) {
    SCOPED_TRACE(policy);
    ASSERT_TRUE(SimulateRun(Options(policy)).ok());
    std::istringstream in(Log());
    ReplayReport report;
    ASSERT_TRUE(Replay(in, "log", {}, &report).ok());
    EXPECT_GT(report.epochs, 10u);
    EXPECT_TRUE(report.differing.empty()) << FormatReplay(report, {});
    EXPECT_EQ(report.logged.delay_s, report.replayed.delay_s);
  }
}

TEST_F(SimTest, ReplayUnderAnotherPolicyComparesThem) {
  ASSERT_TRUE(SimulateRun(Options("goa")).ok());
  std::istringstream in(Log());
  ReplayOptions options;
  options.policy = "goa-relocate";
  ReplayReport report;
  ASSERT_TRUE(Replay(in, "log", options, &report).ok());
  EXPECT_LE(report.replayed.delay_s, report.logged.delay_s * (1 + 1e-9));
  EXPECT_NE(FormatReplay(report, options).find("goa-relocate"), std::string::npos);
}

TEST_F(SimTest, ReplayNoticesAnotherDecision) {
  ASSERT_TRUE(SimulateRun(Options("goa")).ok());
  std::string log = Log();
  const size_t at = log.find("\"order\":[[") + 10;
  log[at] = log[at] == '0' ? '9' : '0';  // another candidate, or one that is not there
  std::istringstream in(log);
  ReplayReport report;
  const absl::Status status = Replay(in, "log", {}, &report);
  EXPECT_TRUE(!status.ok() || report.differing.size() == 1) << FormatReplay(report, {});
}

TEST(Replay, SaysWhatIsWrongWithAFile) {
  const auto message = [](const std::string& text) {
    std::istringstream in(text);
    ReplayReport report;
    return std::string(Replay(in, "x.jsonl", {}, &report).message());
  };
  EXPECT_EQ(message("{\"kind\":\"decision\"}\n{"), "x.jsonl:2: is no JSON object");
  EXPECT_NE(message("{\"kind\":\"snapshot\"}").find("x.jsonl:1: "), std::string::npos);
  EXPECT_EQ(message("{\"kind\":7}\n[]"), "x.jsonl:2: is no JSON object");
  EXPECT_EQ(message(""), "");
}

TEST(RunOptionsCheck, NamesOptionValueAndRange) {
  const auto message = [](auto change) {
    RunOptions options;
    change(options);
    return std::string(SimulateRun(options).status().message());
  };
  EXPECT_EQ(message([](auto& o) { o.tau = 2; }), "tau: 2 is not in 0..1");
  EXPECT_EQ(message([](auto& o) { o.rate = std::nan(""); }), "rate: nan is not above 0 and up to 1e6 (a second)");
  EXPECT_EQ(message([](auto& o) { o.seconds = -1; }), "seconds: -1 is not above 0 and up to 86400");
  EXPECT_EQ(message([](auto& o) { o.lambda_s = -1; }), "lambda: -1 is not finite and >= 0 (seconds)");
  EXPECT_NE(message([](auto& o) { o.policy = "optimal"; }).find("is not one that a daemon serves with"),
            std::string::npos);
}

}  // namespace
}  // namespace goad::server
