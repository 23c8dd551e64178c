// The paper's baselines. All are greedy in the sense of goa_policy.h and share its pass.
#ifndef GOAD_SCHEDULER_BASELINE_POLICIES_H_
#define GOAD_SCHEDULER_BASELINE_POLICIES_H_

#include "scheduler/policy.h"

namespace goad::sched {

// `min-delay` (the paper's dmin): step 2 of GOA over everyone with the unweighted Delta as key; uncertainty is ignored.
class MinDelayPolicy final : public OffloadPolicy {
 public:
  EpochResult Decide(const EpochSnapshot& snapshot) const override;
  PolicyGuarantees guarantees() const override { return {.no_optional_without_gain = true, .chosen_in_order = true}; }
};

// `all-edge` (the paper's all): step 1 of GOA over everyone; local only where no site is eligible.
class AllEdgePolicy final : public OffloadPolicy {
 public:
  EpochResult Decide(const EpochSnapshot& snapshot) const override;
  PolicyGuarantees guarantees() const override { return {.forced_offloaded = true, .chosen_in_order = true}; }
};

// `all-local`: nobody is offloaded, forced or not.
class AllLocalPolicy final : public OffloadPolicy {
 public:
  EpochResult Decide(const EpochSnapshot& snapshot) const override;
  PolicyGuarantees guarantees() const override { return {.no_optional_without_gain = true, .chosen_in_order = true}; }
};

// `random`: as many users as GOA offloads, drawn uniformly from snapshot.seed (or listed in snapshot.sample), each
// put greedily by the unweighted Delta whatever its sign. Ties go to the user drawn first.
class RandomPolicy final : public OffloadPolicy {
 public:
  EpochResult Decide(const EpochSnapshot& snapshot) const override;
  PolicyGuarantees guarantees() const override { return {.chosen_in_order = true}; }
};

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_BASELINE_POLICIES_H_
