// `goa`: the greedy offloading algorithm of arXiv 2602.07958 (Algorithm 1), exactly.
//
// Objective: least sum over users of alpha * (delay at the edge - local delay), with everyone above tau offloaded.
// Passes: (1) of the forced candidates, repeatedly assign the pair with the least alpha*Delta, whatever its sign, until
// none has an eligible site; (2) of the others, the least alpha*Delta while it is < 0.
// Ties: the candidate that comes first in the snapshot, then the lower site; -0.0 equals 0.0, infinities are equal.
// Deviation: a key that is not a number (alpha 0 times an infinite delay) counts as +infinity. The published code lets
// it win when it stands in the first place scanned, which offloads that user for ever; we treat that as a defect.
// Cost: see scheduler/README.md, "The lazy greedy".
#ifndef GOAD_SCHEDULER_GOA_POLICY_H_
#define GOAD_SCHEDULER_GOA_POLICY_H_

#include "scheduler/greedy_pass.h"
#include "scheduler/policy.h"

namespace goad::sched {

// Both passes on a fresh solver, which then holds the state that they lead to.
AssignmentOrder GoaOrder(GreedySolver& solver, const EpochSnapshot& snapshot);

class GoaPolicy final : public OffloadPolicy {
 public:
  EpochResult Decide(const EpochSnapshot& snapshot) const override;
  PolicyGuarantees guarantees() const override {
    return {.forced_offloaded = true, .no_optional_without_gain = true, .chosen_in_order = true};
  }
};

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_GOA_POLICY_H_
