#include "server/engine/engine.h"

#include <algorithm>
#include <unordered_set>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "scheduler/snapshot_check.h"
#include "server/calibration/value.h"
#include "spdlog/spdlog.h"

namespace goad::server {

using sched::Reason;
using sched::Verdict;

namespace {

Asker AskerOf(const Query& query) { return {query.device, query.meta.tenant, query.meta.trace_id()}; }

}  // namespace

Engine::Engine(std::shared_ptr<const Config> config, Ports ports)
    : ports_(std::move(ports)),
      config_(config),
      life_(config, ports_.sink, ports_.dispatch, ports_.metrics, ports_.on_outcome) {
  ApplyConfig apply{std::move(config)};
  On(apply, MonotonicTime());
}

void Engine::Handle(Event event, MonotonicTime now) {
  std::visit([&](auto& e) { On(e, now); }, event);
}

// --- when to decide --------------------------------------------------------------------------------------------------

MonotonicTime Engine::NextEpoch() const {
  if (oldest_fresh_ == MonotonicTime::Infinite()) return held_wake_;
  return std::min({held_wake_, last_arrival_ + config_->epoch.min_period, oldest_fresh_ + config_->epoch.period});
}

MonotonicTime Engine::NextWake() const { return std::min({NextEpoch(), life_.queries().next_expiry(), trial_end_}); }

void Engine::Tick(MonotonicTime now) {
  if (trial_end_ <= now) {
    const std::string tried = policy_name_;
    EndTrial();
    UsePolicy();
    spdlog::info("trial over policy={} was={}", policy_name_, tried);
  }
  WakeHeld(life_.Expire(now), now);
  if (NextEpoch() <= now) RunEpoch(now);
}

void Engine::WakeHeld(Wake wake, MonotonicTime now) {
  switch (wake) {
    case Wake::kNever: return;
    case Wake::kSoon:
      if (pending() > 0) held_wake_ = std::min(held_wake_, now + config_->epoch.min_period);
      return;
    case Wake::kNow: held_wake_ = now;
  }
}

void Engine::On(SubmitQuery& event, MonotonicTime now) {
  Query query;
  query.id = event.id;
  query.session = event.session;
  query.query_id = std::move(event.query_id);
  query.device = std::move(event.device);
  query.meta = std::move(event.meta);
  query.prompt = std::move(event.inline_prompt);
  query.received = event.received;
  query.expected_output_tokens = life_.ExpectedOutputTokens(query.meta, now);
  ports_.metrics->Uncertainty(MetricOf(query.meta.model), query.meta.uncertainty);
  Appraise(query);
  life_.queries().Insert(std::move(query));
  if (draining_) return DeclinePending(now);
  oldest_fresh_ = std::min(oldest_fresh_, event.received);
  last_arrival_ = std::max(last_arrival_, event.received);
}

void Engine::Appraise(Query& query) const {
  query.value = ValueOf(config_->policy.curves.get(), query.meta.model, query.meta.kind, query.meta.uncertainty);
  query.tau = TauOf(config_->policy, query.meta.model);
}

void Engine::AppraisePending() {
  life_.queries().ForEach([&](Query& query) {
    if (query.state == QueryState::kPending) Appraise(query);
  });
}

void Engine::On(Drain&, MonotonicTime now) {
  draining_ = true;
  DeclinePending(now);
  oldest_fresh_ = held_wake_ = MonotonicTime::Infinite();
}

void Engine::On(ApplyConfig& event, MonotonicTime now) {
  config_ = std::move(event.config);
  life_.SetConfig(config_);
  if (!event.keep_overrides) {
    tau_overridden_ = false;
    policy_override_.clear();
    EndTrial();
  }
  UsePolicy();
  if (!tau_overridden_) tau_ = config_->policy.Tau();
  AppraisePending();
  ports_.metrics->Tau(tau_);
  WakeHeld(Wake::kSoon, now);
}

void Engine::On(SetTau& event, MonotonicTime now) {
  spdlog::info("operator set tau={} was={} by={}", event.tau, tau_.load(), event.by);
  tau_ = event.tau;
  tau_overridden_ = true;
  AppraisePending();
  ports_.metrics->Tau(tau_);
  WakeHeld(Wake::kSoon, now);
}

void Engine::On(SetPolicy& event, MonotonicTime now) {
  const std::string before = policy_name_;
  const bool on_trial = !policy_trial_.empty(),
             goes_on = event.trial > absl::ZeroDuration() && event.name == policy_trial_;
  EndTrial();
  if (event.trial > absl::ZeroDuration()) {
    policy_trial_ = event.name;
    if (!event.name.empty()) trial_end_ = now + event.trial;
  } else {
    policy_override_ = event.name;
  }
  UsePolicy();
  if (!goes_on) {  // who compares policies renews a trial every few seconds, and ends one that may be over
    spdlog::info("operator set policy={} was={}{} by={}", policy_name_, before,
                 policy_trial_.empty() ? (on_trial ? " trial=ended" : "")
                                       : absl::StrCat(" trial=", absl::FormatDuration(event.trial)),
                 event.by);
  }
  WakeHeld(Wake::kSoon, now);
}

void Engine::EndTrial() {
  policy_trial_.clear();
  trial_end_ = MonotonicTime::Infinite();
}

void Engine::UsePolicy() {  // names were checked by the configuration or by Admin
  policy_name_ = !policy_trial_.empty()      ? policy_trial_
                 : !policy_override_.empty() ? policy_override_
                                             : config_->policy.name;
  policy_ = *sched::MakePolicy(policy_name_, {.lambda_s = config_->policy.lambda_s});
}

void Engine::On(Inspect& event, MonotonicTime now) {
  EngineStatus status;
  status.policy = policy_name_;
  status.tau = tau_;
  status.policy_overridden = !policy_override_.empty() || !policy_trial_.empty();
  if (!policy_trial_.empty()) status.policy_trial_left_s = std::max(0.0, SecondsBetween(now, trial_end_));
  status.tau_overridden = tau_overridden_;
  status.epochs = epoch_;
  status.draining = draining_;
  status.uplink = life_.median_uplink();
  life_.queries().ForEach([&](const Query& query) {
    switch (query.state) {
      case QueryState::kPending: ++status.pending; break;
      case QueryState::kGranted: ++status.granted; break;
      case QueryState::kRunning:
      case QueryState::kAborting: ++status.running; break;
    }
  });
  for (size_t j = 0; j < sites().size(); ++j) {
    const SiteLoad& site = sites()[j];
    status.sites.push_back({site.backends_up > 0 && !config_->sites[j].presence.leaving(), site.active_queries,
                            site.active_uplinks, site.EffectiveMax(config_->sites[j]),
                            site.service.At(config_->sites[j].compute, now)});
  }
  status.tenants = life_.tenants().Rows();
  event.reply(status);
}

// --- an epoch --------------------------------------------------------------------------------------------------------

void Engine::RunEpoch(MonotonicTime now) {
  const MonotonicTime start = Stopwatch();
  held_wake_ = MonotonicTime::Infinite();
  ++epoch_;
  const Gathered gathered = Gather(now);
  if (gathered.candidates.empty()) return Decline(gathered.early, now);
  const std::shared_ptr<const EpochRecord> record = Decide(gathered, now);
  Record(record);
  Apply(gathered, *record, now);
  const double epoch_s = SecondsBetween(start, Stopwatch());
  ports_.metrics->Epoch(policy_name_, gathered.candidates.size(), record->solver_s, epoch_s);
}

// Who takes part. Where there is a shannon site a device has one radio: a session takes part with one query that still
// has to be uploaded, and with none while an earlier prompt is being uploaded; the others wait for the next epoch. A
// query whose radio stays busy for `period` (a forced one for `mandatory_wait`) is answered UPLINK_BUSY.
Engine::Gathered Engine::Gather(MonotonicTime now) {
  QueryTable& queries = life_.queries();
  Gathered gathered;
  const bool radio = std::any_of(config_->sites.begin(), config_->sites.end(), [](const SiteConfig& site) {
    return site.uplink.model == sched::UplinkModel::kShannon && !site.presence.removed();
  });
  std::unordered_set<SessionId> radio_taken;
  std::vector<QueryId> deferred;
  oldest_fresh_ = MonotonicTime::Infinite();
  for (const QueryId id : queries.TakePending()) {
    Query* query = queries.Find(id);
    if (query == nullptr) continue;  // cancelled
    if (query->deadline() <= now) {
      gathered.early.push_back({query, Reason::kDeadline});
    } else if (!radio || !query->transmits() ||
               (queries.Uploads(query->session) == 0 && radio_taken.insert(query->session).second)) {
      gathered.candidates.push_back(query);
    } else if (const MonotonicTime patience =
                   query->received + (query->forced() ? config_->limits.mandatory_wait : config_->epoch.period);
               patience <= now) {
      gathered.early.push_back({query, Reason::kUplinkBusy});
    } else {
      queries.SetExpiry(*query, patience);
      if (queries.Uploads(query->session) == 0) held_wake_ = std::min(held_wake_, now + config_->epoch.min_period);
      deferred.push_back(id);
    }
  }
  queries.KeepPending(std::move(deferred));
  queries.ForEach([&](const Query& query) {
    if (query.state == QueryState::kGranted || query.state == QueryState::kRunning)
      gathered.residents.push_back(&query);
  });
  std::sort(gathered.residents.begin(), gathered.residents.end(),
            [](const Query* a, const Query* b) { return a->id < b->id; });
  return gathered;
}

// What the policy makes of them. Forced queries that it has to leave local are held, as long as their patience lasts.
std::shared_ptr<const EpochRecord> Engine::Decide(const Gathered& gathered, MonotonicTime now) {
  auto record = std::make_shared<EpochRecord>(NewRecord(gathered.early));
  const std::vector<const Query*> candidates(gathered.candidates.begin(), gathered.candidates.end());
  record->snapshot = life_.Snapshot(candidates, gathered.residents, tau_, epoch_, now);
  life_.tenants().Cap(candidates, &record->snapshot);
  const UplinkTimes& uplink = life_.median_uplink();
  ports_.metrics->Uplink(uplink.samples, uplink.round_trip_s, uplink.uplink_bps);
  for (size_t j = 0; j < sites().size(); ++j) {
    record->service_samples.push_back(sites()[j].service.At(config_->sites[j].compute, now).samples);
    const sched::SiteState& site = record->snapshot.sites[j];
    if (site.compute == sched::ComputeModel::kBatching) {
      ports_.metrics->ServiceTimes(sched::ToSite(j), site, record->service_samples[j]);
    }
  }
  if (MakeSound(&record->snapshot)) {
    const MonotonicTime solve = Stopwatch();
    record->result = policy_->Decide(record->snapshot);
    record->solver_s = SecondsBetween(solve, Stopwatch());
  } else {
    record->result.decisions.resize(candidates.size());  // nobody is left without an answer
  }
  const bool forced_go = policy_->guarantees().forced_offloaded;  // else one that is left local is meant to be
  for (size_t i = 0; i < candidates.size(); ++i) {
    record->query_ids.push_back(candidates[i]->query_id);
    record->askers.push_back(AskerOf(*candidates[i]));
    record->models.push_back(candidates[i]->meta.model);
    record->uncertainties.push_back(candidates[i]->meta.uncertainty);
    Reason& reason = record->result.decisions[i].reason;
    if (reason == Reason::kNotAble) reason = life_.WhyNotAble(*candidates[i]);
    record->held.push_back(forced_go && record->snapshot.Forced(i) &&
                           record->result.decisions[i].verdict == Verdict::kLocal && now < Patience(*candidates[i]));
  }
  return record;
}

// A number that cannot be is a programming error: each was checked where it came in. It costs the candidate or the site
// that has it, not everybody.
bool Engine::MakeSound(sched::EpochSnapshot* snapshot) {
  sched::SnapshotFault fault;
  absl::Status first;
  constexpr size_t kMostFaults = 100;  // more are no accident, and looking for each costs as much as for the first
  size_t faults = 0;
  bool sound = true;
  for (absl::Status status; sound && !(status = sched::CheckSnapshot(*snapshot, &fault)).ok();) {
    ports_.metrics->SnapshotFault(fault.part);
    if (++faults == 1) first = status;
    sound = faults < kMostFaults && sched::TakeOut(fault, snapshot);
  }
  if (faults == 0) return true;
  spdlog::error("epoch={} snapshot fault: {}; {} parts of it are left out{}", epoch_, std::string(first.message()),
                faults, sound ? "" : ", and all of its queries are local");
  return sound;
}

// Before anybody is told, so that what a device has heard can be explained at once.
void Engine::Record(std::shared_ptr<const EpochRecord> record) {
  if (ports_.on_epoch) ports_.on_epoch(std::move(record));
}

void Engine::Apply(const Gathered& gathered, const EpochRecord& record, MonotonicTime now) {
  for (const auto& [query, reason] : gathered.early) DeclineOne(*query, reason, now);
  std::vector<QueryId> held;
  for (size_t i = 0; i < gathered.candidates.size(); ++i) {
    Query& query = *gathered.candidates[i];
    const sched::Decision& decision = record.result.decisions[i];
    if (record.held[i]) {
      life_.queries().SetExpiry(query, Patience(query));
      held.push_back(query.id);
      ports_.sink->StillWaits(query.session);
    } else if (decision.verdict == Verdict::kOffload) {
      life_.Offload(query, decision, epoch_, now);
    } else {
      DeclineOne(query, decision.reason, now);
    }
  }
  life_.queries().KeepPending(std::move(held));
}

void Engine::DeclineOne(Query& query, Reason reason, MonotonicTime now) {
  if (query.forced() && reason != Reason::kDraining) ports_.metrics->TauInfeasible();
  life_.Decline(query, reason, epoch_, now);
}

// Without asking the policy, and without an epoch: on record and told like all others.
void Engine::Decline(const std::vector<Early>& early, MonotonicTime now) {
  if (early.empty()) return;
  auto record = std::make_shared<EpochRecord>(NewRecord(early));
  record->snapshot.epoch = epoch_;
  record->snapshot.tau = tau_;
  Record(std::move(record));
  for (const auto& [query, reason] : early) DeclineOne(*query, reason, now);
}

void Engine::DeclinePending(MonotonicTime now) {
  std::vector<Early> early;
  for (const QueryId id : life_.queries().TakePending()) {
    if (Query* query = life_.queries().Find(id)) early.push_back({query, Reason::kDraining});
  }
  Decline(early, now);
}

EpochRecord Engine::NewRecord(const std::vector<Early>& early) const {
  EpochRecord record;
  record.config = config_;
  record.policy = policy_name_;
  record.chosen_in_order = policy_->guarantees().chosen_in_order;
  record.lambda_s = config_->policy.lambda_s;
  for (const auto& [query, reason] : early) {
    record.early.push_back({query->query_id, reason, query->meta.uncertainty, query->value, query->tau,
                            query->meta.local_delay_s, query->meta.model, AskerOf(*query)});
  }
  return record;
}

}  // namespace goad::server
