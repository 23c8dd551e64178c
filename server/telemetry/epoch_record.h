// One epoch as it was decided: for the decision log, WatchEpochs and replay. Immutable once shared.
#ifndef GOAD_SERVER_TELEMETRY_EPOCH_RECORD_H_
#define GOAD_SERVER_TELEMETRY_EPOCH_RECORD_H_

#include <memory>
#include <string>
#include <vector>

#include "scheduler/types.h"
#include "server/base/local_model.h"
#include "server/config/config.h"

namespace goad::server {

// Who asks, for the log.
struct Asker {
  std::string device, tenant, trace_id;  // trace_id: of the call's traceparent; empty = none
};

// A query that was answered LOCAL without asking the policy: past its deadline, behind its own device's upload,
// draining.
struct EarlyDecline {
  std::string query_id;
  sched::Reason reason = sched::Reason::kNoLink;
  double uncertainty = 0, value = 0, tau = 1, local_delay_s = 0;  // value: what policies read
  LocalModelPtr model;
  Asker asker;
};

struct EpochRecord {
  std::shared_ptr<const Config> config;  // in force then; names the sites
  std::string policy;
  bool chosen_in_order = false;  // sched::PolicyGuarantees, of the policy
  double lambda_s = 0;           // the policy's parameter
  sched::EpochSnapshot snapshot;
  sched::EpochResult result;
  std::vector<std::string> query_ids;  // per candidate, the device's name of the query
  std::vector<Asker> askers;           // per candidate
  std::vector<LocalModelPtr> models;   // per candidate, what its uncertainty is
  std::vector<double> uncertainties;   // per candidate, as its device said; the snapshot has what policies read
  std::vector<bool> held;              // per candidate: forced, no eligible site, keeps waiting (no decision yet)
  std::vector<EarlyDecline> early;     // not in the snapshot
  double solver_s = 0;
  std::vector<uint64_t> service_samples;  // per site: answers that its compute was learned from; 0 = as configured

  bool HasValues() const { return config != nullptr && config->policy.curves != nullptr; }  // policies read values
  std::string SiteName(sched::SiteIndex site) const {  // empty for kNone, and without a configuration
    return site == sched::SiteIndex::kNone || config == nullptr ? "" : config->sites[sched::ToIndex(site)].name;
  }
};

}  // namespace goad::server

#endif  // GOAD_SERVER_TELEMETRY_EPOCH_RECORD_H_
