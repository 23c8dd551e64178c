// What is scraped: the registry without the series of what was removed. Those go on counting (somebody may be about
// to), and come back when it does.
#ifndef GOAD_SERVER_TELEMETRY_METRICS_PAGE_H_
#define GOAD_SERVER_TELEMETRY_METRICS_PAGE_H_

#include <set>
#include <string>
#include <vector>

#include "prometheus/collectable.h"
#include "prometheus/registry.h"
#include "server/base/mutex.h"

namespace goad::server {

// Thread-safe.
class MetricsPage final : public prometheus::Collectable {
 public:
  std::vector<prometheus::MetricFamily> Collect() const override;

  // Names of sites, and "SITE URL" of backends.
  void Show(std::set<std::string> sites, std::set<std::string> backends);

  prometheus::Registry registry;

 private:
  bool Hides(const prometheus::ClientMetric& metric) const GOAD_REQUIRES(mutex_);

  mutable Mutex mutex_;
  std::set<std::string> sites_ GOAD_GUARDED_BY(mutex_), backends_ GOAD_GUARDED_BY(mutex_);
};

}  // namespace goad::server

#endif  // GOAD_SERVER_TELEMETRY_METRICS_PAGE_H_
