// How a query that was sent to a site ended, and what it took beside what was predicted: for the decision log, and
// `goad-sim fit`.
#ifndef GOAD_SERVER_TELEMETRY_OUTCOME_RECORD_H_
#define GOAD_SERVER_TELEMETRY_OUTCOME_RECORD_H_

#include <optional>
#include <string>

#include "server/config/config.h"

namespace goad::server {

enum class Ending {
  kCompleted,
  kFailed,     // no server could, or one broke off
  kCancelled,  // by the device, or with its stream
  kExpired,    // its prompt did not come in time
  kDrained,    // not finished within drain_timeout
};

struct OutcomeRecord {
  double at_s = 0;  // when it ended, on the engine's clock: of any origin, not running backwards
  std::string query_id, device, tenant, trace_id;  // trace_id: empty = none
  std::string site, backend;                       // backend: empty = none completed it
  Ending ending = Ending::kFailed;

  double prompt_bits = 0;          // 0 = came with the question
  std::optional<double> upload_s;  // decision to prompt complete; none = nothing to upload, or it did not come
  std::optional<double> sharers;   // of the uplink, itself included, mean over that time; none = no sample of a link
  double predicted_upload_s = 0;

  std::optional<double> compute_s;  // prompt complete to last token; none = not completed, as of the next two
  std::optional<double> first_token_s;
  std::optional<int> output_tokens;
  double predicted_compute_s = 0;
  int prompt_tokens = 0;               // as the device declared them
  std::optional<int> computed_tokens;  // of the prompt, without cached ones; none = no fair sample of the site
  double expected_output_tokens = 0;   // what the decision assumed
  int max_output_tokens = 0;
  std::optional<double> queries;  // per backend, itself included, mean over its time there; none = never there
  std::optional<ComputeConfig>
      configured;  // of a batching site: what it was predicted from before anything was learned
};

}  // namespace goad::server

#endif  // GOAD_SERVER_TELEMETRY_OUTCOME_RECORD_H_
