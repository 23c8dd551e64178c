#include "server/config/policy_check.h"

#include <algorithm>

#include "absl/strings/str_join.h"
#include "scheduler/policy.h"
#include "server/calibration/calibration_file.h"
#include "server/config/problems.h"

namespace goad::server {
namespace {

// What says who must be offloaded: a tau of uncertainty, or a calibration and how it is to be used.
void CheckTau(const PolicyConfig& policy, Problems& problems) {
  problems.Range("policy.tau", policy.tau, 0, 1);
  for (const auto& [metric, tau] : policy.tau_per_metric) {
    problems.Range(absl::StrCat("policy.tau_per_metric.", ToString(metric)), tau, 0, 1);
  }
  if (policy.value_tau) problems.Range("policy.value_tau", *policy.value_tau, 0, 1);
  if (policy.accuracy) problems.Range("policy.accuracy", *policy.accuracy, kLeastAccuracy, kMostAccuracy);
  problems.Range("policy.confidence", policy.confidence, kLeastConfidence, kMostConfidence);
  if (policy.calibration_file.empty()) {
    const char* const kNeeds = "needs policy.calibration, which says what the device and the edge get wrong";
    if (policy.value_tau) problems.Add("policy.value_tau", kNeeds);
    if (policy.accuracy) problems.Add("policy.accuracy", kNeeds);
    return;
  }
  if (!policy.tau_per_metric.empty()) {
    problems.Add("policy.tau_per_metric", "is of uncertainties; with policy.calibration policies read values instead");
  }
  if (policy.accuracy && policy.value_tau) {
    problems.Add("policy.value_tau", "would be another than the one that policy.accuracy certifies; leave one out");
  } else if (!policy.accuracy && !policy.value_tau) {
    problems.Add("policy.calibration",
                 "needs policy.accuracy or policy.value_tau: policies then read what offloading is worth, and "
                 "policy.tau, which is of uncertainty, means nothing on that");
  }
  const auto made = sched::MakePolicy(policy.name);
  if (policy.accuracy && made.ok() && !(*made)->guarantees().forced_offloaded) {
    problems.Add("policy.accuracy",
                 absl::StrCat("policy ", policy.name, " leaves local what is above tau: it can promise no accuracy"));
  }
}

}  // namespace

absl::Status CheckPolicyName(const std::string& name) {
  const std::vector<std::string>& usable = sched::ServingPolicyNames();
  if (std::find(usable.begin(), usable.end(), name) != usable.end()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(Quoted(name), " is not one of ", absl::StrJoin(usable, ", ")));
}

std::vector<ConfigProblem> PolicyProblems(const PolicyConfig& policy) {
  Problems problems;
  if (const absl::Status status = CheckPolicyName(policy.name); !status.ok()) {
    problems.Add("policy.name", std::string(status.message()));
  }
  CheckTau(policy, problems);
  problems.Range("policy.lambda", absl::Seconds(policy.lambda_s), absl::ZeroDuration(), absl::Hours(1));
  return std::move(problems.list);
}

}  // namespace goad::server
