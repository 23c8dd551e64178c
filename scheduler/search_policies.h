// Yardsticks that search: `optimal` and `genetic`. For goad-sim, Plan and tests; a daemon does not serve with them.
#ifndef GOAD_SCHEDULER_SEARCH_POLICIES_H_
#define GOAD_SCHEDULER_SEARCH_POLICIES_H_

#include "scheduler/policy.h"

namespace goad::sched {

// `optimal`: the assignment with the fewest forced candidates left local and, among those, of least SystemObjective, by
// branch and bound over the candidates in the order of the snapshot. What is assigned only gets dearer as others join,
// so the cost so far plus the least present cost of each candidate to come is a lower bound. Exponential: at most 12
// candidates. Deadlines are tested when a candidate is assigned, as everywhere, so with deadlines it is the best of the
// assignments that meet them in that order.
class OptimalPolicy final : public OffloadPolicy {
 public:
  explicit OptimalPolicy(double lambda_s) : lambda_s_(lambda_s) {}
  EpochResult Decide(const EpochSnapshot& snapshot) const override;
  PolicyGuarantees guarantees() const override { return {.forced_offloaded = true}; }
  size_t max_candidates() const override { return 12; }

 private:
  const double lambda_s_;
};

// `genetic`: the paper's genetic baseline. A chromosome holds a place (local or a site) per candidate; fitness is the
// SystemObjective. 40 chromosomes, 60 generations, the best two kept, tournaments of three, one-point crossover (0.9),
// and mutation of each gene (1/N) to another place that the candidate may take. The published mutation uses a gene's
// value as an index and can leave forced candidates local; this one draws forced genes from the sites only. Randomness
// from snapshot.seed.
class GeneticPolicy final : public OffloadPolicy {
 public:
  explicit GeneticPolicy(double lambda_s) : lambda_s_(lambda_s) {}
  EpochResult Decide(const EpochSnapshot& snapshot) const override;
  PolicyGuarantees guarantees() const override { return {.forced_offloaded = true}; }

 private:
  const double lambda_s_;
};

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_SEARCH_POLICIES_H_
