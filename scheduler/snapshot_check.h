// The door of the decision library: what CheckSnapshot lets in, every policy can decide.
#ifndef GOAD_SCHEDULER_SNAPSHOT_CHECK_H_
#define GOAD_SCHEDULER_SNAPSHOT_CHECK_H_

#include "absl/status/status.h"
#include "scheduler/types.h"

namespace goad::sched {

// Where a snapshot is wrong, for a caller that can do without that part of it.
struct SnapshotFault {
  enum class Part { kWhole, kSite, kCandidate, kResident };
  Part part = Part::kWhole;
  size_t index = 0;  // into sites, candidates or residents
};

// INVALID_ARGUMENT naming the first field out of range (path, value, range) or matrix of the wrong size; `fault`, if
// given, says whose it is. O(N M).
absl::Status CheckSnapshot(const EpochSnapshot& snapshot, SnapshotFault* fault = nullptr);

// Takes the part at fault out: a candidate is left with no link to anywhere and nothing to gain, so that it is local; a
// site takes nobody; a resident is forgotten. False for kWhole, which has no part to take out.
bool TakeOut(const SnapshotFault& fault, EpochSnapshot* snapshot);

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_SNAPSHOT_CHECK_H_
