// policy.calibration: what of it is refused, by name, and what a configuration holds of it.
#include "server/config/policy_check.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/calibration/calibration_file.h"
#include "server/config/config_files.h"
#include "server/config/config_loader.h"

namespace goad::server {
namespace {

using ::testing::HasSubstr;

class PolicyCheckTest : public testing::Test {
 protected:
  PolicyCheckTest() { Write(CalibrationText(made_)); }
  ~PolicyCheckTest() override { std::filesystem::remove(path_); }

  // Device wrong as often as it says, the edge in 1 of 10; at tau 0 93 of 100 labels are right, at 0.5 80.
  static Calibration Make() {
    Calibration made;
    calibration::Curve curve;
    curve.metric = "MARGIN";
    curve.labels = 100;
    curve.points = {{0, 0}, {1, 1}};
    curve.edge_wrong = 0.1;
    made.curves = {curve};
    made.evidence.labels = 100;
    made.evidence.steps = {{0, 90, 93, 94}, {0.5, 40, 80, 85}, {1, 0, 50, 60}};
    return made;
  }
  void Write(const std::string& text) { std::ofstream(path_) << text; }
  absl::StatusOr<Config> Load(const std::string& policy) {
    return ParseConfig("f.yaml", absl::StrCat("sites: [{name: a, backends: [{url: \"http://127.0.0.1:1\"}]}]\n",
                                              "policy:\n  name: goa\n", policy));
  }
  std::string Problems(const std::string& policy) { return std::string(Load(policy).status().message()); }
  std::string File() const { return absl::StrCat("  calibration: ", path_, "\n"); }

  const std::string path_ = absl::StrCat(testing::TempDir(), "calibration-", getpid(), ".json");
  Calibration made_ = Make();
};

TEST_F(PolicyCheckTest, ACalibrationAloneIsRefusedWithTheReason) {
  EXPECT_THAT(Problems(File()),
              HasSubstr("f.yaml:4:3: policy.calibration: needs policy.accuracy or policy.value_tau: policies then read "
                        "what offloading is worth, and policy.tau, which is of uncertainty, means nothing on that"));
  EXPECT_THAT(Problems(File() + "  tau: 0.7\n"), HasSubstr("means nothing on that"));
}

TEST_F(PolicyCheckTest, AValueTauIsTaken) {
  const auto config = Load(File() + "  value_tau: 0.25\n");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->policy.Tau(), 0.25);
  ASSERT_NE(config->policy.curves, nullptr);
  EXPECT_EQ(config->policy.curves->at(0).points.size(), 2u);
  EXPECT_FALSE(config->policy.certificate);
}

TEST_F(PolicyCheckTest, AnAccuracyIsCertified) {
  const auto config = Load(File() + "  accuracy: 0.7\n");
  ASSERT_TRUE(config.ok()) << config.status();
  ASSERT_TRUE(config->policy.certificate);
  EXPECT_EQ(config->policy.certificate->value_tau, 0.5);
  EXPECT_EQ(config->policy.certificate->confidence, 0.9);
  EXPECT_EQ(config->policy.certificate->labels, 100u);
  EXPECT_EQ(config->policy.certificate->share, 0.4);
  EXPECT_EQ(config->policy.Tau(), 0.5);
  EXPECT_EQ(Load(File() + "  accuracy: 0.75\n  confidence: 0.99\n")->policy.Tau(), 0) << "surer costs more";
}

TEST_F(PolicyCheckTest, WhatNoTauCertifiesIsRefusedAndTheBestIsNamed) {
  const std::string best =
      absl::StrCat(std::floor(calibration::BoundOf(made_.evidence, made_.evidence.steps[0], 0.9) * 1e4) / 1e4);
  EXPECT_EQ(Problems(File() + "  accuracy: 0.95\n"),
            absl::StrCat("f.yaml:5:3: policy.accuracy: 0.95 is held by no tau with confidence 0.9 as far as the 100 "
                         "labels of ",
                         path_, " say; the best is ", best));
  EXPECT_TRUE(Load(File() + "  accuracy: " + best + "\n").ok()) << "and that one holds";
  made_.evidence = {};
  Write(CalibrationText(made_));
  EXPECT_THAT(Problems(File() + "  accuracy: 0.5\n"),
              HasSubstr("policy.accuracy: 0.5 cannot be certified: the labels"));
}

TEST_F(PolicyCheckTest, WhatSaysTwoThingsOrNothingIsRefused) {
  EXPECT_THAT(Problems(File() + "  accuracy: 0.7\n  value_tau: 0.2\n"),
              HasSubstr("policy.value_tau: would be another than the one that policy.accuracy certifies"));
  EXPECT_THAT(Problems("  accuracy: 0.7\n"), HasSubstr("policy.accuracy: needs policy.calibration"));
  EXPECT_THAT(Problems("  value_tau: 0.7\n"), HasSubstr("policy.value_tau: needs policy.calibration"));
  EXPECT_THAT(Problems(File() + "  value_tau: 0.2\n  tau_per_metric: {MARGIN: 0.2}\n"),
              HasSubstr("policy.tau_per_metric: is of uncertainties"));
  EXPECT_THAT(Problems(File() + "  accuracy: 1.5\n"), HasSubstr("policy.accuracy: 1.5 is not in 0.01..0.9999"));
  EXPECT_THAT(Problems(File() + "  accuracy: 0.7\n  confidence: 0.2\n"),
              HasSubstr("policy.confidence: 0.2 is not in 0.5..0.9999"));
  EXPECT_THAT(Problems(File() + "  value_tau: -1\n"), HasSubstr("policy.value_tau: -1 is not in 0..1"));
}

TEST_F(PolicyCheckTest, APolicyThatLeavesLocalWhatItMustSendPromisesNothing) {
  const auto with = [&](const std::string& name) {
    return std::string(ParseConfig("f.yaml", absl::StrCat("sites: [{name: a, backends: [{url: \"http://h:1\"}]}]\n",
                                                          "policy:\n  name: ", name, "\n", File(), "  accuracy: 0.7\n"))
                           .status()
                           .message());
  };
  EXPECT_THAT(with("all-local"), HasSubstr("policy.accuracy: policy all-local leaves local what is above tau"));
  EXPECT_EQ(with("goa-relocate"), "");
}

TEST_F(PolicyCheckTest, AFileThatIsNoCalibrationIsNamed) {
  Write("{\"format\": \"other\"}");
  EXPECT_THAT(Problems(File() + "  accuracy: 0.7\n"),
              HasSubstr(absl::StrCat("policy.calibration: ", path_, ": format: \"other\" is not")));
  std::filesystem::remove(path_);
  EXPECT_THAT(Problems(File() + "  accuracy: 0.7\n"), HasSubstr("No such file"));
}

TEST_F(PolicyCheckTest, AChangedFileIsNotInForceUntilTheReload) {
  const auto config = Load(File() + "  value_tau: 0.25\n");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(DifferenceOfFiles(*config), "");
  Write("{}");
  EXPECT_EQ(DifferenceOfFiles(*config), absl::StrCat(path_, " has changed"));
}

TEST_F(PolicyCheckTest, KindsThatNoQuestionCanBeOfAreAWarning) {
  made_.curves.push_back(made_.curves[0]);
  made_.curves[1].kind = "summary";
  Write(CalibrationText(made_));
  const auto config = Load(File() + "  value_tau: 0.25\n");
  ASSERT_TRUE(config.ok()) << config.status();
  ASSERT_EQ(config->warnings.size(), 1u);
  EXPECT_THAT(config->warnings[0], HasSubstr("1 kinds that are not in kinds (summary)"));
}

TEST_F(PolicyCheckTest, ATauOfItsOwnForAMetric) {
  const auto config = Load("  tau: 0.8\n  tau_per_metric: {MEAN_LOGPROB: 0.3, MARGIN: 0.6}\n");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->policy.TauOf(UncertaintyMetric::kMeanLogprob), 0.3);
  EXPECT_EQ(config->policy.TauOf(UncertaintyMetric::kMargin), 0.6);
  EXPECT_EQ(config->policy.TauOf(UncertaintyMetric::kDeclared), 0.8);
  EXPECT_EQ(config->policy.Tau(), 0.8);
  EXPECT_THAT(Problems("  tau_per_metric: {MARGIN: 2}\n"), HasSubstr("policy.tau_per_metric.MARGIN: 2 is not in 0..1"));
  EXPECT_THAT(Problems("  tau_per_metric: {ENTROPY: 1}\n"), HasSubstr("policy.tau_per_metric.ENTROPY"));
}

}  // namespace
}  // namespace goad::server
