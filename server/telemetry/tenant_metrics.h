// What tenants are given and refused. A part of Metrics.
#ifndef GOAD_SERVER_TELEMETRY_TENANT_METRICS_H_
#define GOAD_SERVER_TELEMETRY_TENANT_METRICS_H_

#include <string>
#include <unordered_map>
#include <vector>

#include "prometheus/counter.h"
#include "prometheus/family.h"
#include "prometheus/registry.h"
#include "server/base/refusal.h"
#include "server/config/config.h"

namespace goad::server {

// Series are made when they can first occur: there may be a thousand tenants.
class TenantMetrics {
 public:
  explicit TenantMetrics(prometheus::Registry& registry);

  void SetConfig(const std::vector<TenantConfig>& tenants);                      // thread-safe, as Refused
  void Decision(const std::string& tenant, double uncertainty, bool offloaded);  // engine thread only
  void Refused(const std::string& tenant, TenantLimit limit);

 private:
  struct Series {
    prometheus::Counter *local, *offloaded, *uncertainty;
  };
  prometheus::Family<prometheus::Counter>&decisions_, &uncertainties_, &refused_;
  std::unordered_map<std::string, Series> series_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_TELEMETRY_TENANT_METRICS_H_
