// How good a prediction of "the device is wrong" is, and what an order of offloading gains. Pure, any thread.
#ifndef GOAD_SCHEDULER_CALIBRATION_RELIABILITY_H_
#define GOAD_SCHEDULER_CALIBRATION_RELIABILITY_H_

#include <cstddef>
#include <optional>
#include <vector>

namespace goad::calibration {

struct Predicted {
  double probability = 0;  // that it is wrong
  bool wrong = false;
};

struct ReliabilityBin {
  size_t labels = 0;
  double predicted = 0, wrong = 0;  // means
};

// In the order of the prediction, as many labels in each as can be, at most `bins` of them.
std::vector<ReliabilityBin> EqualCountBins(std::vector<Predicted> predicted, size_t bins = 10);
// By the prediction, (k - 1) / bins to k / bins; empty ones are left out.
std::vector<ReliabilityBin> EqualWidthBins(const std::vector<Predicted>& predicted, size_t bins = 10);

// Expected calibration error (Naeini et al., AAAI 2015): the mean of |predicted - wrong|, each bin by its labels.
double CalibrationError(const std::vector<ReliabilityBin>& bins);
// What a perfect prediction of these probabilities would show, in the mean, on so few labels.
double ErrorByChance(const std::vector<ReliabilityBin>& bins);

// The probability that a wrong one has the higher prediction of a wrong and a right one; ties count half. Nothing where
// all are wrong, or none.
std::optional<double> Auroc(std::vector<Predicted> predicted);
// Its standard deviation were there nothing in the prediction (of the rank sum, Mann and Whitney 1947).
double AurocDeviationByChance(const std::vector<Predicted>& predicted);

struct Answered {
  double key = 0, tie = 0;  // the higher is offloaded first; then the higher tie; then the earlier
  bool device_correct = false, edge_correct = false;
};

// Share right when the `share` with the highest keys are the edge's answers and the others the device's. REQUIRES:
// share in 0..1; at least one.
double AccuracyAt(std::vector<Answered> answered, double share);

}  // namespace goad::calibration

#endif  // GOAD_SCHEDULER_CALIBRATION_RELIABILITY_H_
