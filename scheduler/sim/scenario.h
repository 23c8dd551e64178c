// Random epochs of the paper's experiment (arXiv 2602.07958, section on simulation settings; DESIGN section 7).
#ifndef GOAD_SCHEDULER_SIM_SCENARIO_H_
#define GOAD_SCHEDULER_SIM_SCENARIO_H_

#include <random>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "scheduler/types.h"
#include "scheduler/workload/workload.h"

namespace goad::sched {

inline constexpr double kReferenceFlops = 91.06e12;  // a device of speed 1, FLOP/s

enum class Scaling {
  kPaper,      // capacities and bandwidth as in the paper, whatever the number of users
  kWithUsers,  // C_j grows as N/M and B_j as N^2/M from the paper's values at N = 100, M = 4 (for benches)
};

// One draw: users uniform on a 500 m square, free-space path gain at 3.5 GHz times Rayleigh, B = 100 MHz, P = 0.2 W,
// noise 4e-21 W/Hz, C_i = 91.06e12 U(0.5, 1.5), C_j = 10 * 1513e12 U(0.6, 1.4), Cmax = 1513e12, prompt bytes lognormal
// (median 420, sigma 0.45, clipped to 200..1200, divided by a bit rate as the published code does), local time
// lognormal (sigma 0.2) with mean 35.9 ms at the reference speed, alpha ~ Beta(1.4, 0.82), edge work 8 t_i C_i.
EpochSnapshot DrawEpoch(std::mt19937_64& random, size_t users, size_t sites, double tau, Scaling scaling);

// An edge answer takes 6.4 times the local reference time, but is decided upon with 8, as in the paper's code.
inline constexpr double kMeasuredWork = 6.4 / 8;

// Without recorded questions, the chance that an answer is right, stated and not measured: both models agree on what is
// certain, and the edge's lead grows with the uncertainty. The two slopes are fitted to the paper's all-local 45.2 %
// and all-edge 56.2 % at the mean of Beta(1.4, 0.82).
inline constexpr double kSureAccuracy = 0.80;
double LocalAccuracy(double uncertainty);
double EdgeAccuracy(double uncertainty);

// A draw with what its answers are worth.
struct Draw {
  EpochSnapshot snapshot;
  // Per candidate: the chance of a right answer, or 0 and 1 as recorded.
  std::vector<double> local_accuracy, edge_accuracy;
};

// Immutable and therefore thread-safe.
class QuestionSource {
 public:
  // `workload`: recorded questions, whose uncertainty, size, local times (scaled to a mean of 35.9 ms at the reference
  // speed) and answers the users then have; empty = the model. INVALID_ARGUMENT when it cannot be read.
  static absl::StatusOr<QuestionSource> Open(const std::string& workload);
  Draw Make(std::mt19937_64& random, size_t users, size_t sites, double tau) const;

 private:
  std::vector<RecordedQuestion> questions_;
  double mean_local_s_ = 0;
};

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_SIM_SCENARIO_H_
