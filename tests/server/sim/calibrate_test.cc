// Labels from the recorded workload through `goad-sim calibrate`: what comes out, and which labels are refused.
#include "server/sim/calibrate.h"

#include <fstream>
#include <sstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/workload/workload.h"
#include "server/sim/labels.h"

namespace goad::server {
namespace {

using calibration::Label;
using testing::HasSubstr;

// Every `step`-th recorded question.
std::vector<Label> Recorded(size_t step, bool edge = true) {
  std::ifstream in(GOAD_SOURCE_DIR "/deploy/llm/workload.jsonl");
  const auto questions = sched::ReadWorkload(in, "workload");
  std::vector<Label> labels;
  for (size_t k = 0; questions.ok() && k < questions->size(); k += step) {
    const sched::RecordedQuestion& q = (*questions)[k];
    labels.push_back({q.uncertainty, "MARGIN", "slm", q.kind, q.device.correct, std::nullopt});
    if (edge) labels.back().edge_correct = q.edge.correct;
  }
  return labels;
}

TEST(Calibrate, CertifiesATauOfTheRecordedWorkload) {
  const auto report = Calibrate(Recorded(1), {});
  ASSERT_TRUE(report.ok()) << report.status();
  ASSERT_TRUE(report->calibration.certificate);
  EXPECT_GE(report->calibration.certificate->bound, 0.75);
  EXPECT_EQ(report->calibration.certificate->labels, 1000u);
  EXPECT_TRUE(report->kinds);
  ASSERT_TRUE(report->tau);
  const nlohmann::json object = CalibrationJson(*report);
  for (const char* name : {"tau", "value_tau", "certified", "labels", "share", "ece_before", "ece_after"}) {
    EXPECT_TRUE(object.at(name).is_number()) << name;
  }
  EXPECT_EQ(object.at("curves").size(), 19u);  // of all, and 18 kinds
  EXPECT_LT(object.at("ece_after").get<double>(), object.at("ece_before").get<double>() / 3);
  const std::string text = FormatCalibration(*report);
  EXPECT_THAT(text, HasSubstr("Certified: value tau"));
  EXPECT_THAT(text, HasSubstr("links are independent of correctness"));
  EXPECT_THAT(CalibrationSvg(*report), HasSubstr("certified tau"));
  const auto read = ReadCalibration(CalibrationText(report->calibration));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->certificate->value_tau, report->calibration.certificate->value_tau);
}

TEST(Calibrate, MeasuresOnTheOtherHalf) {
  const auto report = Calibrate(Recorded(3), {});
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->fit, 333u);
  EXPECT_EQ(report->certify, 334u);
  EXPECT_EQ(report->with_edge, 334u);
  size_t labels = 0;
  for (const calibration::ReliabilityBin& bin : report->after.bins) labels += bin.labels;
  EXPECT_EQ(labels, 334u);
}

TEST(Calibrate, WithoutKindsTauAndValueTauAreOneAndTheSame) {
  std::vector<Label> labels = Recorded(2);
  for (Label& label : labels) label.kind.clear();
  const auto report = Calibrate(labels, {});
  ASSERT_TRUE(report.ok() && report->tau && report->calibration.certificate);
  const calibration::Curve& curve = report->calibration.curves[0];
  for (const Label& label : labels) {
    EXPECT_EQ(label.uncertainty > *report->tau,
              curve.Value(label.uncertainty) > report->calibration.certificate->value_tau);
  }
}

TEST(Calibrate, SaysHowManyLabelsMoreWouldDo) {
  const auto first = Calibrate(Recorded(20), {});
  ASSERT_TRUE(first.ok()) << first.status();
  const calibration::Evidence& evidence =
      first->calibration.evidence;  // asked for: more than certified, less than seen
  const double seen = static_cast<double>(evidence.steps[0].right) / static_cast<double>(evidence.labels);
  const auto few = Calibrate(Recorded(20), {.accuracy = seen - 0.03});
  ASSERT_TRUE(few.ok()) << few.status();
  EXPECT_FALSE(few->calibration.certificate);
  ASSERT_TRUE(few->more_labels);
  EXPECT_GT(*few->more_labels, 100u);
  EXPECT_LT(*few->more_labels, 1000u);
  EXPECT_THAT(FormatCalibration(*few), HasSubstr("labels more that agree would do"));
  const auto never = Calibrate(Recorded(2), {.accuracy = 0.95});
  ASSERT_TRUE(never.ok());
  EXPECT_FALSE(never->more_labels);
  EXPECT_THAT(FormatCalibration(*never), HasSubstr("No number of labels would do"));
  EXPECT_TRUE(CalibrationJson(*never).at("tau").is_null());
}

TEST(Calibrate, WithoutTheEdgeThereAreCurvesAndNoCertificate) {
  const auto report = Calibrate(Recorded(2, /*edge=*/false), {});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_FALSE(report->calibration.certificate);
  EXPECT_THAT(FormatCalibration(*report), HasSubstr("No certificate: no label has edge_correct"));
  EXPECT_TRUE(ReadCalibration(CalibrationText(report->calibration)).ok());
  EXPECT_FALSE(CalibrationSvg(*report).empty());
}

TEST(Calibrate, RefusesOptionsOutOfRange) {
  EXPECT_THAT(std::string(Calibrate(Recorded(2), {.accuracy = 1}).status().message()),
              HasSubstr("--accuracy: 1 is not in 0.01..0.9999"));
  EXPECT_THAT(std::string(Calibrate(Recorded(2), {.accuracy = 0.75, .confidence = 0.4}).status().message()),
              HasSubstr("--confidence: 0.4 is not in 0.5..0.9999"));
}

std::string Refusal(const std::string& line) {
  constexpr char kGood[] = R"({"uncertainty":0.5,"metric":"MARGIN","model":"m","device_correct":true})";
  std::istringstream in(std::string(kGood) + "\n" + line + "\n");
  std::vector<Label> labels;
  return std::string(ReadLabels(in, "labels", &labels).message());
}

TEST(Labels, AreRefusedByLineAndField) {
  const auto with = [](const std::string& fields) { return "{\"metric\":\"MARGIN\",\"model\":\"m\"," + fields + "}"; };
  EXPECT_EQ(Refusal("{"), "labels:2: is no JSON object");
  EXPECT_EQ(Refusal("7"), "labels:2: is no JSON object");
  EXPECT_EQ(Refusal(with("\"device_correct\":true")), "labels:2: uncertainty: is missing");
  EXPECT_EQ(Refusal(with("\"uncertainty\":2,\"device_correct\":true")), "labels:2: uncertainty: 2 is not in 0..1");
  EXPECT_EQ(Refusal(with("\"uncertainty\":\"x\",\"device_correct\":true")),
            "labels:2: uncertainty: \"x\" is not a number");
  EXPECT_EQ(Refusal(with("\"uncertainty\":0.5,\"device_correct\":1")),
            "labels:2: device_correct: 1 is not true or false");
  EXPECT_EQ(Refusal(with("\"uncertainty\":0.5,\"device_correct\":true,\"edge_corect\":true")),
            "labels:2: edge_corect: is no field known here");
  EXPECT_EQ(Refusal(with("\"uncertainty\":0.5,\"device_correct\":true,\"device_correct\":false")),
            "labels:2: names \"device_correct\" twice");
  EXPECT_THAT(Refusal(R"({"uncertainty":0.5,"metric":"ENTROPY","model":"m","device_correct":true})"),
              HasSubstr("labels:2: metric: \"ENTROPY\" is not one of MARGIN, MAX_PROBABILITY"));
  EXPECT_EQ(Refusal(with("\"uncertainty\":0.5,\"device_correct\":true,\"kind\":\"" + std::string(64, 'x') + "\"")),
            "labels:2: kind: is 64 bytes long, want at most 63");
  EXPECT_EQ(Refusal(std::string(5000, ' ')), "labels:2: is longer than 4096 bytes");
}

std::string Checked(const std::vector<Label>& labels) { return std::string(CheckLabels(labels).message()); }

TEST(Labels, AreEnoughAndDoNotContradictThemselves) {
  std::vector<Label> labels = Recorded(4);
  EXPECT_EQ(Checked(labels), "");
  EXPECT_THAT(Checked({}), HasSubstr("no labels, want at least 40"));
  EXPECT_THAT(Checked({labels.begin(), labels.begin() + 39}),
              HasSubstr("39 labels of metric MARGIN and model \"slm\", want at least 40"));
  std::vector<Label> turned = labels, sure = labels, other = labels;
  for (Label& label : turned) label.uncertainty = 1 - label.uncertainty;
  EXPECT_THAT(Checked(turned), HasSubstr("are the right ones (AUROC 0.3"));
  for (Label& label : sure) label.device_correct = true;
  EXPECT_THAT(Checked(sure), HasSubstr("the device is always right in all 500 labels"));
  for (size_t k = 0; k < 100; ++k) other[k].model = "tlm", other[k].edge_correct.reset();
  EXPECT_THAT(Checked(other), HasSubstr("edge_correct is in 0 labels of metric MARGIN and model \"tlm\" and in 400"));
}

}  // namespace
}  // namespace goad::server
