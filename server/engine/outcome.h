// A query that leaves its site, as it goes on record.
#ifndef GOAD_SERVER_ENGINE_OUTCOME_H_
#define GOAD_SERVER_ENGINE_OUTCOME_H_

#include <optional>

#include "server/engine/query.h"
#include "server/telemetry/outcome_record.h"

namespace goad::server {

// `done`: what the dispatcher said; null = it never ran, or went back. `queries`: per backend, the mean over its time
// at the site; none = it never ran. Pure. REQUIRES: the query has a site.
OutcomeRecord MakeOutcome(const Config& config, const Query& query, Ending ending, const QueryDone* done,
                          std::optional<double> queries, MonotonicTime now);

}  // namespace goad::server

#endif  // GOAD_SERVER_ENGINE_OUTCOME_H_
