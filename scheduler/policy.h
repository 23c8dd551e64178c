// The policy contract: a stateless, deterministic map from a checked snapshot to decisions.
#ifndef GOAD_SCHEDULER_POLICY_H_
#define GOAD_SCHEDULER_POLICY_H_

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "scheduler/types.h"

namespace goad::sched {

// What a policy promises about every result; tests/support/result_checks follows this declaration.
struct PolicyGuarantees {
  bool forced_offloaded = false;          // a forced candidate is local only when it has no eligible site
  bool no_optional_without_gain = false;  // an unforced candidate is offloaded only if that looked faster when picked
  // EpochResult::order is the order of choosing: each took the site that was best for it then, and kept it. Without it
  // people are shown each candidate against all others as they were left (explain.h).
  bool chosen_in_order = false;
};

// Immutable and therefore thread-safe.
class OffloadPolicy {
 public:
  virtual ~OffloadPolicy() = default;
  // REQUIRES: CheckSnapshot(snapshot).ok() and no more than max_candidates(). Equal snapshots give equal results to the
  // last bit; ties go to the smallest (value, position in the snapshot, site index). Randomness comes from
  // snapshot.seed only. Never fails.
  virtual EpochResult Decide(const EpochSnapshot& snapshot) const = 0;
  virtual PolicyGuarantees guarantees() const = 0;
  virtual size_t max_candidates() const { return std::numeric_limits<size_t>::max(); }
};

struct PolicyParameters {
  // Of goa-relocate, optimal and genetic: what a local answer costs per unit of uncertainty, s; finite, >= 0; 0 = delay
  // only.
  double lambda_s = 0.05;
};

// Every name, in the order of the documentation; and those that a daemon may serve with (the others are yardsticks: too
// slow, or for few candidates).
const std::vector<std::string>& PolicyNames();
const std::vector<std::string>& ServingPolicyNames();

// Candidates x sites that the policy of this name decides on within about a second, or a million where that takes less:
// as many as somebody who asks for a plan may bring. 0: there is none of this name.
size_t MostPairs(const std::string& name);

// INVALID_ARGUMENT naming the known policies when `name` is none of them, or the parameter that is out of range.
absl::StatusOr<std::unique_ptr<const OffloadPolicy>> MakePolicy(const std::string& name,
                                                                const PolicyParameters& parameters = {});

// OK when the snapshot is valid and `policy` takes so many candidates.
absl::Status CheckFor(const OffloadPolicy& policy, const EpochSnapshot& snapshot);

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_POLICY_H_
