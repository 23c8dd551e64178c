// What each tenant holds and has been given, and the caps that follow for an epoch. Owned by the engine thread;
// thread-compatible.
#ifndef GOAD_SERVER_ENGINE_TENANT_TABLE_H_
#define GOAD_SERVER_ENGINE_TENANT_TABLE_H_

#include <string>
#include <unordered_map>
#include <vector>

#include "scheduler/types.h"
#include "server/config/config.h"
#include "server/engine/query.h"

namespace goad::server {

class TenantTable {
 public:
  TenantTable() { SetConfig({}); }
  void SetConfig(const std::vector<TenantConfig>& tenants);

  // Numbers the candidates' tenants in the snapshot and says how many new assignments each may get: by its own limits,
  // and by FairCaps over all slots of the sites that accept. Without tenants in the configuration the snapshot stays as
  // it is.
  void Cap(const std::vector<const Query*>& candidates, sched::EpochSnapshot* snapshot);

  void Decided(const std::string& tenant, bool offloaded);
  // A query of its is LOCAL, QUOTA: counted under the limit that it met in the last Cap, which is returned.
  TenantLimit Refused(const std::string& tenant);
  std::vector<TenantRow> Rows() const;
  void TakeSlot(const std::string& tenant) { ++loads_[tenant].active; }
  void ReleaseSlot(const std::string& tenant) { --loads_[tenant].active; }

 private:
  struct Load {
    int active = 0;                        // slots it holds
    double decided = 0, offloaded = 0;     // fading counts, over about the last 1000 decisions
    uint64_t decisions = 0, offloads = 0;  // since the start
    TenantRefusals refused{};
    void operator+=(const Load& other) {
      active += other.active;
      decisions += other.decisions;
      offloads += other.offloads;
      for (size_t limit = 0; limit < refused.size(); ++limit) refused[limit] += other.refused[limit];
      decided += other.decided;
      offloaded += other.offloaded;
    }
  };
  Load Unlisted() const;  // of tenants that a reload has removed: they are under the default's limits
  Load LoadOf(const std::string& tenant) const {
    const auto found = loads_.find(tenant);
    return found == loads_.end() ? Load() : found->second;
  }

  bool configured_ = false;
  std::vector<TenantConfig> rows_;  // "default" first; a row is the candidate's tenant in a snapshot
  std::unordered_map<std::string, int> row_of_;
  std::vector<TenantLimit> limits_;              // by row: what the last Cap was of
  std::unordered_map<std::string, Load> loads_;  // bounded by the tenants there ever were in the configuration
};

}  // namespace goad::server

#endif  // GOAD_SERVER_ENGINE_TENANT_TABLE_H_
