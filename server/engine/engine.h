// The scheduler's heart: what is asking, what is granted, what runs, and when to decide. Pure: no thread, no clock, no
// I/O; time and events are handed in, results leave through the two ports.
#ifndef GOAD_SERVER_ENGINE_ENGINE_H_
#define GOAD_SERVER_ENGINE_ENGINE_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "scheduler/policy.h"
#include "server/engine/link_table.h"
#include "server/engine/ports.h"
#include "server/engine/query_table.h"
#include "server/engine/site_table.h"
#include "server/engine/tenant_table.h"
#include "server/telemetry/epoch_record.h"
#include "server/telemetry/metrics.h"

namespace goad::server {

// Thread-compatible: one writer, the engine thread.
class Engine {
 public:
  struct Ports {  // not owned, outlive the engine
    SessionSink* sink = nullptr;
    DispatchPort* dispatch = nullptr;
    Metrics* metrics = nullptr;
    std::function<void(std::shared_ptr<const EpochRecord>)> on_epoch;  // may be empty
    std::function<MonotonicTime()> stopwatch;                          // times the solver; may be empty
  };
  Engine(std::shared_ptr<const Config> config, Ports ports);

  void Handle(Event event, MonotonicTime now);
  // Expires grants and waits, and runs an epoch when one is due.
  void Tick(MonotonicTime now);
  // When Tick must be called next; Infinite() when nothing waits.
  MonotonicTime NextWake() const;
  absl::Duration min_period() const { return config_->epoch.min_period; }  // no new query is decided before it passed

  bool idle() const { return queries_.empty(); }
  size_t pending() const { return queries_.pending(); }
  std::string Broken() const { return queries_.Broken(); }  // for tests: an invariant that does not hold
  const SiteTable& sites() const { return sites_; }
  double tau() const { return tau_.load(std::memory_order_relaxed); }  // in force now; any thread may ask

 private:
  void On(SubmitQuery& event, MonotonicTime now);
  void On(LinkUpdate& event, MonotonicTime now);
  void On(PromptReady& event, MonotonicTime now);
  void On(CancelQuery& event, MonotonicTime now);
  void On(SessionClosed& event, MonotonicTime now);
  void On(QueryDone& event, MonotonicTime now);
  void On(QueryReturned& event, MonotonicTime now);
  void On(SiteHealth& event, MonotonicTime now);
  void On(Drain& event, MonotonicTime now);
  void On(DrainExpired& event, MonotonicTime now);
  void On(ApplyConfig& event, MonotonicTime now);
  void On(SetTau& event, MonotonicTime now);
  void On(SetPolicy& event, MonotonicTime now);
  void UsePolicy(const std::string& name);
  void On(Inspect& event, MonotonicTime now);

  // An epoch is four steps: gather, decide, record, apply.
  struct Early {  // answered LOCAL without asking the policy
    Query* query;
    sched::Reason reason;
  };
  struct Gathered {
    std::vector<Query*> candidates;       // in order of arrival
    std::vector<const Query*> residents;  // granted or running
    std::vector<Early> early;
  };
  void RunEpoch(MonotonicTime now);
  Gathered Gather(MonotonicTime now);
  std::shared_ptr<const EpochRecord> Decide(const Gathered& gathered, MonotonicTime now);
  void Record(std::shared_ptr<const EpochRecord> record);
  void Apply(const Gathered& gathered, const EpochRecord& record, MonotonicTime now);

  void Decline(const std::vector<Early>& early, MonotonicTime now);
  void DeclinePending(MonotonicTime now);  // draining
  EpochRecord NewRecord(const std::vector<Early>& early) const;
  bool MakeSound(sched::EpochSnapshot* snapshot);  // false: nothing of it can be decided
  sched::EpochSnapshot Snapshot(const std::vector<const Query*>& candidates, const std::vector<const Query*>& residents,
                                MonotonicTime now) const;
  bool Forced(const Query& query) const { return query.meta.must_offload || query.meta.uncertainty > tau_; }
  MonotonicTime Patience(const Query& query) const { return query.received + config_->limits.mandatory_wait; }
  MonotonicTime Stopwatch() const { return ports_.stopwatch ? ports_.stopwatch() : MonotonicTime(); }
  MonotonicTime NextEpoch() const;  // when it is due; Infinite() when nobody waits
  void CountDecision(const Query& query, bool offloaded);
  void Offload(Query& query, const sched::Decision& decision, MonotonicTime now);
  void DeclineAndErase(Query& query, sched::Reason reason, MonotonicTime now);
  void Dispatch(Query& query, std::shared_ptr<const PromptBody> prompt, MonotonicTime now);
  sched::SiteIndex OtherSite(const Query& query, MonotonicTime now, double* predicted_compute_s) const;
  void Withdraw(Query& query, MonotonicTime now);  // no more answers wanted; frees or aborts
  void Expire(MonotonicTime now);
  void ReleaseUplink(Query& query);
  void TakeSlot(Query& query, sched::SiteIndex site);
  void GiveSlotBack(const Query& query, sched::SiteIndex site, MonotonicTime now);
  void WakeHeld(MonotonicTime now);  // something changed that may help forced queries that wait

  // Constant after construction.
  const Ports ports_;

  std::shared_ptr<const Config> config_;
  std::unique_ptr<const sched::OffloadPolicy> policy_;
  std::string policy_name_;
  std::atomic<double> tau_{1};  // atomic for tau() only
  bool policy_overridden_ = false, tau_overridden_ = false;
  bool draining_ = false;

  QueryTable queries_;
  LinkTable links_;
  SiteTable sites_;

  TenantTable tenants_;
  uint64_t epoch_ = 0;
  MonotonicTime oldest_fresh_ = MonotonicTime::Infinite();  // arrivals that no epoch has looked at
  MonotonicTime last_arrival_;
  MonotonicTime held_wake_ = MonotonicTime::Infinite();  // an epoch for those held back
  double mean_output_tokens_ = 64;                       // running mean over completed queries
};

}  // namespace goad::server

#endif  // GOAD_SERVER_ENGINE_ENGINE_H_
