#include "scheduler/sim/sweep.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "gtest/gtest.h"
#include "scheduler/sim/report.h"
#include "scheduler/sim/scenario.h"

namespace goad::sched {
namespace {

SweepOptions Small() {
  SweepOptions options;
  options.policies = {"goa", "goa-relocate", "min-delay", "random", "all-edge", "all-local"};
  options.users = {50, 100};
  options.taus = {0.6, 1.0};
  options.draws = 20;
  options.threads = 2;
  return options;
}

class SweepTest : public testing::Test {
 protected:
  SweepTest() { std::filesystem::remove(path_); }
  ~SweepTest() override { std::filesystem::remove(path_); }
  std::string Text() const {
    std::ifstream in(path_, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }
  const std::string path_ = testing::TempDir() + "goad_sweep_" + std::to_string(getpid()) + ".jsonl";
};

// But for the times, everything comes from the seed, whatever the threads.
void ExpectSame(const Sweep& a, const Sweep& b) {
  ASSERT_EQ(a.rows.size(), b.rows.size());
  for (size_t k = 0; k < a.rows.size(); ++k) {
    EXPECT_EQ(a.rows[k].policy, b.rows[k].policy);
    EXPECT_EQ(a.rows[k].delay_ms, b.rows[k].delay_ms);
    EXPECT_EQ(a.rows[k].accuracy, b.rows[k].accuracy);
    EXPECT_EQ(a.rows[k].offloaded, b.rows[k].offloaded);
  }
}

TEST_F(SweepTest, GoesOnWhereItStoppedAndGivesTheSame) {
  const auto whole = RunSweep(Small(), path_, {});
  ASSERT_TRUE(whole.ok()) << whole.status();
  ASSERT_EQ(whole->rows.size(), 2u * 2 * 6);
  const std::string text = Text();
  std::ofstream(path_, std::ios::binary) << text.substr(0, text.size() * 2 / 3);  // in the middle of a line
  EXPECT_NE(ReadSweep(path_).status().message().find("is not finished"), std::string::npos);
  SweepOptions other_threads = Small();
  other_threads.threads = 1;
  const auto resumed = RunSweep(other_threads, path_, {});
  ASSERT_TRUE(resumed.ok()) << resumed.status();
  ExpectSame(*whole, *resumed);
  const auto read = ReadSweep(path_);
  ASSERT_TRUE(read.ok()) << read.status();
  ExpectSame(*whole, *read);
}

TEST_F(SweepTest, AnotherSweepsFileIsLeftAlone) {
  ASSERT_TRUE(RunSweep(Small(), path_, {}).ok());
  const std::string before = Text();
  SweepOptions other = Small();
  other.seed = 2;
  EXPECT_NE(RunSweep(other, path_, {}).status().message().find("holds a sweep with other options"), std::string::npos);
  EXPECT_EQ(Text(), before);
}

TEST_F(SweepTest, ReportShowsThePaperTrends) {
  const auto sweep = RunSweep(Small(), path_, {});
  ASSERT_TRUE(sweep.ok());
  for (const Trend& trend : CheckTrends(*sweep)) {
    if (trend.claim.find("between 90 and 100") != std::string::npos) continue;  // 90 is not among these users
    EXPECT_NE(trend.verdict, Trend::kDoesNotHold) << trend.claim << ": " << trend.detail;
  }
  const std::string page = SweepReport(*sweep);
  EXPECT_NE(page.find("Accuracy is a model, not a measurement"), std::string::npos);
  EXPECT_EQ(page.find("src="), std::string::npos) << "not self-contained";
  for (const auto& [name, svg] : SweepCharts(*sweep)) {
    EXPECT_NE(page.find(svg), std::string::npos) << name;
    EXPECT_EQ(svg.find("nan"), std::string::npos) << name;
    for (const std::string& policy : sweep->options.policies) {
      EXPECT_NE(svg.find(">" + policy + "<"), std::string::npos) << name;
    }
  }
}

TEST_F(SweepTest, RecordedQuestionsCanBeUsed) {
  SweepOptions options = Small();
  options.workload = std::string(GOAD_SOURCE_DIR) + "/deploy/llm/workload.jsonl";
  const auto sweep = RunSweep(options, path_, {});
  ASSERT_TRUE(sweep.ok()) << sweep.status();
  // The recording: 55.8 % of the device's answers are right, 88.05 % of the edge's.
  for (const SweepRow& row : sweep->rows) {
    if (row.policy == "all-local") {
      EXPECT_NEAR(row.accuracy, 0.558, 0.05);
    } else if (row.policy == "all-edge") {
      EXPECT_NEAR(row.accuracy, 0.8805, 0.05);
    }
  }
}

TEST(Accuracy, ModelMeetsThePaperAtTheMeanUncertainty) {
  const double mean = 1.4 / 2.22;
  EXPECT_NEAR(LocalAccuracy(mean), 0.452, 1e-12);
  EXPECT_NEAR(EdgeAccuracy(mean), 0.562, 1e-12);
  EXPECT_EQ(LocalAccuracy(0), EdgeAccuracy(0));
}

TEST(SweepOptionsCheck, NamesOptionValueAndRange) {
  const auto message = [](auto change) {
    SweepOptions options;
    change(options);
    return std::string(CheckSweepOptions(options).message());
  };
  EXPECT_EQ(message([](auto&) {}), "");
  EXPECT_EQ(message([](auto& o) { o.taus = {2}; }), "taus: 2 is not in 0..1");
  EXPECT_EQ(message([](auto& o) { o.users = {0}; }), "users: 0 is not in 1..10000");
  EXPECT_EQ(message([](auto& o) { o.draws = 0; }), "draws: 0 is not in 1..1000000");
  EXPECT_EQ(message([](auto& o) { o.policies = {"optimal"}; }),
            "users: 120 are more than the 12 that optimal can decide on");
}

}  // namespace
}  // namespace goad::sched
