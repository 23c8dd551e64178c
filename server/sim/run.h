// `goad-sim run`: questions that arrive over time, decided by the daemon's own engine, in virtual time.
#ifndef GOAD_SERVER_SIM_RUN_H_
#define GOAD_SERVER_SIM_RUN_H_

#include <array>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace goad::server {

// What the engine knows of the sites and uplinks; run's help and its output say the same in words.
enum class Learn {
  kOn,    // the configured numbers are where it starts; nothing is reported of uplinks
  kOff,   // the configured numbers, for good; devices report the mean of their uplink, as wrong as those are
  kTrue,  // the right numbers of the model's form; devices report the mean of their uplink
};

struct RunOptions {
  std::string policy = "goa";
  double tau = 0.8, lambda_s = 0.05;
  std::optional<double> rate;     // questions per second, Poisson; > 0; none = 2000. Not with arrivals
  std::optional<double> seconds;  // of virtual time, > 0; none = 10, or the whole trace
  size_t sites = 4;               // 1..64
  int max_queries = 100;          // per site, at once; 1..4096
  uint64_t seed = 1;
  std::string workload;  // recorded questions; empty = the model of scheduler/sim/scenario.h
  std::string
      log;  // writes every epoch's snapshot and every outcome there, for `goad-sim replay` and `fit`; empty = no
  std::function<void(double share)> progress;  // may be empty

  // With traces.
  std::string arrivals;              // see scheduler/workload/trace.h; empty = none, and none of the following
  double time_scale = 1;             // they come so much faster; 0.001..1000
  std::vector<std::string> uplinks;  // files; empty = the paper's radio
  size_t devices = 200;              // that share the questions, with uplinks; 1..10000
  Learn learn = Learn::kOn;
  std::vector<int> contexts;    // of each site's servers, tokens of prompt and answer, 1..1e8; empty = without end
  double configured_error = 1;  // the configured numbers say so much faster than it is; 0.1..10
};

struct RunReport {
  double seconds = 0;  // of arrivals
  size_t asked = 0, epochs = 0, candidates = 0;
  std::map<std::string, size_t> local, offloaded, failed;  // by reason
  double right = 0, right_local = 0, right_edge = 0;  // expected right answers: as decided, all local, all at the edge
  std::vector<double> local_s, edge_s;                // delays from the question on
  std::vector<double> delay_s;                        // the same by question
  double upload_error_s = 0, compute_error_s = 0;     // sums of |predicted - simulated|
  double busy_queries_s = 0;                          // integral of the queries at sites

  // With arrivals. Relative errors are (predicted - simulated) / simulated.
  struct Site {
    int slots = 0;
    double busy_s = 0;                           // integral of the slots held while questions arrive
    std::array<std::vector<double>, 2> compute;  // relative errors, had the decision known how long the answer is;
                                                 // decided before, and from half of the time on
  };
  std::vector<Site> sites;
  std::vector<double> compute_assumed, upload;  // relative errors of what was decided upon
};

// Without arrivals every question comes from a new device somewhere on the paper's square, with links reported as it
// asks. Sites are the paper's (shannon, equal share). Uploads and computations share their site as the model says,
// moment by moment; an upload suffers the interference that there is, and an edge answer takes 6.4 local reference
// times where 8 were predicted.
// With arrivals the questions come when and as long as the trace says, the sites are those of roofline_sites.h, and
// with uplinks a fixed number of devices has those of traced_uplinks.h.
// Deterministic for a seed. INVALID_ARGUMENT names the option, its value and what is allowed, or what is wrong with a
// file.
absl::StatusOr<RunReport> SimulateRun(const RunOptions& options);

// The same questions, devices and noise under each policy instead of options.policy, one after the other. A log is of
// one policy.
absl::StatusOr<std::vector<RunReport>> SimulateRuns(const RunOptions& options,
                                                    const std::vector<std::string>& policies);

}  // namespace goad::server

#endif  // GOAD_SERVER_SIM_RUN_H_
