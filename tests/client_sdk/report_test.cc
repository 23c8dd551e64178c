#include "client_sdk/loadgen/report.h"

#include <sstream>

#include "client_sdk/loadgen/comparison.h"
#include "client_sdk/loadgen/labels.h"
#include "gtest/gtest.h"

namespace goad::loadgen {
namespace {

TEST(Labels, AreWhatIsRecorded) {
  std::istringstream in(
      R"({"id":0,"kind":"su\"ms","prompt":"?","answer":"4","slm":{"answer":"5","correct":false,"alpha":0.625,"prompt_tokens":3,"prefill_s":1,"decode_s":1},"llm":{"answer":"4","correct":true,"prefill_s":1,"decode_s":1}})"
      "\n"
      R"({"id":1,"prompt":"?","answer":"4","slm":{"answer":"4","correct":true,"alpha":0,"prompt_tokens":3,"prefill_s":1,"decode_s":1},"llm":{"answer":"4","correct":false,"prefill_s":1,"decode_s":1}})");
  const auto questions = sched::ReadWorkload(in, "two");
  ASSERT_TRUE(questions.ok()) << questions.status();
  EXPECT_EQ(
      LabelLines(*questions),
      R"({"uncertainty":0.625,"metric":"MARGIN","model":"","kind":"su\"ms","device_correct":false,"edge_correct":true})"
      "\n"
      R"({"uncertainty":0.0,"metric":"MARGIN","model":"","device_correct":true,"edge_correct":false})"
      "\n");
}

TEST(Report, CountsScoresAndIntervalsByHand) {
  sched::RecordedQuestion easy, hard;
  easy.device.correct = easy.edge.correct = true;
  hard.device.correct = false;
  hard.edge.correct = true;
  std::vector<Outcome> outcomes(5);
  const auto set = [&](int k, const sched::RecordedQuestion& q, bool edge, bool correct, int answers, double ms) {
    outcomes[k].question = &q;
    outcomes[k].edge = edge;
    outcomes[k].correct = correct;
    outcomes[k].answers = answers;
    outcomes[k].reason = edge ? "UNCERTAIN" : "NO_GAIN";
    outcomes[k].delay = absl::Milliseconds(ms);
  };
  set(0, easy, false, true, 1, 10);
  set(1, hard, true, true, 1, 20);
  set(2, hard, true, true, 2, 30);
  set(3, hard, false, false, 1, 40);
  set(4, easy, false, true, 0, 0);  // lost
  const Report report = MakeReport(outcomes);
  EXPECT_EQ(report.asked, 5);
  EXPECT_EQ(report.local, 2);
  EXPECT_EQ(report.edge, 2);
  EXPECT_EQ(report.lost, 1);
  EXPECT_EQ(report.twice, 1);
  EXPECT_EQ(report.accuracy.right, 3);
  EXPECT_EQ(report.all_local.right, 1);
  EXPECT_EQ(report.all_edge.right, 4);
  EXPECT_DOUBLE_EQ(report.over_local.mean, 0.5);
  EXPECT_DOUBLE_EQ(report.under_edge.mean, -0.25);
  EXPECT_DOUBLE_EQ(report.delay.mean_s, 0.025);
  EXPECT_DOUBLE_EQ(report.delay.p50_s, 0.020);
  EXPECT_DOUBLE_EQ(report.delay.p99_s, 0.040);
  EXPECT_NEAR((Proportion{50, 100}).low(), 0.4038, 1e-4);  // Wilson, from the textbook
  EXPECT_NEAR((Proportion{50, 100}).high(), 0.5962, 1e-4);
  EXPECT_NE(FormatReport(report, {}).find("Emulated"), std::string::npos);
}

// Three questions under two policies; the third was lost under the second, so that two pairs are left:
// right - right 0 and 1, delay 20 - 10 and 30 - 40 ms. Mean 50 points +-1.96 * 70.71/sqrt(2), 0 ms +-1.96
// * 14.14/sqrt(2).
TEST(Comparison, IsPairedByQuestion) {
  const sched::RecordedQuestion question;
  std::vector<Played> played(2);
  const auto add = [&](Played& to, bool correct, double ms, int answers) {
    Outcome& outcome = to.outcomes.emplace_back();
    outcome.question = &question;
    outcome.correct = correct;
    outcome.delay = absl::Milliseconds(ms);
    outcome.answers = answers;
  };
  played[0].policy = "goa";
  add(played[0], true, 10, 1);
  add(played[0], false, 40, 1);
  add(played[0], false, 100, 1);
  played[1].policy = "all-edge";
  add(played[1], true, 20, 1);
  add(played[1], true, 30, 1);
  add(played[1], true, 0, 0);
  const std::string text = FormatComparison(played, {}, 1);
  const std::string row =
      text.substr(text.find("all-edge"), text.find("\n\n", text.find("all-edge")) - text.find("all-edge"));
  EXPECT_NE(row.find(" 1      0 "), std::string::npos) << row << ": one lost, none twice";
  EXPECT_NE(row.find("+50.0 +-98.0"), std::string::npos) << row;
  EXPECT_NE(row.find("+0.0 +-19.6"), std::string::npos) << row;
  EXPECT_NE(text.find("Emulated"), std::string::npos);
}

TEST(Workload, SaysWhichLineIsBad) {
  std::istringstream in("{\"id\":1}\n");
  EXPECT_EQ(std::string(sched::ReadWorkload(in, "w").status().message()).substr(0, 4), "w:1:");
  std::istringstream empty("");
  EXPECT_FALSE(sched::ReadWorkload(empty, "w").ok());
  EXPECT_EQ(sched::NormalisedAnswer(" Office.\n"), "office");
}

}  // namespace
}  // namespace goad::loadgen
