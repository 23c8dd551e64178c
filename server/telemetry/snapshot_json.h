// An epoch as JSON: what the decision log writes and `goad-sim replay` reads. A number is written with the digits that
// give back its bits; null stands for unknown (NaN) and, in max_share_flops and deadline_s, for no limit.
//
// Old logs are read for ever (tests/compat/decision_log_test): what the paper's model needs must be there; of
// everything else, and of every field that is still to come, absence is the neutral value, the default in
// scheduler/types.h.
#ifndef GOAD_SERVER_TELEMETRY_SNAPSHOT_JSON_H_
#define GOAD_SERVER_TELEMETRY_SNAPSHOT_JSON_H_

#include <string>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "scheduler/types.h"
#include "server/telemetry/epoch_record.h"

namespace goad::server {

// What stands in a line of kind "snapshot".
struct LoggedEpoch {
  std::string policy;
  double lambda_s = 0;
  sched::EpochSnapshot snapshot;
  std::vector<std::pair<uint32_t, sched::SiteIndex>> order;  // of assignment, as decided then
};

// Site rows have names where the record knows its configuration.
nlohmann::json ToJson(const EpochRecord& record);

// INVALID_ARGUMENT says which field is missing or of the wrong type, or which model is unknown. The snapshot is not
// checked for ranges.
absl::StatusOr<LoggedEpoch> LoggedEpochFromJson(const nlohmann::json& line);

}  // namespace goad::server

#endif  // GOAD_SERVER_TELEMETRY_SNAPSHOT_JSON_H_
