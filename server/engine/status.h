// What the rooms tell operators of themselves: a copy of a table at one moment, row by row. Each type stands here once,
// where the room that fills it and the admin room that shows it may both include it.
#ifndef GOAD_SERVER_ENGINE_STATUS_H_
#define GOAD_SERVER_ENGINE_STATUS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "server/base/abilities.h"
#include "server/base/local_model.h"
#include "server/base/monotonic_time.h"
#include "server/base/refusal.h"
#include "server/config/config.h"

namespace goad::server {

// A site's batching numbers as they are in force; scheduler/types.h has what they mean.
struct ServiceTimes {
  double overhead_s = 0, prefill_tokens_per_s = 0, token_time_s = 0, token_time_per_query_s = 0;
  uint64_t samples = 0;  // completed queries that they were learned from; 0 = as configured
};

// What an upload takes at a site with measured uplinks: a round trip, and the bits at a rate.
struct UplinkTimes {
  double round_trip_s = 0, uplink_bps = 0;
  uint64_t samples = 0;  // of a device: its uploads that they were learned from; of the median: devices
};

// A tenant as the engine knows it. Counts are since the start.
struct TenantRow {
  TenantConfig config;
  int active = 0;  // slots it holds
  uint64_t decisions = 0, offloaded = 0;
  double recent_share = 0;  // offloaded of its last 1000 or so
  TenantRefusals refused{};
};

// The engine's, for Admin.Status, Admin.Sites and Admin.Tenants.
struct EngineStatus {
  std::string policy;
  double tau = 1;
  bool policy_overridden = false, tau_overridden = false;
  double policy_trial_left_s = 0;  // 0 = no policy is on trial
  uint64_t epochs = 0;
  int pending = 0, granted = 0, running = 0;
  bool draining = false;
  UplinkTimes uplink;  // the median over devices
  struct Site {
    bool accepting = false;
    int active_queries = 0, active_uplinks = 0, max_queries = 0;
    ServiceTimes service;
  };
  std::vector<Site> sites;
  std::vector<TenantRow> tenants;  // "default" first
};

// The session registry's: an open session.
struct SessionRow {
  std::string name, device_name, peer, tenant;
  absl::Duration age;
  size_t live_queries = 0;
  int64_t outbox_bytes = 0;
  LocalModelPtr model;
};

enum class BackendState {
  kUnknown,  // not yet asked
  kUp,
  kLoading,   // it says that it loads its model (503), to probes or to requests; is not down
  kDown,      // probes fail
  kHalfOpen,  // probes are good and requests fail
};
inline const char* ToString(BackendState state) {
  switch (state) {
    case BackendState::kUnknown: return "unknown";
    case BackendState::kUp: return "up";
    case BackendState::kLoading: return "loading";
    case BackendState::kDown: return "down";
    case BackendState::kHalfOpen: return "half-open";
  }
  return "?";
}

// By site, in their places: of its backends, up or not, each different one once. At most 64 each.
using SiteAbilities = std::vector<std::vector<Abilities>>;

// The backend pool's: a backend of a site.
struct BackendRow {
  std::string url;
  bool removed = false, drained = false;
  BackendState state = BackendState::kUnknown;
  MonotonicTime state_since;
  std::string last_error;  // "" = none yet
  MonotonicTime last_error_since;
  int slots = 0;                // in force
  const char* slots_from = "";  // configured, props or assumed
  int configured_slots = 0;     // 0 = auto
  int reported_slots = 0;       // by its /props; 0 = it does not say
  int in_flight = 0;            // our requests
  Abilities abilities;
  double foreign = 0;  // requests of others, by the backend's own metrics; 0 where it has none
};
using BackendRows = std::vector<std::vector<BackendRow>>;  // by site and backend, in their places

}  // namespace goad::server

#endif  // GOAD_SERVER_ENGINE_STATUS_H_
