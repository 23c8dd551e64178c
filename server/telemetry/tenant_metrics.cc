#include "server/telemetry/tenant_metrics.h"

namespace goad::server {

using prometheus::BuildCounter;

TenantMetrics::TenantMetrics(prometheus::Registry& registry)
    : decisions_(BuildCounter()
                     .Name("goad_tenant_decisions_total")
                     .Help("Decisions by tenant and verdict.")
                     .Register(registry)),
      uncertainties_(
          BuildCounter()
              .Name("goad_tenant_uncertainty_total")
              .Help("Sum of the uncertainties that a tenant's queries reported; over its decisions, their mean.")
              .Register(registry)),
      refused_(BuildCounter()
                   .Name("goad_tenant_refused_total")
                   .Help("Queries answered LOCAL, QUOTA, by tenant and the limit of its that they met.")
                   .Register(registry)) {}

void TenantMetrics::SetConfig(const std::vector<TenantConfig>& tenants) {
  const auto can = [&](const TenantConfig& tenant, TenantLimit limit) {
    refused_.Add({{"tenant", tenant.name}, {"limit", ToString(limit)}});
  };
  for (const TenantConfig& tenant : tenants) {  // zero from the start
    if (tenant.queries_per_second > 0) can(tenant, TenantLimit::kQueriesPerSecond);
    if (tenant.prompt_tokens_per_minute > 0) can(tenant, TenantLimit::kPromptTokensPerMinute);
    if (tenant.max_queries > 0) can(tenant, TenantLimit::kMaxQueries);
    if (tenant.max_offloaded_share < 1) can(tenant, TenantLimit::kMaxOffloadedShare);
    can(tenant, TenantLimit::kWeight);
  }
}

void TenantMetrics::Decision(const std::string& tenant, double uncertainty, bool offloaded) {
  auto found = series_.find(tenant);
  if (found == series_.end()) {
    found = series_
                .emplace(tenant, Series{&decisions_.Add({{"tenant", tenant}, {"verdict", "LOCAL"}}),
                                        &decisions_.Add({{"tenant", tenant}, {"verdict", "OFFLOAD"}}),
                                        &uncertainties_.Add({{"tenant", tenant}})})
                .first;
  }
  (offloaded ? found->second.offloaded : found->second.local)->Increment();
  found->second.uncertainty->Increment(uncertainty);
}

void TenantMetrics::Refused(const std::string& tenant, TenantLimit limit) {
  refused_.Add({{"tenant", tenant}, {"limit", ToString(limit)}}).Increment();
}

}  // namespace goad::server
