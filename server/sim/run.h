// `goad-sim run`: questions that arrive over time, decided by the daemon's own engine, in virtual time.
#ifndef GOAD_SERVER_SIM_RUN_H_
#define GOAD_SERVER_SIM_RUN_H_

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace goad::server {

struct RunOptions {
  std::string policy = "goa";
  double tau = 0.8, lambda_s = 0.05;
  double rate = 2000;     // questions per second, Poisson; > 0
  double seconds = 10;    // of virtual time, > 0
  size_t sites = 4;       // 1..64
  int max_queries = 100;  // per site, at once; 1..4096
  uint64_t seed = 1;
  std::string workload;  // recorded questions; empty = the model of scheduler/sim/scenario.h
  std::string
      log;  // writes every epoch's snapshot and every outcome there, for `goad-sim replay` and `fit`; empty = no
  std::function<void(double share)> progress;  // may be empty
};

struct RunReport {
  size_t asked = 0, epochs = 0, candidates = 0;
  std::map<std::string, size_t> local, offloaded, failed;  // by reason
  double right = 0, right_local = 0, right_edge = 0;  // expected right answers: as decided, all local, all at the edge
  std::vector<double> local_s, edge_s;                // delays from the question on
  double upload_error_s = 0, compute_error_s = 0;     // sums of |predicted - simulated|
  double busy_queries_s = 0;                          // integral of the queries at sites
};

// Every question comes from a new device somewhere on the paper's square, with links reported as it asks. Sites are the
// paper's (shannon, equal share). Uploads and computations share their site as the model says, moment by moment; an
// upload suffers the interference that there is, and an edge answer takes 6.4 local reference times where 8 were
// predicted. Deterministic for a seed. INVALID_ARGUMENT names the option, its value and what is allowed.
absl::StatusOr<RunReport> SimulateRun(const RunOptions& options);

std::string FormatRun(const RunReport& report, const RunOptions& options);

}  // namespace goad::server

#endif  // GOAD_SERVER_SIM_RUN_H_
