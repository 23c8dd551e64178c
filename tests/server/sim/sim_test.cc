// `goad-sim run` and `replay`: the real engine in virtual time, and its log decided again.
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "gtest/gtest.h"
#include "server/sim/fit.h"
#include "server/sim/log_lines.h"
#include "server/sim/replay.h"
#include "server/sim/run.h"
#include "server/sim/run_report.h"
#include "server/telemetry/outcome_json.h"

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

std::string Lines(const std::string& text) {
  std::istringstream in(text);
  std::string all;
  const absl::Status status = ReadLogLines(in, "x", [&](const nlohmann::json& line, const std::string& place) {
    all += place + " " + std::to_string(line.value("k", std::string()).size()) + "; ";
    return absl::OkStatus();
  });
  return all + std::string(status.message());
}

TEST(ReadLogLines, TakesEachLineWithItsPlace) {
  EXPECT_EQ(Lines(""), "");
  EXPECT_EQ(Lines("{}\n\n{}"), "x:1 0; x:3 0; ");
  for (const int size : {65526, 65527, 65528, 131062, 200000}) {  // around the pieces in which it is read
    EXPECT_EQ(Lines("{\"k\":\"" + std::string(size, 'x') + "\"}\n{}\n"), "x:1 " + std::to_string(size) + "; x:2 0; ");
  }
}

TEST(ReadLogLines, BoundsLengthAndDepthOfALine) {
  const auto nested = [](int depth) {
    return "{\"a\":" + std::string(depth - 1, '[') + std::string(depth - 1, ']') + "}";
  };
  EXPECT_EQ(Lines(nested(16)), "x:1 0; ");
  EXPECT_EQ(Lines("{}\n" + nested(17)),
            "x:1 0; x:2: JSON text: more than 16 arrays and objects within each other at byte 20");
  const std::string longest = "{\"k\":\"" + std::string(kMostLogLineBytes - 8, 'x') + "\"}";
  EXPECT_EQ(Lines(longest + "\n"), "x:1 67108856; ");
  EXPECT_EQ(Lines(longest + " \n"), "x:1: is longer than 67108864 bytes");
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

// What was predicted and taken is on record: 8 reference times where 6.4 are taken, whatever else the sites do.
TEST_F(SimTest, ARunIsFitted) {
  const auto run = SimulateRun(Options("goa"));
  ASSERT_TRUE(run.ok()) << run.status();
  std::istringstream in(Log());
  Fit fit;
  ASSERT_TRUE(fit.Read(in, "log").ok());
  EXPECT_EQ(fit.outcomes(), run->edge_s.size());
  const nlohmann::json json = fit.Json();
  size_t answers = 0;
  for (const nlohmann::json& site : json.at("sites")) {
    answers += site.at("answers").get<size_t>();
    EXPECT_EQ(site.at("samples"), 0);  // nothing is learned of such sites
    EXPECT_TRUE(site.at("learned").is_null());
    EXPECT_GT(site.at("decided").at("bias"), 0.1);
  }
  EXPECT_EQ(answers, run->edge_s.size());
  EXPECT_EQ(json.at("upload").at("answers"), run->edge_s.size());
}

// A log of one site and one device, a line a second.
class FitTest : public testing::Test {
 protected:
  FitTest() {
    outcome_.site = "a";
    outcome_.device = "d";
    outcome_.ending = Ending::kCompleted;
    outcome_.at_s = 100;
    outcome_.sharers = 1;
    outcome_.queries = 2;
    outcome_.configured = ComputeConfig{};  // 5000 tokens/s, 5 ms and 1 ms
  }
  // Took 50 ms and 10 ms for a token, at 80 ms and 1 Mbit/s.
  void Answer(int output_tokens, int expected_output_tokens, double prompt_bits) {
    outcome_.at_s += 1;
    outcome_.prompt_tokens = 100;
    outcome_.computed_tokens = 100;
    outcome_.output_tokens = output_tokens;
    outcome_.expected_output_tokens = expected_output_tokens;
    outcome_.compute_s = 0.05 + 0.01 * output_tokens;
    outcome_.predicted_compute_s = 2 * *outcome_.compute_s;
    outcome_.prompt_bits = prompt_bits;
    outcome_.upload_s = 0.08 + prompt_bits / 1e6;
    outcome_.predicted_upload_s = *outcome_.upload_s;
    log_ += ToJson(outcome_).dump() + "\n";
  }
  nlohmann::json Fitted(size_t after = 0) const {
    std::istringstream in(log_);
    Fit fit(after);
    const absl::Status status = fit.Read(in, "log");
    EXPECT_TRUE(status.ok()) << status;
    return fit.Json();
  }
  OutcomeRecord outcome_;
  std::string log_;
};

TEST_F(FitTest, SaysWhatWasPredictedByWhatWasConfigured) {
  Answer(10, 20, 10000);
  // 0.02 + 10 x 0.007 of 0.15; 0.02 + 20 x 0.007 of 0.15; 1 ms of 90.
  const nlohmann::json fit = Fitted();
  const nlohmann::json& site = fit.at("sites").at(0);
  const auto error = [](const nlohmann::json& way, double relative) {
    EXPECT_NEAR(way.at("median_relative_error").get<double>(), std::abs(relative), 1e-9);
    EXPECT_NEAR(way.at("bias").get<double>(), relative, 1e-9);
  };
  EXPECT_EQ(site.at("site"), "a");
  EXPECT_EQ(site.at("answers"), 1);
  EXPECT_EQ(site.at("samples"), 1);
  error(site.at("decided"), 1);
  error(site.at("configured"), -0.06 / 0.15);
  error(site.at("learned"), -0.06 / 0.15);  // from nothing
  error(site.at("assumed_lengths").at("configured"), 0.01 / 0.15);
  error(fit.at("upload").at("decided"), 0);
  error(fit.at("upload").at("configured"), 0.001 / 0.09 - 1);
}

TEST_F(FitTest, LearnsAsTheDaemonDoes) {
  for (int k = 0; k < 200; ++k) Answer(5 + k % 7 * 20, 5 + k % 7 * 20, 4000 + k % 5 * 100000);
  const nlohmann::json fit = Fitted();
  const nlohmann::json& site = fit.at("sites").at(0);
  EXPECT_GT(site.at("configured").at("median_relative_error"), 0.3);
  EXPECT_LT(site.at("learned").at("median_relative_error"), 0.02);
  EXPECT_EQ(site.at("learned"), site.at("assumed_lengths").at("learned"));
  EXPECT_GT(fit.at("upload").at("configured").at("median_relative_error"), 0.5);
  EXPECT_LT(fit.at("upload").at("learned").at("median_relative_error"), 0.02);
}

TEST_F(FitTest, CanLeaveTheFirstAnswersOut) {
  Answer(10, 10, 4000);  // 0.09 of 0.15
  Answer(95, 95, 4000);  // 0.685 of 1, of which one answer tells something
  const nlohmann::json all = Fitted(), second = Fitted(1), none = Fitted(2);
  const auto bias = [](const nlohmann::json& fit, const char* way) {
    return fit.at("sites").at(0).at(way).at("bias").get<double>();
  };
  EXPECT_NEAR(bias(all, "configured"), (0.09 / 0.15 + 0.685) / 2 - 1, 1e-9);
  EXPECT_NEAR(bias(second, "configured"), 0.685 - 1, 1e-9);
  EXPECT_GT(bias(second, "learned"), 0.685 - 1 + 0.01) << "the first one is learned from";
  EXPECT_EQ(second.at("upload").at("samples"), 2);
  EXPECT_TRUE(none.at("sites").at(0).at("learned").is_null());
  EXPECT_TRUE(none.at("upload").at("decided").is_null());
}

TEST_F(FitTest, WhatIsNoSampleIsPredictedOnlyAsItWas) {
  outcome_.sharers.reset();
  Answer(5, 5, 1000);
  outcome_.configured.reset();
  Answer(5, 5, 1000);
  const nlohmann::json fit = Fitted();
  EXPECT_EQ(fit.at("sites").at(0).at("answers"), 2);
  EXPECT_EQ(fit.at("sites").at(0).at("samples"), 1);
  EXPECT_EQ(fit.at("upload").at("samples"), 0);
  EXPECT_TRUE(fit.at("upload").at("learned").is_null());
}

TEST_F(FitTest, OtherNumbersAndAnotherBootBeginAnew) {
  for (int k = 0; k < 200; ++k) Answer(5 + k % 7 * 20, 5, 4000);
  const std::string log = std::exchange(log_, "");
  outcome_.at_s = 0;  // as after a boot
  Answer(50, 50, 4000);
  const std::string booted = std::exchange(log_, "");
  outcome_.at_s = 301;
  outcome_.configured->token_time_s = 0.004;
  Answer(50, 50, 4000);
  const std::string reloaded = std::exchange(log_, "");
  const auto bias_of = [&](const std::string& more) {
    log_ = log + more;
    const nlohmann::json site = Fitted().at("sites").at(0);
    return site.at("learned").at("bias").get<double>() * site.at("samples").get<double>();
  };
  const double before = bias_of("");
  EXPECT_NEAR(bias_of(booted) - before, (0.02 + 50 * 0.007) / 0.55 - 1, 1e-6);
  EXPECT_NEAR(bias_of(reloaded) - before, (0.02 + 50 * 0.006) / 0.55 - 1, 1e-6);
}

}  // namespace
}  // namespace goad::server
