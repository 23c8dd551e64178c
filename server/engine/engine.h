// The scheduler's heart: when to decide, and the epoch in which it is done. What is decided is carried out by
// QueryLife. Pure: no thread, no clock, no I/O; time and events are handed in, results leave through the two ports.
#ifndef GOAD_SERVER_ENGINE_ENGINE_H_
#define GOAD_SERVER_ENGINE_ENGINE_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "scheduler/policy.h"
#include "server/engine/ports.h"
#include "server/engine/query_life.h"
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
    std::function<void(OutcomeRecord)> on_outcome;                     // may be empty
  };
  Engine(std::shared_ptr<const Config> config, Ports ports);

  void Handle(Event event, MonotonicTime now);
  // Expires grants and waits, and runs an epoch when one is due.
  void Tick(MonotonicTime now);
  // When Tick must be called next; Infinite() when nothing waits.
  MonotonicTime NextWake() const;
  absl::Duration min_period() const { return config_->epoch.min_period; }  // no new query is decided before it passed

  bool idle() const { return life_.queries().empty(); }
  size_t pending() const { return life_.queries().pending(); }
  std::string Broken() const { return life_.queries().Broken(); }  // for tests: an invariant that does not hold
  const SiteTable& sites() const { return life_.sites(); }
  int SlotsOf(size_t site) const { return sites()[site].EffectiveMax(config_->sites[site]); }  // to be had
  // In force now for a device's queries, on the scale that policies read; any thread may ask. `config`: the one in
  // force.
  double TauOf(const PolicyConfig& config, const LocalModelPtr& model) const {
    return tau_overridden_ ? tau_.load() : config.TauOf(MetricOf(model));
  }

 private:
  void On(SubmitQuery& event, MonotonicTime now);
  void On(Drain& event, MonotonicTime now);
  void On(ApplyConfig& event, MonotonicTime now);
  void On(SetTau& event, MonotonicTime now);
  void On(SetPolicy& event, MonotonicTime now);
  void On(Inspect& event, MonotonicTime now);
  template <typename Other>  // happens to queries, links and sites
  void On(Other& event, MonotonicTime now) {
    WakeHeld(life_.On(event, now), now);
  }
  void UsePolicy();  // on trial, else the operator's, else the configuration's
  void EndTrial();
  MonotonicTime NextEpoch() const;              // when it is due; Infinite() when nobody waits
  void WakeHeld(Wake wake, MonotonicTime now);  // those that an epoch left without an answer

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
  void DeclineOne(Query& query, sched::Reason reason, MonotonicTime now);
  EpochRecord NewRecord(const std::vector<Early>& early) const;
  bool MakeSound(sched::EpochSnapshot* snapshot);  // false: nothing of it can be decided
  void Appraise(Query& query) const;
  void AppraisePending();  // what is in force has changed
  MonotonicTime Patience(const Query& query) const { return query.received + config_->limits.mandatory_wait; }
  MonotonicTime Stopwatch() const { return ports_.stopwatch ? ports_.stopwatch() : MonotonicTime(); }

  // Constant after construction.
  const Ports ports_;

  std::shared_ptr<const Config> config_;
  std::unique_ptr<const sched::OffloadPolicy> policy_;
  std::string policy_name_;
  std::atomic<double> tau_{1};                  // atomic, as tau_overridden_ is, for TauOf only
  std::string policy_override_, policy_trial_;  // empty = none
  MonotonicTime trial_end_ = MonotonicTime::Infinite();
  std::atomic<bool> tau_overridden_{false};
  bool draining_ = false;

  QueryLife life_;
  uint64_t epoch_ = 0;
  MonotonicTime oldest_fresh_ = MonotonicTime::Infinite();  // arrivals that no epoch has looked at
  MonotonicTime last_arrival_;
  MonotonicTime held_wake_ = MonotonicTime::Infinite();  // an epoch for those held back
};

}  // namespace goad::server

#endif  // GOAD_SERVER_ENGINE_ENGINE_H_
