// The load and health of every site. Owned by the engine thread; thread-compatible.
#ifndef GOAD_SERVER_ENGINE_SITE_TABLE_H_
#define GOAD_SERVER_ENGINE_SITE_TABLE_H_

#include <algorithm>
#include <vector>

#include "server/config/config.h"
#include "server/engine/events.h"
#include "server/engine/service_times.h"

namespace goad::server {

struct SiteLoad {
  ServiceEstimate service;  // what its queries take
  int backends_up = 0;      // from SiteHealth; 0 = down
  bool backends_draining = false;
  int slots = 0;
  sched::Contexts contexts = sched::AnyContext(), all_contexts = contexts, drained_contexts = sched::NoContext();
  int active_queries = 0;  // granted, running or aborting
  int active_uplinks = 0;  // granted and transmitting
  double load_s = 0;       // queries per backend, summed over time, up to `counted`
  double uplinks_s = 0;    // active_uplinks, likewise
  MonotonicTime counted;

  int ModelBackends() const { return std::max(1, backends_up); }
  // Before active_queries, active_uplinks or backends_up change.
  void CountLoad(MonotonicTime now) {
    const double since_s = SecondsBetween(counted, now);
    load_s += active_queries * since_s / ModelBackends();
    uplinks_s += active_uplinks * since_s;
    counted = now;
  }

  // What a server queues cannot be aborted, so the configured limit never exceeds the slots.
  int EffectiveMax(const SiteConfig& config) const {
    return config.max_queries == 0 ? slots : std::min(config.max_queries, slots);
  }
};

using SiteTable = std::vector<SiteLoad>;

}  // namespace goad::server

#endif  // GOAD_SERVER_ENGINE_SITE_TABLE_H_
