// The policy contract: a stateless, deterministic map from a checked snapshot to decisions.
#ifndef GOAD_SCHEDULER_POLICY_H_
#define GOAD_SCHEDULER_POLICY_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "scheduler/types.h"

namespace goad::sched {

// What a policy promises about every result; tests/support/result_checks follows this declaration.
struct PolicyGuarantees {
  bool forced_offloaded = false;          // a forced candidate is local only when it has no eligible site
  bool no_optional_without_gain = false;  // an unforced candidate is offloaded only if that looked faster when picked
};

// Immutable and therefore thread-safe.
class OffloadPolicy {
 public:
  virtual ~OffloadPolicy() = default;

  // REQUIRES: CheckSnapshot(snapshot).ok(). Equal snapshots give equal results to the last bit; ties go to the smallest
  // (value, position in the snapshot, site index). Randomness comes from snapshot.seed only. Never fails.
  virtual EpochResult Decide(const EpochSnapshot& snapshot) const = 0;

  virtual PolicyGuarantees guarantees() const = 0;
};

// Names, in the order of the documentation: goa, min-delay, all-edge, all-local, random, reference.
const std::vector<std::string>& PolicyNames();

// INVALID_ARGUMENT naming the known policies when `name` is none of them.
absl::StatusOr<std::unique_ptr<const OffloadPolicy>> MakePolicy(const std::string& name);

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_POLICY_H_
