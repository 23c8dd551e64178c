#include "server/engine/fair_share.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <queue>
#include <utility>

namespace goad::server {

std::vector<int> FairCaps(const std::vector<TenantDemand>& tenants, int slots) {
  std::vector<int> caps;
  int64_t demand = 0;
  for (const TenantDemand& tenant : tenants) {
    caps.push_back(tenant.most_new);
    demand += tenant.active + tenant.most_new;
  }
  if (demand <= slots) return caps;
  using Next = std::pair<double, size_t>;  // share per weight after one more, tenant
  std::priority_queue<Next, std::vector<Next>, std::greater<>> queue;
  for (size_t t = 0; t < tenants.size(); ++t) {
    if (tenants[t].active + tenants[t].most_new > 0) queue.emplace(1 / tenants[t].weight, t);
  }
  std::vector<int> share(tenants.size());
  for (int left = slots; left > 0 && !queue.empty(); --left) {
    const size_t t = queue.top().second;
    queue.pop();
    if (++share[t] < tenants[t].active + tenants[t].most_new) queue.emplace((share[t] + 1) / tenants[t].weight, t);
  }
  for (size_t t = 0; t < tenants.size(); ++t)
    caps[t] = std::clamp(share[t] - tenants[t].active, 0, tenants[t].most_new);
  return caps;
}

}  // namespace goad::server
