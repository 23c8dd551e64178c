// How the slots are shared among tenants when they are short. Pure.
#ifndef GOAD_SERVER_ENGINE_FAIR_SHARE_H_
#define GOAD_SERVER_ENGINE_FAIR_SHARE_H_

#include <vector>

namespace goad::server {

struct TenantDemand {
  double weight = 1;  // > 0
  int active = 0;     // slots it holds
  int asking = 0;     // candidates of this epoch
  int most_new = 0;   // of them its own limits let through; <= asking
};

// The most new assignments of each tenant (EpochSnapshot::tenant_caps). While all demands fit into `slots` (held and
// free, of all sites that accept): most_new. Else weighted max-min fair: slots go one by one to the tenant with the
// least share per weight that still wants one, the first of equals; a tenant that already holds its share or more gets
// nothing new.
std::vector<int> FairCaps(const std::vector<TenantDemand>& tenants, int slots);

}  // namespace goad::server

#endif  // GOAD_SERVER_ENGINE_FAIR_SHARE_H_
