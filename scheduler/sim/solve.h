// `goad-sim solve`: golden-vector instances in, decisions out.
#ifndef GOAD_SCHEDULER_SIM_SOLVE_H_
#define GOAD_SCHEDULER_SIM_SOLVE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "scheduler/policy.h"

namespace goad::sched {

// One instance of a `goa-vectors/1` file as a snapshot: payload becomes prompt_bits unchanged (the published reference
// divides bytes by a bit rate) and edge_work_flop is 8 * t_local * C_local. `sample` is taken from expect.random when
// it is there. INVALID_ARGUMENT names the instance and field.
absl::StatusOr<EpochSnapshot> SnapshotFromVector(const nlohmann::json& instance);

// Decides every instance of the document `text` (whose name `source` appears in errors) with the named policy and
// appends {"id","policy","assign","order","total_ms"} to `answers`; a total that is not finite is written "inf".
absl::Status SolveDocument(const std::string& source, const std::string& text, const std::string& policy,
                           const PolicyParameters& parameters, nlohmann::json& answers);

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_SIM_SOLVE_H_
