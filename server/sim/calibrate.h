// `goad-sim calibrate`: labels in, curves and a certified tau out.
#ifndef GOAD_SERVER_SIM_CALIBRATE_H_
#define GOAD_SERVER_SIM_CALIBRATE_H_

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "scheduler/calibration/certificate.h"
#include "scheduler/calibration/reliability.h"
#include "server/calibration/calibration_file.h"

namespace goad::server {

struct CalibrateOptions {
  double accuracy = 0.75;   // kLeastAccuracy..kMostAccuracy
  double confidence = 0.9;  // one-sided, kLeastConfidence..kMostConfidence
};

// How good a prediction of "the device is wrong" was on the certify half.
struct Prediction {
  std::vector<calibration::ReliabilityBin> bins;  // 10 of equal count
  std::optional<double> auroc;                    // nothing where all are wrong, or none
};

struct ShareRow {
  double share = 0, by_value = 0, by_uncertainty = 0;  // accuracies
};

struct MoreRow {
  size_t times = 0;  // as many labels
  calibration::Certificate certificate;
};

struct CalibrateReport {
  CalibrateOptions options;
  size_t fit = 0, certify = 0, with_edge = 0;           // labels in either half; of the second those with edge_correct
  Calibration calibration;                              // of the fit half, certified on the other
  std::optional<calibration::Certificate> local_alone;  // were all answers below tau the device's
  std::optional<calibration::Certificate> plain;        // by the uncertainty alone, kinds left out
  std::optional<double> tau;          // certified, in uncertainty, kinds left alone; one metric and model only
  bool kinds = false;                 // there are curves of kinds: value_tau is another order than tau
  Prediction before, after;           // by the uncertainty, by the curves
  std::vector<ShareRow> shares;       // 0, 0.1 .. 1
  std::vector<MoreRow> more;          // the certificate with more labels that say the same
  std::optional<size_t> more_labels;  // not certified: so many more would do; nothing = no number would
};

// INVALID_ARGUMENT: an option out of range, or what CheckLabels refuses.
absl::StatusOr<CalibrateReport> Calibrate(const std::vector<calibration::Label>& labels,
                                          const CalibrateOptions& options);

std::string FormatCalibration(const CalibrateReport& report);
// {"tau" (in uncertainty; null where not certified or of several metrics and models),"value_tau","certified" (the
// bound,
//  or null),"labels","share","accuracy","confidence","seed","fit_labels","certify_labels",
//  "best" (the highest accuracy that these labels certify),"more_labels","assumption","ece_before","ece_after",
//  "ece_bins","ece_by_chance","auroc_before","auroc_after","local_alone":{"value_tau","certified","share"} or null,
//  "reliability":{"before","after"}, each [{"labels","predicted","wrong"}],
//  "accuracy_by_share":[{"share","by_value","by_uncertainty"}],
//  "steps":[{"value_tau","share","accuracy","certified","local_accuracy"}],
//  "curves":[{"metric","model","kind","labels","edge_wrong","tau","points"}]}.
nlohmann::json CalibrationJson(const CalibrateReport& report);
// Reliability, and accuracy against share where the labels say something of the edge: one picture.
std::string CalibrationSvg(const CalibrateReport& report);

}  // namespace goad::server

#endif  // GOAD_SERVER_SIM_CALIBRATE_H_
