// The same questions under several policies of a live goad, compared question by question.
#ifndef GOAD_CLIENT_SDK_LOADGEN_COMPARISON_H_
#define GOAD_CLIENT_SDK_LOADGEN_COMPARISON_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client_sdk/loadgen/device_fleet.h"
#include "client_sdk/loadgen/policy_trial.h"
#include "client_sdk/loadgen/report.h"

namespace goad::loadgen {

struct Played {
  std::string policy;
  std::vector<Outcome> outcomes;  // the k-th of every policy is the same question, asked by the same device
};

// Plays options.questions questions under each policy, in `rounds` parts of which each goes through all policies before
// the next begins, every time from another policy on: what goad learns, and what else the machine does, meets all
// alike. `under` puts a policy in force for as long as the result lives. The first error ends it.
using UnderPolicy = std::function<absl::StatusOr<std::unique_ptr<PolicyTrial>>(const std::string& policy)>;
absl::StatusOr<std::vector<Played>> PlayPolicies(
    const FleetOptions& options, const std::vector<std::string>& policies, int rounds,
    const std::vector<sched::RecordedQuestion>& workload, const UnderPolicy& under,
    const std::function<void(const std::string& policy, int round, const Progress&, int questions)>& progress);

// A row per policy; differences are to the first, over the questions that both answered.
std::string FormatComparison(const std::vector<Played>& played, const FleetOptions& options, int rounds);

}  // namespace goad::loadgen

#endif  // GOAD_CLIENT_SDK_LOADGEN_COMPARISON_H_
