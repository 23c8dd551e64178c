// `goad-sim replay`: the snapshots of a decision log, decided again.
#ifndef GOAD_SERVER_SIM_REPLAY_H_
#define GOAD_SERVER_SIM_REPLAY_H_

#include <istream>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace goad::server {

struct ReplayOptions {
  std::string policy;                   // empty = as logged, which must give the logged assignments again
  std::optional<double> tau, lambda_s;  // instead of the logged ones
  bool as_logged() const { return policy.empty() && !tau && !lambda_s; }
};

// What a policy made of all epochs, by its own predictions.
struct ReplaySide {
  size_t offloaded = 0;
  double delay_s = 0;            // sum over candidates
  double local_uncertainty = 0;  // sum over those left local
};

struct ReplayReport {
  size_t lines = 0, epochs = 0, candidates = 0;
  std::vector<std::string>
      differing;  // "FILE:LINE epoch N: ..." where the same policy decided otherwise; as_logged only
  ReplaySide logged, replayed;
};

// Adds the epochs of `in` to `report`. Lines of other kinds are counted and skipped. INVALID_ARGUMENT names the line of
// `source` that is no JSON object, or a snapshot that is damaged or out of range.
absl::Status Replay(std::istream& in, const std::string& source, const ReplayOptions& options, ReplayReport* report);

std::string FormatReplay(const ReplayReport& report, const ReplayOptions& options);

}  // namespace goad::server

#endif  // GOAD_SERVER_SIM_REPLAY_H_
