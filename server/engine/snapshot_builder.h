// Turns the engine's tables into the snapshot that a policy decides on. The one place where configuration, durations
// and dB become the model's SI numbers. Thread-compatible, pure.
#ifndef GOAD_SERVER_ENGINE_SNAPSHOT_BUILDER_H_
#define GOAD_SERVER_ENGINE_SNAPSHOT_BUILDER_H_

#include <unordered_map>
#include <vector>

#include "server/engine/link_table.h"
#include "server/engine/query.h"
#include "server/engine/site_table.h"
#include "server/engine/uplink_table.h"

namespace goad::server {

struct SnapshotInputs {
  const Config& config;
  double tau = 1;
  uint64_t epoch = 0;
  const SiteTable& sites;
  const LinkTable& links;
  const UplinkTable& uplinks;
  const std::vector<const Query*>& candidates;  // in order of arrival, each with time left before its deadline
  const std::vector<const Query*>& residents;   // granted or running: load and interference carried over
};

// A pair whose link was never reported, is zero, or is older than limits.link_max_age has an unknown gain. A measured
// uplink then is what goad has seen of it.
sched::EpochSnapshot BuildSnapshot(const SnapshotInputs& inputs, MonotonicTime now);

}  // namespace goad::server

#endif  // GOAD_SERVER_ENGINE_SNAPSHOT_BUILDER_H_
