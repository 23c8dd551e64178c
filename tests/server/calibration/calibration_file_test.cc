// calibration.json: what is written is read back bit for bit; whatever else is in it is refused by name.
#include "server/calibration/calibration_file.h"

#include <functional>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace goad::server {
namespace {

using calibration::Curve;
using nlohmann::json;
using testing::HasSubstr;

Calibration Example() {
  Calibration example;
  example.curves = {
      {.metric = "MARGIN",
       .model = "slm",
       .kind = "",
       .labels = 500,
       .points = {{0.1, 1.0 / 3}, {0.7, 2.0 / 3}},
       .edge_wrong = 0.1},
      {.metric = "MARGIN", .model = "slm", .kind = "sums", .labels = 40, .points = {{0.5, 0.9}}, .edge_wrong = 0.2}};
  example.evidence = {.labels = 100, .steps = {{0, 90, 90, 91}, {0.1, 80, 85, 90}, {1, 0, 60, 60}}};
  example.certificate = calibration::Certify(example.evidence, 0.75, 0.9);
  return example;
}

std::string Refusal(const std::function<void(json&)>& change) {
  json file = json::parse(CalibrationText(Example()));
  change(file);
  return std::string(ReadCalibration(file.dump()).status().message());
}

TEST(CalibrationFile, IsReadBackAsItWas) {
  const Calibration example = Example();
  const std::string text = CalibrationText(example);
  const auto read = ReadCalibration(text);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(CalibrationText(*read), text);
  ASSERT_EQ(read->curves.size(), 2u);
  EXPECT_EQ(read->curves[0].points[0].y, 1.0 / 3);  // bit for bit
  EXPECT_EQ(*read->curves[1].edge_wrong, 0.2);
  EXPECT_EQ(read->certificate->value_tau, 0.1);
  EXPECT_EQ(read->certificate->labels, 100u);
}

TEST(CalibrationFile, NeedsNoEvidence) {
  Calibration example = Example();
  example.evidence = {};
  example.certificate.reset();
  for (Curve& curve : example.curves) curve.edge_wrong.reset();
  const auto read = ReadCalibration(CalibrationText(example));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(read->evidence.steps.empty());
  EXPECT_FALSE(read->curves[0].edge_wrong);
}

TEST(CalibrationFile, RefusesWhatCannotBe) {
  const auto refused = [](const char* want, const std::function<void(json&)>& change) {
    EXPECT_THAT(Refusal(change), HasSubstr(want));
  };
  refused("format: \"goad-calibration/2\" is not \"goad-calibration/1\"",
          [](json& f) { f["format"] = "goad-calibration/2"; });
  refused("format: is missing", [](json& f) { f.erase("format"); });
  refused("extra: is no field known here", [](json& f) { f["extra"] = 1; });
  refused("curves: has 0 entries, want 1..1000", [](json& f) { f["curves"] = json::array(); });
  refused("curves[0].metric: \"ENTROPY\" is not one of MARGIN,", [](json& f) { f["curves"][0]["metric"] = "ENTROPY"; });
  refused("curves[0].model: is 129 bytes long", [](json& f) { f["curves"][0]["model"] = std::string(129, 'x'); });
  refused("curves[1].kind: \"a", [](json& f) { f["curves"][1]["kind"] = "a\x01"; });
  refused("curves[0].labels: 0 is not a whole number in 1..1000000", [](json& f) { f["curves"][0]["labels"] = 0; });
  refused("curves[0].edge_wrong: 1.5 is not in 0..1", [](json& f) { f["curves"][0]["edge_wrong"] = 1.5; });
  refused("curves[0].points[1]: 1.01 is not in 0..1", [](json& f) { f["curves"][0]["points"][1][1] = 1.01; });
  refused("curves[0].points[1]: its uncertainty is not above", [](json& f) { f["curves"][0]["points"][1][0] = 0.1; });
  refused("curves[0].points[1]: its P(device wrong) falls", [](json& f) { f["curves"][0]["points"][1][1] = 0.1; });
  refused("curves[0].points[0]: is not [uncertainty", [](json& f) { f["curves"][0]["points"][0] = {0.1, "x"}; });
  refused("curves[0].points: has 0 entries", [](json& f) { f["curves"][0]["points"] = json::array(); });
  refused("curves[1]: is not behind the one before", [](json& f) { f["curves"][1].erase("kind"); });
  refused("curves[1]: is of a kind; its metric and model have none", [](json& f) { f["curves"][1]["model"] = "tlm"; });
  refused("curves[1]: edge_wrong: known for some kinds", [](json& f) { f["curves"][1].erase("edge_wrong"); });
  refused("evidence.labels: 0 is not a whole number", [](json& f) { f["evidence"]["labels"] = 0; });
  refused("evidence.steps[0].value_tau: the first one is not 0",
          [](json& f) { f["evidence"]["steps"][0]["value_tau"] = 0.01; });
  refused("evidence.steps[2].value_tau: does not rise", [](json& f) { f["evidence"]["steps"][2]["value_tau"] = 0.1; });
  refused("evidence.steps[1].right: 101 is not", [](json& f) { f["evidence"]["steps"][1]["right"] = 101; });
  refused("evidence.steps[1].offloaded: rises", [](json& f) { f["evidence"]["steps"][1]["offloaded"] = 95; });
  refused("evidence.steps[1].local_right: 80 is not", [](json& f) { f["evidence"]["steps"][1]["local_right"] = 80; });
  refused("certificate: there is no evidence for it", [](json& f) { f.erase("evidence"); });
  refused("certificate.value_tau: 1 where the evidence says 0.1", [](json& f) { f["certificate"]["value_tau"] = 1; });
  refused("certificate.share: 0.1 where the evidence says 0.8", [](json& f) { f["certificate"]["share"] = 0.1; });
  refused("certificate.certified: 0.9 where", [](json& f) { f["certificate"]["certified"] = 0.9; });
  refused("certificate.labels: 9 where", [](json& f) { f["certificate"]["labels"] = 9; });
  refused("certificate: the evidence does not bear it out", [](json& f) { f["certificate"]["accuracy"] = 0.95; });
  refused("certificate.confidence: 1 is not in 0.5..0.9999", [](json& f) { f["certificate"]["confidence"] = 1; });
  refused("certificate: \"x\" is not an object", [](json& f) { f["certificate"] = "x"; });
}

TEST(CalibrationFile, IsAnyBytes) {
  const auto words = [](const std::string& text) { return std::string(ReadCalibration(text).status().message()); };
  EXPECT_EQ(words(""), "is no JSON object");
  EXPECT_EQ(words("[]"), "is no JSON object");
  EXPECT_EQ(words("{\"format\":\"a\",\"format\":\"b\"}"), "names \"format\" twice");
  EXPECT_THAT(words(std::string(9, '[') + std::string(9, ']')), HasSubstr("8"));
  const std::string text = CalibrationText(Example());
  for (size_t k = 0; k < text.size() - 2; ++k) EXPECT_FALSE(ReadCalibration(text.substr(0, k)).ok());
}

}  // namespace
}  // namespace goad::server
