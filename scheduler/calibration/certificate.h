// Which accuracy a tau holds, and how sure that is: counted on labels that the curves have not seen. README.md has the
// guarantee and its assumptions. Pure, any thread.
#ifndef GOAD_SCHEDULER_CALIBRATION_CERTIFICATE_H_
#define GOAD_SCHEDULER_CALIBRATION_CERTIFICATE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "scheduler/calibration/curves.h"

namespace goad::calibration {

// Half of the labels for the curves, half for the certificate (which has the odd one).
struct Halves {
  std::vector<Label> fit, certify;
};
// By a shuffle of `seed`, the same on every machine.
Halves SplitLabels(const std::vector<Label>& labels, uint64_t seed);
// Fixed, so that nobody can draw until a target is met.
inline constexpr uint64_t kSplitSeed = 1;

// One tau of the grid, and what the certify half says of it.
struct Step {
  double value_tau = 0;
  size_t offloaded = 0;    // labels whose value is above value_tau
  size_t right = 0;        // right when those are the edge's, and of each stratum below the worse of device and edge
  size_t local_right = 0;  // right when all others are the device's
};

// All that a certificate is made from.
struct Evidence {
  size_t labels = 0;
  std::vector<Step> steps;  // value_tau strictly rising from 0
};

// The grid and the strata come of the values of `fit` alone: up to 51 taus (0, 1 and the values' 50 quantiles), and
// the labels at value 0 and four quarters above. Of `certify` those with edge_correct count; a label that has no curve
// is worth 1.
Evidence Gather(const Curves& curves, const std::vector<Label>& fit, const std::vector<Label>& certify);

struct Certificate {
  double accuracy = 0;    // that was asked for
  double confidence = 0;  // one-sided
  double value_tau = 0;
  double bound = 0;   // lower bound of the accuracy at value_tau; >= accuracy
  size_t labels = 0;  // that it was counted on
  double share = 0;   // of these labels that value_tau forces to the edge: the price
};

// By which count of a step: `right`, or `local_right`.
enum class Below { kWorseOfBoth, kLocal };

// The bound of one step alone.
double BoundOf(const Evidence& evidence, const Step& step, double confidence, Below below = Below::kWorseOfBoth);
// Fixed-sequence testing: the last step before the first one whose bound is below `accuracy`. Nothing where the first
// one's is; BoundOf it is then the best accuracy to be had. REQUIRES: accuracy and confidence in (0, 1).
std::optional<Certificate> Certify(const Evidence& evidence, double accuracy, double confidence,
                                   Below below = Below::kWorseOfBoth);

}  // namespace goad::calibration

#endif  // GOAD_SCHEDULER_CALIBRATION_CERTIFICATE_H_
