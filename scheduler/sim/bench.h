// `goad-sim bench`: how long policies take, on one core.
#ifndef GOAD_SCHEDULER_SIM_BENCH_H_
#define GOAD_SCHEDULER_SIM_BENCH_H_

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace goad::sched {

struct BenchOptions {
  std::vector<std::string> policies = {"goa"};
  std::vector<size_t> users = {100, 1000, 10000, 100000};
  size_t sites = 4;
  double tau = 0.8;
  uint64_t seed = 1;
  double lambda_s = 0.05;
  double zero_share = 0;  // of the users, whose uncertainty is 0: what a calibration makes of the sure ones; 0..1
  // Bytes allocated at most at once since the last call; empty = not measured.
  std::function<size_t()> peak_bytes;
  std::function<void(const std::string& what)> progress;  // may be empty
};

struct BenchRow {
  std::string policy;
  size_t users = 0, sites = 0;
  double seconds = 0;                     // median over fresh draws
  double evaluations_per_assignment = 0;  // pair costs computed per assignment
  double forced_share = 0, offloaded_share = 0;
  double bytes_per_user = 0;  // beyond the snapshot and the result; NaN = not measured
};

// The draws of DrawEpoch with capacities and bandwidth scaled with the users, prepared beforehand, the same for every
// policy. `reference` is added beside the others where it ends in time (up to 200 users); a policy is left out where it
// cannot decide on so many. INVALID_ARGUMENT for unknown policies, no users or sites.
absl::StatusOr<std::vector<BenchRow>> RunBench(const BenchOptions& options);

std::string BenchTable(const std::vector<BenchRow>& rows);  // with the growth exponent of each policy
std::string BenchCsv(const std::vector<BenchRow>& rows);
std::string BenchJson(const std::vector<BenchRow>& rows);

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_SIM_BENCH_H_
