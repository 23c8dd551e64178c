#include "server/sim/calibrate.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "scheduler/calibration/binomial.h"
#include "server/sim/labels.h"

namespace goad::server {
namespace {

using calibration::Certify;
using calibration::Curve;
using calibration::Evidence;
using calibration::Label;

std::vector<Label> WithoutKinds(std::vector<Label> labels) {
  for (Label& label : labels) label.kind.clear();
  return labels;
}

// As if there were so many times the labels, and they said the same.
Evidence Times(Evidence evidence, size_t times) {
  evidence.labels *= times;
  for (calibration::Step& step : evidence.steps) {
    step.offloaded *= times;
    step.right *= times;
    step.local_right *= times;
  }
  return evidence;
}

absl::Status CheckRange(const char* name, double value, double least, double most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, ": ", value, " is not in ", least, "..", most));
}

Prediction Look(const std::vector<calibration::Predicted>& predicted) {
  return {calibration::EqualCountBins(predicted), calibration::Auroc(predicted)};
}

// On labels that the curves have not seen.
void Measure(const std::vector<Label>& certify, CalibrateReport* report) {
  std::vector<calibration::Predicted> before, after;
  std::vector<calibration::Answered> by_value, by_uncertainty;
  for (const Label& label : certify) {
    const Curve* curve = FindCurve(report->calibration.curves, label.metric, label.model, label.kind);
    if (curve == nullptr) continue;
    before.push_back({label.uncertainty, !label.device_correct});
    after.push_back({curve->DeviceWrong(label.uncertainty), !label.device_correct});
    if (!label.edge_correct) continue;
    by_value.push_back({curve->Value(label.uncertainty), label.uncertainty, label.device_correct, *label.edge_correct});
    by_uncertainty.push_back({label.uncertainty, 0, label.device_correct, *label.edge_correct});
  }
  report->before = Look(before);
  report->after = Look(after);
  report->with_edge = by_value.size();
  for (int tenth = 0; tenth <= 10 && !by_value.empty(); ++tenth) {
    const double share = tenth / 10.0;
    report->shares.push_back(
        {share, calibration::AccuracyAt(by_value, share), calibration::AccuracyAt(by_uncertainty, share)});
  }
}

void CertifyAll(const calibration::Halves& halves, CalibrateReport* report) {
  const auto& [accuracy, confidence] = report->options;
  const Evidence& evidence = report->calibration.evidence;
  report->calibration.certificate = Certify(evidence, accuracy, confidence);
  report->local_alone = Certify(evidence, accuracy, confidence, calibration::Below::kLocal);
  if (report->calibration.certificate) {
    for (const size_t times : {2, 4, 10000}) {
      if (const auto more = Certify(Times(evidence, times), accuracy, confidence))
        report->more.push_back({times, *more});
    }
  } else {
    const double seen = static_cast<double>(evidence.steps[0].right) / static_cast<double>(evidence.labels);
    const auto needed = calibration::TrialsFor(seen, accuracy, confidence);
    if (needed) report->more_labels = 2 * (std::max(*needed, evidence.labels) - evidence.labels);
  }
  // The same by the uncertainty alone, for whoever sets a tau of it: a certificate of its own.
  std::set<std::pair<std::string, std::string>> sources;
  for (const Curve& curve : report->calibration.curves) sources.insert({curve.metric, curve.model});
  if (sources.size() > 1) return;
  const std::vector<Label> fit = WithoutKinds(halves.fit);
  const calibration::Curves curves = calibration::FitCurves(fit);
  report->plain = Certify(calibration::Gather(curves, fit, WithoutKinds(halves.certify)), accuracy, confidence);
  if (report->plain) report->tau = curves[0].TauFor(report->plain->value_tau);
}

}  // namespace

absl::StatusOr<CalibrateReport> Calibrate(const std::vector<Label>& labels, const CalibrateOptions& options) {
  absl::Status status = CheckRange("--accuracy", options.accuracy, kLeastAccuracy, kMostAccuracy);
  status.Update(CheckRange("--confidence", options.confidence, kLeastConfidence, kMostConfidence));
  status.Update(CheckLabels(labels));
  if (!status.ok()) return status;
  const calibration::Halves halves = calibration::SplitLabels(labels, calibration::kSplitSeed);
  CalibrateReport report;
  report.options = options;
  report.fit = halves.fit.size();
  report.certify = halves.certify.size();
  report.calibration.curves = calibration::FitCurves(halves.fit);
  for (const Curve& curve : report.calibration.curves) report.kinds = report.kinds || !curve.kind.empty();
  Measure(halves.certify, &report);
  if (report.with_edge == 0) return report;
  report.calibration.evidence = calibration::Gather(report.calibration.curves, halves.fit, halves.certify);
  CertifyAll(halves, &report);
  return report;
}

}  // namespace goad::server
