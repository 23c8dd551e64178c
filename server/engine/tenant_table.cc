#include "server/engine/tenant_table.h"

#include <algorithm>
#include <cmath>

#include "server/engine/fair_share.h"

namespace goad::server {

void TenantTable::SetConfig(const std::vector<TenantConfig>& tenants) {
  configured_ = !tenants.empty();
  rows_ = {TenantConfig{kDefaultTenant}};
  row_of_ = {{kDefaultTenant, 0}};
  for (const TenantConfig& tenant : tenants) {
    if (tenant.name == kDefaultTenant) {
      rows_[0] = tenant;
    } else {
      row_of_[tenant.name] = static_cast<int>(rows_.size());
      rows_.push_back(tenant);
    }
  }
}

void TenantTable::Cap(const std::vector<const Query*>& candidates, sched::EpochSnapshot* snapshot) const {
  if (!configured_) return;
  std::vector<TenantDemand> demands;
  for (const TenantConfig& tenant : rows_) demands.push_back({tenant.weight, LoadOf(tenant.name).active});
  Load unlisted;  // of tenants that a reload has removed: they are under the default's limits
  for (const auto& [name, load] : loads_) {
    if (row_of_.count(name) == 0) unlisted += load;
  }
  demands[0].active += unlisted.active;
  for (size_t i = 0; i < candidates.size(); ++i) {
    const auto row = row_of_.find(candidates[i]->meta.tenant);  // a reload may have removed it
    snapshot->candidates[i].tenant = row == row_of_.end() ? 0 : row->second;
    ++demands[static_cast<size_t>(snapshot->candidates[i].tenant)].asking;
  }
  for (size_t t = 0; t < demands.size(); ++t) {
    const TenantConfig& tenant = rows_[t];
    Load load = LoadOf(tenant.name);
    if (t == 0) load += unlisted;
    TenantDemand& demand = demands[t];
    demand.most_new = demand.asking;
    if (tenant.max_queries > 0) demand.most_new = std::clamp(tenant.max_queries - demand.active, 0, demand.most_new);
    if (tenant.max_offloaded_share < 1) {
      const double room = tenant.max_offloaded_share * (load.decided + demand.asking) - load.offloaded;
      demand.most_new = std::clamp(static_cast<int>(std::floor(room)), 0, demand.most_new);
    }
  }
  int slots = 0;
  for (const sched::SiteState& site : snapshot->sites)
    slots += site.accepting ? std::max(site.max_queries, site.active_queries) : 0;
  snapshot->tenant_caps = FairCaps(demands, slots);
}

void TenantTable::Decided(const std::string& tenant, bool offloaded) {
  constexpr double kFading = 1 - 1e-3;
  Load& load = loads_[tenant];
  load.decided = kFading * load.decided + 1;
  load.offloaded = kFading * load.offloaded + offloaded;
}

}  // namespace goad::server
