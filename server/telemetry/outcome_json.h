// An outcome as JSON: what the decision log writes and `goad-sim fit` reads.
#ifndef GOAD_SERVER_TELEMETRY_OUTCOME_JSON_H_
#define GOAD_SERVER_TELEMETRY_OUTCOME_JSON_H_

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "server/telemetry/outcome_record.h"

namespace goad::server {

// An object of kind "outcome": the names are those of OutcomeRecord's fields, but for "ended" (completed, failed,
// cancelled, expired, drained); null stands for none.
nlohmann::json ToJson(const OutcomeRecord& record);

// INVALID_ARGUMENT names the field that is missing, of another type or out of range (numbers are in 0..1e15). Of
// all but at_s, site and ended, absence is the default of OutcomeRecord; what is unknown is passed over.
absl::StatusOr<OutcomeRecord> OutcomeFromJson(const nlohmann::json& line);

}  // namespace goad::server

#endif  // GOAD_SERVER_TELEMETRY_OUTCOME_JSON_H_
