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

void TenantTable::Cap(const std::vector<const Query*>& candidates, sched::EpochSnapshot* snapshot) {
  if (!configured_) return;
  std::vector<TenantDemand> demands;
  for (const TenantConfig& tenant : rows_) demands.push_back({tenant.weight, LoadOf(tenant.name).active});
  const Load unlisted = Unlisted();
  demands[0].active += unlisted.active;
  for (size_t i = 0; i < candidates.size(); ++i) {
    const auto row = row_of_.find(candidates[i]->meta.tenant);  // a reload may have removed it
    snapshot->candidates[i].tenant = row == row_of_.end() ? 0 : row->second;
    ++demands[static_cast<size_t>(snapshot->candidates[i].tenant)].asking;
  }
  limits_.assign(rows_.size(), TenantLimit::kWeight);
  for (size_t t = 0; t < demands.size(); ++t) {
    const TenantConfig& tenant = rows_[t];
    Load load = LoadOf(tenant.name);
    if (t == 0) load += unlisted;
    TenantDemand& demand = demands[t];
    demand.most_new = demand.asking;
    const auto at_most = [&](int most_new, TenantLimit limit) {
      if (most_new >= demand.most_new) return;
      demand.most_new = std::max(0, most_new);
      limits_[t] = limit;
    };
    if (tenant.max_queries > 0) at_most(tenant.max_queries - demand.active, TenantLimit::kMaxQueries);
    if (tenant.max_offloaded_share < 1) {
      const double room = tenant.max_offloaded_share * (load.decided + demand.asking) - load.offloaded;
      at_most(static_cast<int>(std::floor(room)), TenantLimit::kMaxOffloadedShare);
    }
  }
  int slots = 0;
  for (const sched::SiteState& site : snapshot->sites)
    slots += site.accepting ? std::max(site.max_queries, site.active_queries) : 0;
  snapshot->tenant_caps = FairCaps(demands, slots);
  for (size_t t = 0; t < demands.size(); ++t) {
    if (snapshot->tenant_caps[t] < demands[t].most_new) limits_[t] = TenantLimit::kWeight;
  }
}

TenantTable::Load TenantTable::Unlisted() const {
  Load unlisted;
  for (const auto& [name, load] : loads_) {
    if (row_of_.count(name) == 0) unlisted += load;
  }
  return unlisted;
}

TenantLimit TenantTable::Refused(const std::string& tenant) {
  const auto found = row_of_.find(tenant);
  const size_t row = found == row_of_.end() ? 0 : static_cast<size_t>(found->second);
  const TenantLimit limit = row < limits_.size() ? limits_[row] : TenantLimit::kWeight;
  ++loads_[tenant].refused[static_cast<size_t>(limit)];
  return limit;
}

std::vector<TenantRow> TenantTable::Rows() const {
  std::vector<TenantRow> rows;
  for (const TenantConfig& tenant : rows_) {
    Load load = LoadOf(tenant.name);
    if (rows.empty()) load += Unlisted();
    rows.push_back({tenant, load.active, load.decisions, load.offloads,
                    load.decided > 0 ? load.offloaded / load.decided : 0, load.refused});
  }
  return rows;
}

void TenantTable::Decided(const std::string& tenant, bool offloaded) {
  constexpr double kFading = 1 - 1e-3;
  Load& load = loads_[tenant];
  load.decided = kFading * load.decided + 1;
  load.offloaded = kFading * load.offloaded + offloaded;
  ++load.decisions;
  load.offloads += offloaded;
}

}  // namespace goad::server
