// A live query as the engine knows it.
#ifndef GOAD_SERVER_ENGINE_QUERY_H_
#define GOAD_SERVER_ENGINE_QUERY_H_

#include <memory>
#include <optional>
#include <string>

#include "server/engine/events.h"
#include "server/telemetry/outcome_record.h"

namespace goad::server {

// Legal transitions; a query that reaches a terminal event before it is dispatched leaves the table at once.
//
//   from \ event      decision LOCAL  decision OFFLOAD   prompt     cancel, loss, expiry   QueryDone
//   kPending          leaves          kGranted           -          leaves                 -
//   kPending inline   leaves          kRunning           -          leaves                 -
//   kGranted          -               -                  kRunning   leaves                 -
//   kRunning          -               -                  -          kAborting              leaves
//   (QueryReturned leaves a kRunning query as it is when another site takes it; else it is as QueryDone)
//   kAborting         -               -                  -          -                      leaves
//
// A site slot is held in kGranted, kRunning and kAborting; an uplink in kGranted.
enum class QueryState { kPending, kGranted, kRunning, kAborting };

struct Query {
  QueryId id{};
  SessionId session{};
  std::string query_id, device;
  QueryMeta meta;
  std::shared_ptr<const PromptBody> prompt;  // inline only; released when dispatched
  MonotonicTime received;
  double expected_output_tokens = 0;  // when it came; its own statement, or what OutputLengths said
  QueryState state = QueryState::kPending;

  // As of the last look before its decision.
  double value = 0;  // what policies read: its uncertainty, or what offloading it is worth
  double tau = 1;    // that this is compared with
  bool forced() const { return meta.must_offload || value > tau; }

  // From the decision on.
  sched::SiteIndex site = sched::SiteIndex::kNone;
  MonotonicTime decided, dispatched;
  double predicted_upload_s = 0, predicted_compute_s = 0;
  std::optional<double> upload_s, sharers;            // see OutcomeRecord
  Ending ending = Ending::kFailed;                    // as it stands
  bool teaches = true;                                // false: its site has begun to learn anew since
  double uplinks_before_s = 0;                        // SiteLoad::uplinks_s when it was decided
  double load_before_s = 0;                           // SiteLoad::load_s when it was dispatched
  uint64_t failed_sites = 0;                          // a bit for each site that could not run it; there are at most 64
  MonotonicTime expires = MonotonicTime::Infinite();  // the grant, or the wait for a decision

  // Whether what it took says how fast its site is.
  bool Teaches() const { return teaches && failed_sites == 0; }
  bool transmits() const { return meta.prompt_bits > 0; }
  MonotonicTime deadline() const { return received + meta.deadline; }
};

}  // namespace goad::server

#endif  // GOAD_SERVER_ENGINE_QUERY_H_
