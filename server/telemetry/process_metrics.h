// What the process itself uses and may use, under the names that Prometheus' own clients give it.
#ifndef GOAD_SERVER_TELEMETRY_PROCESS_METRICS_H_
#define GOAD_SERVER_TELEMETRY_PROCESS_METRICS_H_

#include <vector>

#include "prometheus/collectable.h"
#include "prometheus/metric_family.h"

namespace goad::server {

// Thread-safe: reads /proc anew for every scrape. A value that cannot be read is left out.
class ProcessMetrics final : public prometheus::Collectable {
 public:
  std::vector<prometheus::MetricFamily> Collect() const override;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_TELEMETRY_PROCESS_METRICS_H_
