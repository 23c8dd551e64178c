// The numbers that led to one decision, worked out again from the snapshot and the order of assignment. Pure.
#ifndef GOAD_SCHEDULER_EXPLAIN_H_
#define GOAD_SCHEDULER_EXPLAIN_H_

#include <vector>

#include "scheduler/load_state.h"

namespace goad::sched {

// One site as the candidate saw it: delta = upload + compute - local, key = uncertainty * delta (paper, the quantity
// GOA minimises). When not eligible, upload and compute may be 0: what stood in the way came before them.
struct SiteCost {
  LoadState::PairCost cost;
  double delta_s = 0, key_s = 0;
  int queries = 0, uplinks = 0;  // there already, carried over ones included
  double interference_w = 0;
};

struct Explanation {
  size_t assigned_before = 0;  // of this epoch, in the state that the costs are of
  std::vector<SiteCost> sites;
};

// Candidate i's costs in the state with those assigned that come before it in `order` (everybody, when it is not in
// it): for a greedy policy exactly what it compared when it took the candidate, or left it. `others_decided`: with
// everybody else's assignment in place instead, as a policy that moves candidates afterwards sees it.
// REQUIRES: i < snapshot.candidates.size(); `order` is of this snapshot.
Explanation Explain(const EpochSnapshot& snapshot, const AssignmentOrder& order, size_t i, bool others_decided);

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_EXPLAIN_H_
