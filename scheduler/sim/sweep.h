// `goad-sim sweep`: the paper's experiment (arXiv 2602.07958, evaluation): every policy on the same random epochs, for
// several numbers of users and thresholds.
#ifndef GOAD_SCHEDULER_SIM_SWEEP_H_
#define GOAD_SCHEDULER_SIM_SWEEP_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace goad::sched {

struct SweepOptions {
  std::vector<std::string> policies = {"goa",     "goa-relocate", "min-delay", "random",
                                       "genetic", "all-edge",     "all-local"};
  std::vector<size_t> users = {50, 60, 70, 80, 90, 100, 110, 120};
  std::vector<double> taus = {0.6, 0.7, 0.8, 0.9, 1.0};
  size_t sites = 4;
  size_t draws = 500;  // epochs per point; the same ones for every policy and every tau
  uint64_t seed = 1;
  double lambda_s = 0.05;
  std::string workload;  // recorded questions: their uncertainty, size, times and answers; empty = scenario.h's model
  int threads = 0;       // 0 = one per core
};

// One policy at one (users, tau): means over users and draws, with half the width of the 95 % interval of the mean over
// draws.
struct SweepRow {
  size_t users = 0;
  double tau = 0;
  std::string policy;
  double delay_ms = 0, delay_ci_ms = 0;  // per user; an edge answer takes 6.4 local reference times, decided with 8
  double accuracy = 0, accuracy_ci = 0;  // share of right answers
  double offloaded = 0;                  // share of users
  double solver_us = 0;                  // median time of a decision while all threads were at it
};

struct Sweep {
  SweepOptions options;
  std::vector<SweepRow> rows;  // by users, tau, policy, as in the options
};

// INVALID_ARGUMENT naming the option, its value and what is allowed.
absl::Status CheckSweepOptions(const SweepOptions& options);

// Runs what `path` does not hold yet and appends it there point by point, so that an interrupted sweep goes on where it
// stopped: a JSON line of options, then one per point, a list of rows. FAILED_PRECONDITION when the file is of another
// sweep. `progress(done, all)` counts points; it may be empty.
absl::StatusOr<Sweep> RunSweep(const SweepOptions& options, const std::string& path,
                               const std::function<void(size_t done, size_t all)>& progress);

// INVALID_ARGUMENT names the line and what is wrong with it, or says that points are missing.
absl::StatusOr<Sweep> ReadSweep(const std::string& path);

std::string SweepTable(const Sweep& sweep);  // for people: a block per tau

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_SIM_SWEEP_H_
