// `goa-relocate`: GOA, then moves of single candidates that lower the delay of everybody.
//
// Objective: SystemObjective (system_objective.h): the sum of all delays, of carried-over queries too, plus
// lambda * alpha for each candidate left local.
// Passes:
// (1) GOA.
// (2) Candidates in the order of the snapshot, round after round: the move (local <-> site, site <-> site) that lowers
//     the objective most is made, if any does. What a move adds to the others of its sites is exact in the number of
//     sharers; what it adds to others as interference is bounded from above in O(1) a site, because the upload
//     bits/log2(1 + S/D) is concave in the disturbance D: the tangent lies above.
// (3) Up to 256 candidates, one round of swaps and again (2).
// (4) With lambda > 0: when the sum of the delays, or that of the uncertainty left local, came out above GOA's, lambda
//     is lowered or raised and (2) and (3) go on from there; after six values GOA's assignment stands.
// (5) Forced candidates that GOA left local get a site if one has become eligible.
// Forced candidates stay offloaded; caps, links and deadlines hold as in GOA (a deadline is tested for who moves).
// Guarantee, but for what (5) adds: with lambda 0 the sum of the delays is never above GOA's; with lambda > 0 neither
// that nor the uncertainty left local is, and so the objective is not. Deterministic. Cost: a bounded number of rounds,
// each of candidates x sites bounds and at most 512 refreshes of the sums in O(candidates).
#ifndef GOAD_SCHEDULER_RELOCATE_POLICY_H_
#define GOAD_SCHEDULER_RELOCATE_POLICY_H_

#include "scheduler/policy.h"

namespace goad::sched {

class RelocatePolicy final : public OffloadPolicy {
 public:
  // lambda_s in seconds, finite, >= 0; 0 = delay only.
  explicit RelocatePolicy(double lambda_s) : lambda_s_(lambda_s) {}
  EpochResult Decide(const EpochSnapshot& snapshot) const override;
  PolicyGuarantees guarantees() const override { return {.forced_offloaded = true}; }

 private:
  const double lambda_s_;
};

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_RELOCATE_POLICY_H_
