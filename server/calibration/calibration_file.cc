#include "server/calibration/calibration_file.h"

#include <cmath>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "goad/uncertainty_source.h"
#include "server/base/clip.h"
#include "server/calibration/fields.h"

namespace goad::server {
namespace {

using calibration::Certificate;
using calibration::Certify;
using calibration::Curve;
using calibration::Curves;
using calibration::Evidence;
using calibration::Step;
using nlohmann::json;

absl::StatusOr<Curve> ReadCurve(const json& object, const std::string& path) {
  Fields fields(object, path + ".");
  Curve curve;
  curve.metric = fields.Text("metric", 32);
  if (fields.ok() && !IsMetric(curve.metric)) {
    fields.Wrong("metric", absl::StrCat("\"", Clip(curve.metric), "\" is not one of ", MetricNames()));
  }
  curve.model = fields.Text("model", kMostModelBytes);
  if (fields.Has("kind")) curve.kind = fields.Text("kind", kMostKindBytes);
  curve.labels = fields.Count("labels", 1, kMostLabels);
  if (fields.Has("edge_wrong")) curve.edge_wrong = fields.Number("edge_wrong", 0, 1);
  const json& points = fields.Array("points", 1, kMostCurvePoints);
  for (size_t k = 0; k < points.size() && fields.ok(); ++k) {
    const std::string name = absl::StrCat("points[", k, "]");
    const json& pair = points[k];
    if (!pair.is_array() || pair.size() != 2 || !pair[0].is_number() || !pair[1].is_number()) {
      fields.Wrong(name, "is not [uncertainty, P(device wrong)]");
      break;
    }
    const calibration::Point point{pair[0].get<double>(), pair[1].get<double>()};
    for (const double number : {point.x, point.y}) {
      if (!(number >= 0 && number <= 1)) fields.Wrong(name, absl::StrCat(number, " is not in 0..1"));
    }
    if (k > 0 && !(point.x > curve.points.back().x)) fields.Wrong(name, "its uncertainty is not above the one before");
    if (k > 0 && !(point.y >= curve.points.back().y)) fields.Wrong(name, "its P(device wrong) falls");
    curve.points.push_back(point);
  }
  if (absl::Status status = fields.Done(); !status.ok()) return status;
  return curve;
}

absl::StatusOr<Curves> ReadCurves(const json& list) {
  const auto key = [](const Curve& curve) { return std::tie(curve.metric, curve.model, curve.kind); };
  Curves curves;
  for (size_t k = 0; k < list.size(); ++k) {
    const std::string path = absl::StrCat("curves[", k, "]");
    absl::StatusOr<Curve> curve = ReadCurve(list[k], path);
    if (!curve.ok()) return curve.status();
    const auto wrong = [&](const char* what) { return absl::InvalidArgumentError(absl::StrCat(path, ": ", what)); };
    if (!curves.empty() && !(key(curves.back()) < key(*curve))) {
      return wrong("is not behind the one before, by metric, model and kind");
    }
    const bool follows =
        !curves.empty() && curves.back().metric == curve->metric && curves.back().model == curve->model;
    if (!curve->kind.empty() && !follows) return wrong("is of a kind; its metric and model have none of all kinds");
    if (!curves.empty() && curves.back().edge_wrong.has_value() != curve->edge_wrong.has_value() && follows) {
      return wrong("edge_wrong: known for some kinds of its metric and model alone");
    }
    curves.push_back(*std::move(curve));
  }
  return curves;
}

absl::StatusOr<Evidence> ReadEvidence(const json& object) {
  Fields fields(object, "evidence.");
  Evidence evidence;
  evidence.labels = fields.Count("labels", 1, kMostLabels);
  const json& steps = fields.Array("steps", 1, kMostSteps);
  for (size_t k = 0; k < steps.size() && fields.ok(); ++k) {
    const std::string path = absl::StrCat("evidence.steps[", k, "]");
    Fields of_step(steps[k], path + ".");
    Step step;
    step.value_tau = of_step.Number("value_tau", 0, 1);
    step.offloaded = of_step.Count("offloaded", 0, evidence.labels);
    step.right = of_step.Count("right", 0, evidence.labels);
    step.local_right = of_step.Count("local_right", step.right, evidence.labels);
    if (k == 0 && step.value_tau != 0) of_step.Wrong("value_tau", "the first one is not 0");
    if (k > 0 && !(step.value_tau > evidence.steps.back().value_tau)) of_step.Wrong("value_tau", "does not rise");
    if (k > 0 && step.offloaded > evidence.steps.back().offloaded) of_step.Wrong("offloaded", "rises");
    if (absl::Status status = of_step.Done(); !status.ok()) return status;
    evidence.steps.push_back(step);
  }
  if (absl::Status status = fields.Done(); !status.ok()) return status;
  return evidence;
}

// What the evidence gives for the accuracy and confidence that it says; the file's own words must be the same.
absl::StatusOr<Certificate> ReadCertificate(const json& object, const Evidence& evidence) {
  Fields fields(object, "certificate.");
  Certificate said;
  said.accuracy = fields.Number("accuracy", kLeastAccuracy, kMostAccuracy);
  said.confidence = fields.Number("confidence", kLeastConfidence, kMostConfidence);
  said.value_tau = fields.Number("value_tau", 0, 1);
  said.bound = fields.Number("certified", 0, 1);
  said.labels = fields.Count("labels", 1, kMostLabels);
  said.share = fields.Number("share", 0, 1);
  if (absl::Status status = fields.Done(); !status.ok()) return status;
  const auto made = Certify(evidence, said.accuracy, said.confidence);
  if (!made) return absl::InvalidArgumentError("certificate: the evidence does not bear it out at any tau");
  const auto differs = [](const char* name, double here, double there) {
    return absl::InvalidArgumentError(
        absl::StrCat("certificate.", name, ": ", here, " where the evidence says ", there));
  };
  if (said.value_tau != made->value_tau) return differs("value_tau", said.value_tau, made->value_tau);
  if (said.labels != made->labels) {
    return differs("labels", static_cast<double>(said.labels), static_cast<double>(made->labels));
  }
  if (std::abs(said.share - made->share) > 1e-9) return differs("share", said.share, made->share);
  if (std::abs(said.bound - made->bound) > 1e-9) return differs("certified", said.bound, made->bound);
  return *made;
}

}  // namespace

bool IsMetric(std::string_view name) {
  for (int k = 1; k <= kUncertaintyMetrics; ++k) {
    if (name == ToString(static_cast<UncertaintyMetric>(k))) return true;
  }
  return false;
}

std::string MetricNames() {
  std::string names;
  for (int k = 1; k <= kUncertaintyMetrics; ++k) {
    absl::StrAppend(&names, k > 1 ? ", " : "", ToString(static_cast<UncertaintyMetric>(k)));
  }
  return names;
}

std::string CalibrationText(const Calibration& calibration) {
  json curves = json::array();
  for (const Curve& curve : calibration.curves) {
    json row = {{"metric", curve.metric}, {"model", curve.model}, {"labels", curve.labels}};
    if (!curve.kind.empty()) row["kind"] = curve.kind;
    if (curve.edge_wrong) row["edge_wrong"] = *curve.edge_wrong;
    for (const calibration::Point& point : curve.points) row["points"].push_back({point.x, point.y});
    curves.push_back(std::move(row));
  }
  json file = {{"format", kCalibrationFormat}, {"curves", std::move(curves)}};
  if (!calibration.evidence.steps.empty()) {
    json steps = json::array();
    for (const Step& step : calibration.evidence.steps) {
      steps.push_back({{"value_tau", step.value_tau},
                       {"offloaded", step.offloaded},
                       {"right", step.right},
                       {"local_right", step.local_right}});
    }
    file["evidence"] = {{"labels", calibration.evidence.labels}, {"steps", std::move(steps)}};
  }
  if (const auto& certificate = calibration.certificate) {
    file["certificate"] = {{"accuracy", certificate->accuracy},   {"confidence", certificate->confidence},
                           {"value_tau", certificate->value_tau}, {"certified", certificate->bound},
                           {"labels", certificate->labels},       {"share", certificate->share}};
  }
  return file.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

absl::StatusOr<Calibration> ReadCalibration(std::string_view text) {
  const absl::StatusOr<json> object = ParseObject(text, kMostCalibrationBytes, /*most_depth=*/8);
  if (!object.ok()) return object.status();
  Fields fields(*object, "");
  if (const std::string format = fields.Text("format", 64); fields.ok() && format != kCalibrationFormat) {
    fields.Wrong("format", absl::StrCat("\"", Clip(format), "\" is not \"", kCalibrationFormat, "\""));
  }
  const json& list = fields.Array("curves", 1, kMostCurves);
  const json* evidence = fields.Has("evidence") ? &fields.Object("evidence") : nullptr;
  const json* certificate = fields.Has("certificate") ? &fields.Object("certificate") : nullptr;
  if (certificate != nullptr && evidence == nullptr) fields.Wrong("certificate", "there is no evidence for it");
  if (absl::Status status = fields.Done(); !status.ok()) return status;
  Calibration calibration;
  absl::StatusOr<Curves> curves = ReadCurves(list);
  if (!curves.ok()) return curves.status();
  calibration.curves = *std::move(curves);
  if (evidence != nullptr) {
    absl::StatusOr<Evidence> read = ReadEvidence(*evidence);
    if (!read.ok()) return read.status();
    calibration.evidence = *std::move(read);
  }
  if (certificate != nullptr) {
    const absl::StatusOr<Certificate> read = ReadCertificate(*certificate, calibration.evidence);
    if (!read.ok()) return read.status();
    calibration.certificate = *read;
  }
  return calibration;
}

}  // namespace goad::server
