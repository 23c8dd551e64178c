#include "scheduler/goa_policy.h"

#include <vector>

#include "scheduler/greedy_pass.h"

namespace goad::sched {

AssignmentOrder GoaOrder(GreedySolver& solver, const EpochSnapshot& snapshot) {
  std::vector<uint32_t> members;
  members.reserve(snapshot.candidates.size());
  for (const bool forced : {true, false}) {
    members.clear();
    for (uint32_t i = 0; i < snapshot.candidates.size(); ++i) {
      if (snapshot.Forced(i) == forced) members.push_back(i);
    }
    solver.Pass(members, Weight::kUncertainty, forced ? StopRule::kExhausted : StopRule::kNoGain);
  }
  return solver.TakeOrder();
}

EpochResult GoaPolicy::Decide(const EpochSnapshot& snapshot) const {
  GreedySolver solver(snapshot);
  AssignmentOrder order = GoaOrder(solver, snapshot);
  return MakeResult(snapshot, std::move(order), solver.state(), Reason::kDelayGain, Reason::kNoGain,
                    solver.evaluations());
}

}  // namespace goad::sched
