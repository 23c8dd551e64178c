// calibration.json: what `goad-sim calibrate` writes and the daemon reads. Pure, any thread.
#ifndef GOAD_SERVER_CALIBRATION_CALIBRATION_FILE_H_
#define GOAD_SERVER_CALIBRATION_CALIBRATION_FILE_H_

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "scheduler/calibration/certificate.h"
#include "scheduler/calibration/curves.h"

namespace goad::server {

inline constexpr char kCalibrationFormat[] = "goad-calibration/1";
inline constexpr size_t kMostCalibrationBytes = 16 << 20;  // what server/base/read_file reads at most
inline constexpr size_t kMostCurves = 1000;
inline constexpr size_t kMostCurvePoints = 10000;
inline constexpr size_t kMostSteps = 1000;
inline constexpr size_t kMostLabels = 1000000;
inline constexpr size_t kMostModelBytes = 128;  // as in Hello
inline constexpr size_t kMostKindBytes = 63;    // as in the configuration
inline constexpr double kLeastConfidence = 0.5, kMostConfidence = 0.9999;
inline constexpr double kLeastAccuracy = 0.01, kMostAccuracy = 0.9999;

struct Calibration {
  calibration::Curves curves;
  calibration::Evidence evidence;  // no steps where the labels say nothing of the edge: nothing can be certified then
  std::optional<calibration::Certificate>
      certificate;  // for what `goad-sim calibrate` was asked; Certify(evidence, ...)
};

// As JSON, README.md has the fields; every number as it is, bit for bit.
std::string CalibrationText(const Calibration& calibration);

// Every number in its range, every curve rising, with each kind's curve one of all kinds, a certificate that is the
// evidence's. INVALID_ARGUMENT names the field, its value and what is allowed.
absl::StatusOr<Calibration> ReadCalibration(std::string_view text);

// Whether `name` is one of goad.v1's metrics; and all of them, for words.
bool IsMetric(std::string_view name);
std::string MetricNames();

}  // namespace goad::server

#endif  // GOAD_SERVER_CALIBRATION_CALIBRATION_FILE_H_
