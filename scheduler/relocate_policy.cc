#include "scheduler/relocate_policy.h"

#include <utility>

#include "scheduler/goa_policy.h"
#include "scheduler/relocation_search.h"
#include "scheduler/system_objective.h"

namespace goad::sched {

EpochResult RelocatePolicy::Decide(const EpochSnapshot& snapshot) const {
  GreedySolver goa(snapshot);
  RelocationSearch search(snapshot, lambda_s_, GoaOrder(goa, snapshot));
  AssignmentOrder order = search.Run();
  LoadState state = ReplayOrder(snapshot, order);
  PlaceForced(snapshot, state, order);
  return MakeResult(snapshot, std::move(order), state, Reason::kDelayGain, Reason::kNoGain,
                    goa.evaluations() + search.evaluations());
}

}  // namespace goad::sched
