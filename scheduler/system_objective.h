// What an assignment costs everybody: the objective of `goa-relocate`, `optimal` and `genetic`, and what `goad-sim`
// compares.
#ifndef GOAD_SCHEDULER_SYSTEM_OBJECTIVE_H_
#define GOAD_SCHEDULER_SYSTEM_OBJECTIVE_H_

#include "scheduler/load_state.h"
#include "scheduler/types.h"

namespace goad::sched {

// Seconds: the delays of all candidates and of snapshot.residents under `state`, which assigning `order` led to, plus
// lambda_s * uncertainty for each candidate left local. lambda_s >= 0 prices the accuracy that a local answer gives up;
// 0 = delay only. +infinity when somebody's delay is.
double SystemObjective(const EpochSnapshot& snapshot, const AssignmentOrder& order, const LoadState& state,
                       double lambda_s);

// Gives every forced candidate that `order` leaves local the eligible site of least delay, while there is one: the last
// step of policies that search without regard to the order in which caps fill. Updates both.
void PlaceForced(const EpochSnapshot& snapshot, LoadState& state, AssignmentOrder& order);

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_SYSTEM_OBJECTIVE_H_
