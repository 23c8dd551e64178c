// `goad-sim run` with traces: uplinks and sites by hand, and what the engine makes of them.
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/sim/replay.h"
#include "server/sim/roofline_sites.h"
#include "server/sim/run.h"
#include "server/sim/run_report.h"
#include "server/sim/traced_uplinks.h"

namespace goad::server {
namespace {

const MonotonicTime kStart = MonotonicTime::FromOrigin(absl::Seconds(1));

Question Asked(uint64_t id, double prompt_bits, double prompt_tokens, int output_tokens) {
  Question question;
  question.id = sched::QueryId{id};
  question.number = id;
  question.candidate.prompt_bits = prompt_bits;
  question.candidate.prompt_tokens = prompt_tokens;
  question.output_tokens = output_tokens;
  return question;
}

// Until nothing is under way; when each ended, in seconds since the start.
std::map<uint64_t, double> Ends(Flows* flows, MonotonicTime now = kStart) {
  std::map<uint64_t, double> ends;
  for (MonotonicTime next; (next = flows->Next(now)) != MonotonicTime::Infinite(); now = next) {
    flows->Advance(now, next);
    for (const Flows::End& end : flows->Ended(next)) ends[static_cast<uint64_t>(end.id)] = SecondsBetween(kStart, next);
  }
  return ends;
}

class TracedUplinksTest : public testing::Test {
 protected:
  TracedUplinksTest() {
    std::istringstream in("time_s,uplink_bps\n0,1000\n100,0\n");  // 100 s at 1,000 bit/s, 100 s of nothing
    traces_.push_back(*sched::UplinkTrace::Read(in, "x"));
    std::mt19937_64 random(kSeed);
    offset_s_ = std::uniform_real_distribution<double>(0, 200)(random);
  }
  static constexpr uint64_t kSeed = 5;
  std::vector<sched::UplinkTrace> traces_;
  double offset_s_;  // of the only device
};

TEST_F(TracedUplinksTest, AnUploadTakesARoundTripAndWhatTheTraceTakes) {
  TracedUplinks uplinks(traces_, 1, kSeed, kStart);
  const double first_s = offset_s_ < 100 ? 0 : 200 - offset_s_;  // since the start, when it sends
  const MonotonicTime now = kStart + absl::Seconds(first_s + (offset_s_ < 100 ? 100 - offset_s_ : 100) - 3);
  const double begun_s = SecondsBetween(kStart, now) + kRoundTrip_s;
  const Question quick = Asked(1, 2000, 0, 0);
  uplinks.Begin(quick, now);
  EXPECT_NEAR(Ends(&uplinks, now)[1], begun_s + 2, 1e-6);
  const Question slow = Asked(2, 4000, 0, 0);  // 3 s but for the round trip, then nothing for 100 s
  uplinks.Begin(slow, now);
  EXPECT_NEAR(Ends(&uplinks, now)[2], begun_s + 104, 1e-6);
}

TEST_F(TracedUplinksTest, ADevicesOwnUploadsShareItsRate) {
  TracedUplinks uplinks(traces_, 1, kSeed, kStart);
  const MonotonicTime now = kStart + absl::Seconds(200 - offset_s_);
  const double begun_s = 200 - offset_s_ + kRoundTrip_s;
  const Question one = Asked(1, 2000, 0, 0), other = Asked(2, 6000, 0, 0);
  uplinks.Begin(one, now);
  uplinks.Begin(other, now);
  const auto ends = Ends(&uplinks, now);
  EXPECT_NEAR(ends.at(1), begun_s + 4, 1e-6);  // at 500 bit/s
  EXPECT_NEAR(ends.at(2), begun_s + 8, 1e-6);  // 2000 by then, the rest at 1000 bit/s
  uplinks.Begin(one, now);
  uplinks.Begin(other, now);
  uplinks.Drop(one.id, now);
  EXPECT_NEAR(Ends(&uplinks, now).at(2), begun_s + 6, 1e-6);
}

// How long the last of `count` questions of one prompt token takes that are asked at once.
double LastOf(int count, size_t site, MonotonicTime now) {
  constexpr int kTokens = 1001;
  std::vector<Question> questions;
  for (int k = 0; k < count; ++k) {
    questions.push_back(Asked(static_cast<uint64_t>(k), 0, 1, kTokens));
    questions.back().site = site;
  }
  RooflineSites sites(2, 1, kStart, kStart + absl::Seconds(500));
  for (const Question& question : questions) sites.Begin(question, now);
  double last_s = 0;
  for (const auto& [id, end_s] : Ends(&sites, now)) last_s = std::max(last_s, end_s);
  return last_s - SecondsBetween(kStart, now);
}

TEST(RooflineSites, ABatchCostsNothingUntilItDoes) {
  EXPECT_NEAR(LastOf(1, 0, kStart), 20, 2);  // a thousand steps of 20 ms; noise is of a second's steps
  EXPECT_NEAR(LastOf(2 * 13, 0, kStart), 20, 2);
  EXPECT_NEAR(LastOf(2 * kBatchLimit, 0, kStart), 36, 3);
  EXPECT_NEAR(LastOf(2, 1, kStart), 20 * kSlowBackend, 3);
  EXPECT_NEAR(LastOf(1, 0, kStart + absl::Seconds(600)), 20 * kSlowdown, 3);
  EXPECT_NEAR(LastOf(1, 1, kStart + absl::Seconds(600)), 20, 2);
}

TEST(RooflineSites, PromptsWaitForEachOther) {
  RooflineSites sites(1, 1, kStart, MonotonicTime::Infinite());
  std::vector<Question> questions;
  for (uint64_t k = 0; k < 8; ++k) questions.push_back(Asked(k, 0, 4000, 1));  // of about a second
  for (const Question& question : questions) sites.Begin(question, kStart);
  double last_s = 0;
  for (const auto& [id, end_s] : Ends(&sites)) last_s = std::max(last_s, end_s);
  EXPECT_GT(last_s, 3.5);  // four on each backend, one of which is slow
  EXPECT_LT(last_s, 7);
}

class TracedRunTest : public testing::Test {
 protected:
  TracedRunTest() {
    std::filesystem::create_directories(folder_);
    std::mt19937_64 random(3);
    std::ofstream arrivals(folder_ + "/arrivals.csv"), uplink(folder_ + "/uplink.csv");
    arrivals << "time_s,prompt_tokens,output_tokens\n";
    double now_s = 0;
    for (int k = 0; k < 1500; ++k) {
      now_s += std::exponential_distribution<double>(4)(random);
      arrivals << now_s << "," << 100 + random() % 1500 << "," << 20 + random() % 300 << "\n";
    }
    uplink << "time_s,uplink_bps\n";
    for (int k = 0; k < 300; ++k) uplink << k * 0.1 << "," << (random() % 20) * 500000 << "\n";
    options_.arrivals = folder_ + "/arrivals.csv";
    options_.uplinks = {folder_ + "/uplink.csv"};
    options_.sites = 2;
    options_.devices = 50;
  }
  ~TracedRunTest() override { std::filesystem::remove_all(folder_); }

  nlohmann::json Run(Learn learn, double configured_error) {
    options_.learn = learn;
    options_.configured_error = configured_error;
    const auto report = SimulateRun(options_);
    EXPECT_TRUE(report.ok()) << report.status();
    return report.ok() ? RunJson(*report, options_) : nlohmann::json();
  }
  const std::string folder_ = testing::TempDir() + "goad_traces_" + std::to_string(getpid());
  RunOptions options_;
};

double Error(const nlohmann::json& run) { return run.at("prediction_error").at("compute").at("median_relative_error"); }
double Delay(const nlohmann::json& run) { return run.at("delay_s").at("all").at("mean"); }

TEST_F(TracedRunTest, EveryQuestionIsAnsweredOnceAndTheSeedDecides) {
  const auto report = SimulateRun(options_);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->asked, 1500u);
  EXPECT_EQ(report->local_s.size() + report->edge_s.size(), report->asked);
  for (const double delay_s : report->delay_s) EXPECT_GT(delay_s, 0);
  EXPECT_EQ(report->upload.size(), report->edge_s.size());  // nothing failed
  EXPECT_EQ(report->compute_assumed.size(), report->edge_s.size());
  const std::string first = RunJson(*report, options_).dump();
  EXPECT_EQ(RunJson(*SimulateRun(options_), options_).dump(), first);
  EXPECT_EQ(FormatRun(*SimulateRun(options_), options_), FormatRun(*report, options_));
  options_.seed = 2;
  EXPECT_NE(RunJson(*SimulateRun(options_), options_).dump(), first);
}

TEST_F(TracedRunTest, WhatIsLearnedIsCloserThanWhatWasConfigured) {
  const nlohmann::json right = Run(Learn::kTrue, 1);
  for (const double off : {2.0, 0.5}) {
    const nlohmann::json configured = Run(Learn::kOff, off), learned = Run(Learn::kOn, off);
    EXPECT_LT(Error(learned), 0.5 * Error(configured)) << off;
    EXPECT_LT(Delay(learned), 1.05 * Delay(right)) << off;
    // What says twice as fast says too little.
    const double bias = configured.at("prediction_error").at("compute").at("bias");
    EXPECT_GT(off == 2 ? -bias : bias, 0.3) << off;
  }
  EXPECT_LT(Error(right), 0.25);
  // A site that becomes slower is predicted as it was, where nothing is learned.
  const nlohmann::json configured = Run(Learn::kOff, 1), first = configured.at("by_site")[0];
  EXPECT_NEAR(first.at("compute_after").at("bias").get<double>() - first.at("compute_before").at("bias").get<double>(),
              1 / kSlowdown - 1, 0.1);
}

TEST_F(TracedRunTest, LongPromptsGoWhereTheContextIsLong) {
  options_.contexts = {1200, 100000};
  const auto mixed = SimulateRun(options_);
  ASSERT_TRUE(mixed.ok()) << mixed.status();
  EXPECT_EQ(mixed->local.count("NOT_ABLE"), 0u) << "one of the two can";
  options_.contexts = {1200, 1200};
  const auto shorter = SimulateRun(options_);
  ASSERT_TRUE(shorter.ok()) << shorter.status();
  EXPECT_GT(shorter->local.at("NOT_ABLE"), 300u);
  EXPECT_LT(shorter->edge_s.size(), mixed->edge_s.size());
  EXPECT_EQ(shorter->local_s.size() + shorter->edge_s.size(), shorter->asked);
  options_.contexts = {1200};
  EXPECT_EQ(SimulateRun(options_).status().message(), "context: 1 numbers for 2 sites");
  options_.contexts = {1200, 0};
  EXPECT_EQ(SimulateRun(options_).status().message(), "context: 0 is not in 1..100000000");
}

TEST_F(TracedRunTest, EachPolicyHasTheSameQuestions) {
  const std::vector<std::string> policies = {"goa", "all-local", "goa"};
  const auto reports = SimulateRuns(options_, policies);
  ASSERT_TRUE(reports.ok()) << reports.status();
  EXPECT_EQ((*reports)[0].delay_s, (*reports)[2].delay_s);
  EXPECT_EQ((*reports)[0].delay_s, SimulateRun(options_)->delay_s);
  EXPECT_EQ((*reports)[0].right_local, (*reports)[1].right_local);  // the same draws
  EXPECT_EQ((*reports)[1].local_s.size(), 1500u);
  const nlohmann::json runs = ComparisonJson(*reports, policies, options_).at("runs");
  EXPECT_EQ(runs[1].at("policy"), "all-local");
  EXPECT_TRUE(runs[1].at("prediction_error").at("compute").is_null());
  const nlohmann::json beside = runs[1].at("delay_beside_first_s");
  EXPECT_NEAR(beside.at("mean").get<double>(), Delay(runs[1]) - Delay(runs[0]), 1e-9);
  EXPECT_LT(beside.at("low").get<double>(), beside.at("mean").get<double>());
  EXPECT_EQ(runs[2].at("delay_beside_first_s").at("high"), 0);
  EXPECT_THAT(FormatComparison(*reports, policies, options_), testing::HasSubstr("all-local"));
}

TEST_F(TracedRunTest, ItsLogIsDecidedAgainBitForBit) {
  options_.log = folder_ + "/log.jsonl";
  options_.seconds = 60;
  ASSERT_TRUE(SimulateRun(options_).ok());
  std::ifstream in(options_.log);
  ReplayReport report;
  ASSERT_TRUE(Replay(in, "log", {}, &report).ok());
  EXPECT_GT(report.epochs, 100u);
  EXPECT_TRUE(report.differing.empty()) << FormatReplay(report, {});
}

TEST_F(TracedRunTest, WithoutUplinksTheRadioIsThePapers) {
  options_.uplinks.clear();
  options_.time_scale = 2;
  const auto report = SimulateRun(options_);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->local_s.size() + report->edge_s.size(), 1500u);
  EXPECT_LT(report->seconds, 250);  // twice as fast
  EXPECT_THAT(FormatRun(*report, options_), testing::HasSubstr("radio: the paper's"));
}

TEST_F(TracedRunTest, NamesOptionValueAndRange) {
  const auto message = [&](auto change) {
    RunOptions options = options_;
    change(options);
    return std::string(SimulateRun(options).status().message());
  };
  EXPECT_EQ(message([](auto& o) { o.time_scale = 0; }), "time_scale: 0 is not in 0.001..1000");
  EXPECT_EQ(message([](auto& o) { o.devices = 0; }), "devices: 0 is not in 1..10000");
  EXPECT_EQ(message([](auto& o) { o.configured_error = 20; }), "configured_error: 20 is not in 0.1..10");
  EXPECT_EQ(message([](auto& o) { o.rate = 5; }), "rate: not with arrivals, which come when they came; see time_scale");
  EXPECT_EQ(message([](auto& o) { o.uplinks = {"nowhere"}; }), "uplink: nowhere: cannot be read");
  EXPECT_EQ(message([](auto& o) { o.arrivals = ""; }), "uplink: only with arrivals");
  EXPECT_EQ(message([](auto& o) { o.arrivals = "", o.uplinks = {}, o.learn = Learn::kOff; }),
            "learn: only with arrivals; nothing is learned of the paper's sites");
}

}  // namespace
}  // namespace goad::server
