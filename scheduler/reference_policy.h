// `reference`: the paper's pseudo-code, literally and slowly: every round recomputes every remaining (user, server)
// pair from nothing. For tests and the simulator; O(N^3 M). Same decisions as `goa` in the same order.
#ifndef GOAD_SCHEDULER_REFERENCE_POLICY_H_
#define GOAD_SCHEDULER_REFERENCE_POLICY_H_

#include "scheduler/policy.h"

namespace goad::sched {

class ReferencePolicy final : public OffloadPolicy {
 public:
  EpochResult Decide(const EpochSnapshot& snapshot) const override;
  PolicyGuarantees guarantees() const override {
    return {.forced_offloaded = true, .no_optional_without_gain = true, .chosen_in_order = true};
  }
};

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_REFERENCE_POLICY_H_
