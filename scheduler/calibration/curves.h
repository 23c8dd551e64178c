// P(the device's answer is wrong) by what the device says of its uncertainty, and what offloading is worth: fitted to
// labels, per metric, model and kind of question. README.md says how and why. Pure, any thread.
#ifndef GOAD_SCHEDULER_CALIBRATION_CURVES_H_
#define GOAD_SCHEDULER_CALIBRATION_CURVES_H_

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "scheduler/calibration/monotone.h"

namespace goad::calibration {

// A question whose truth is known.
struct Label {
  double uncertainty = 0;     // 0..1, what the device says
  std::string metric, model;  // how that is made ("MARGIN", ...), and by which local model; empty = not said
  std::string kind;           // of question; empty = none
  bool device_correct = false;
  std::optional<bool> edge_correct;
};

struct Curve {
  std::string metric, model, kind;   // kind empty: of all kinds
  size_t labels = 0;                 // of this metric, model and kind that it was fitted to
  std::vector<Point> points;         // x: uncertainty, strictly rising; y: P(device wrong), not falling; at least one
  std::optional<double> edge_wrong;  // P(edge wrong) of such questions; nothing where no label says so

  double DeviceWrong(double uncertainty) const { return ValueAt(points, uncertainty); }
  // P(device wrong) less P(edge wrong), where known; clipped to 0..1. Never falls with `uncertainty`.
  double Value(double uncertainty) const;
  // The highest uncertainty in 0..1 whose value is not above `value_tau`: above it is above value_tau and the other way
  // round, and it never lies within a plateau. 0 where even the value of uncertainty 0 is above.
  double TauFor(double value_tau) const;
};

// Curves by metric, model and kind, in this order; with every kind the one of all kinds.
using Curves = std::vector<Curve>;

// The curve for such a question: its kind's, else that of all kinds; null where metric and model have none.
const Curve* FindCurve(const Curves& curves, const std::string& metric, const std::string& model,
                       const std::string& kind);

// REQUIRES: uncertainties in 0..1.
Curves FitCurves(const std::vector<Label>& labels);

// A level of a curve has at least so many labels, where there are as many.
inline constexpr double kLeastLevelLabels = 20;
// A kind's curve is that of all kinds, moved in log-odds; the move is N(0, this) before labels of the kind are seen.
inline constexpr double kKindVariance = 0.05;
// P(edge wrong) of a kind counts so many labels of the rate of all kinds.
inline constexpr double kEdgePriorLabels = 10;

}  // namespace goad::calibration

#endif  // GOAD_SCHEDULER_CALIBRATION_CURVES_H_
