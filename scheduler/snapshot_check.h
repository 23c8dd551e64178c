// The door of the decision library: what CheckSnapshot lets in, every policy can decide.
#ifndef GOAD_SCHEDULER_SNAPSHOT_CHECK_H_
#define GOAD_SCHEDULER_SNAPSHOT_CHECK_H_

#include "absl/status/status.h"
#include "scheduler/types.h"

namespace goad::sched {

// INVALID_ARGUMENT naming the first field out of range (path, value, range) or matrix of the wrong size. O(N M).
absl::Status CheckSnapshot(const EpochSnapshot& snapshot);

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_SNAPSHOT_CHECK_H_
