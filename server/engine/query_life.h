// A query's life from its decision to its end: what it holds meanwhile (a site's slot, an uplink, a place of its
// tenant's), where its prompt runs, what its device is told. Carries out the transitions of query.h; which query is
// decided on and when is the engine's. Pure. Owned by the engine thread; thread-compatible.
#ifndef GOAD_SERVER_ENGINE_QUERY_LIFE_H_
#define GOAD_SERVER_ENGINE_QUERY_LIFE_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "scheduler/types.h"
#include "server/engine/link_table.h"
#include "server/engine/output_lengths.h"
#include "server/engine/ports.h"
#include "server/engine/query_table.h"
#include "server/engine/site_table.h"
#include "server/engine/tenant_table.h"
#include "server/engine/uplink_table.h"
#include "server/telemetry/metrics.h"

namespace goad::server {

// When an epoch may help those that wait for a decision, after what has just happened; of two the later named counts.
enum class Wake {
  kNever,  // nothing changed for them
  kSoon,   // a slot, an uplink, a link or a site
  kNow,    // one has waited for as long as it may
};

class QueryLife {
 public:
  // The ports are not owned and outlive this. `on_outcome` hears of every query that leaves its site; it may be empty.
  QueryLife(std::shared_ptr<const Config> config, SessionSink* sink, DispatchPort* dispatch, Metrics* metrics,
            std::function<void(OutcomeRecord)> on_outcome);
  void SetConfig(std::shared_ptr<const Config> config);  // places as in the one before

  // The engine takes those that wait from the table and puts back those it holds.
  QueryTable& queries() { return queries_; }
  const QueryTable& queries() const { return queries_; }
  const SiteTable& sites() const { return sites_; }
  TenantTable& tenants() { return tenants_; }
  const TenantTable& tenants() const { return tenants_; }
  const UplinkTimes& median_uplink() const { return uplinks_.median(); }
  double ExpectedOutputTokens(const QueryMeta& meta, MonotonicTime now) const { return lengths_.Expect(meta, now); }
  // Without tenants' caps.
  sched::EpochSnapshot Snapshot(const std::vector<const Query*>& candidates, const std::vector<const Query*>& residents,
                                double tau, uint64_t epoch, MonotonicTime now);

  // A pending query is decided. It is told, and runs, is waited for, or leaves.
  void Offload(Query& query, const sched::Decision& decision, uint64_t epoch, MonotonicTime now);
  void Decline(Query& query, sched::Reason reason, uint64_t epoch, MonotonicTime now);

  // What happens to queries, links and sites.
  Wake On(LinkUpdate& event, MonotonicTime now);
  Wake On(PromptReady& event, MonotonicTime now);
  Wake On(CancelQuery& event, MonotonicTime now);
  Wake On(SessionClosed& event, MonotonicTime now);
  Wake On(QueryDone& event, MonotonicTime now);
  Wake On(QueryReturned& event, MonotonicTime now);
  Wake On(SiteHealth& event, MonotonicTime now);
  Wake On(DrainExpired& event, MonotonicTime now);
  // Of a query that no site which is up can: kNotAble where no server can, be it up or not; else what keeps those from
  // it that can, for now: kSiteDraining or kNoSite.
  sched::Reason WhyNotAble(const Query& query) const;
  Wake Expire(MonotonicTime now);  // grants, and the patience of those that wait

 private:
  void Dispatch(Query& query, std::shared_ptr<const PromptBody> prompt, MonotonicTime now);
  struct Placement {
    sched::SiteIndex site;
    double compute_s;  // predicted
  };
  std::optional<Placement> OtherSite(const Query& query, MonotonicTime now);
  void LearnUplink(Query& query, MonotonicTime now);
  double MeanQueries(const Query& query, MonotonicTime now);   // per backend, since it runs
  Wake Withdraw(Query& query, Ending why, MonotonicTime now);  // no more answers wanted; frees or aborts
  // It was at a site, which it leaves. `done`: what the dispatcher said, if that is why.
  void Leave(Query& query, Ending ending, const QueryDone* done, MonotonicTime now);
  std::string Missing(const Query& query) const;
  void CountDecision(const Query& query, bool offloaded);
  void TakeSlot(Query& query, sched::SiteIndex site, MonotonicTime now);
  void GiveSlotBack(const Query& query, sched::SiteIndex site, MonotonicTime now);
  void ReleaseUplink(const Query& query, MonotonicTime now);

  // Constant after construction.
  SessionSink* const sink_;
  DispatchPort* const dispatch_;
  Metrics* const metrics_;
  const std::function<void(OutcomeRecord)> on_outcome_;

  std::shared_ptr<const Config> config_;
  QueryTable queries_;
  LinkTable links_;
  UplinkTable uplinks_;
  SiteTable sites_;
  TenantTable tenants_;
  OutputLengths lengths_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_ENGINE_QUERY_LIFE_H_
