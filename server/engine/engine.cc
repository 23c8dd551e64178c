#include "server/engine/engine.h"

#include <algorithm>
#include <unordered_set>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "scheduler/load_state.h"
#include "scheduler/snapshot_check.h"
#include "server/base/jitter.h"
#include "server/engine/snapshot_builder.h"
#include "spdlog/spdlog.h"

namespace goad::server {
namespace {

using sched::Reason;
using sched::SiteIndex;
using sched::Verdict;

}  // namespace

Engine::Engine(std::shared_ptr<const Config> config, Ports ports) : ports_(std::move(ports)), config_(config) {
  ApplyConfig apply{std::move(config)};
  On(apply, MonotonicTime());
}

void Engine::Handle(Event event, MonotonicTime now) {
  std::visit([&](auto& e) { On(e, now); }, event);
}

MonotonicTime Engine::NextEpoch() const {
  if (oldest_fresh_ == MonotonicTime::Infinite()) return held_wake_;
  return std::min({held_wake_, last_arrival_ + config_->epoch.min_period, oldest_fresh_ + config_->epoch.period});
}

MonotonicTime Engine::NextWake() const { return std::min(NextEpoch(), queries_.next_expiry()); }

void Engine::Tick(MonotonicTime now) {
  Expire(now);
  if (NextEpoch() <= now) RunEpoch(now);
}

// --- events
// --------------------------------------------------------------------------------------------------------------

void Engine::On(SubmitQuery& event, MonotonicTime now) {
  Query query;
  query.id = event.id;
  query.session = event.session;
  query.query_id = std::move(event.query_id);
  query.meta = std::move(event.meta);
  query.prompt = std::move(event.inline_prompt);
  query.received = event.received;
  ports_.metrics->Uncertainty(query.meta.uncertainty);
  queries_.Insert(std::move(query));
  if (draining_) return DeclinePending(now);
  oldest_fresh_ = std::min(oldest_fresh_, event.received);
  last_arrival_ = std::max(last_arrival_, event.received);
}

void Engine::On(LinkUpdate& event, MonotonicTime now) {
  for (const LinkMeasurement& link : event.links) ports_.metrics->LinkReportAge(SecondsBetween(link.measured_at, now));
  links_.Update(event);
  if (queries_.HasSession(event.session)) WakeHeld(now);
}

void Engine::On(PromptReady& event, MonotonicTime now) {
  Query* query = queries_.Find(event.id);
  if (query == nullptr || query->state != QueryState::kGranted) return;  // expired or cancelled meanwhile
  if (query->expires <= now) return Expire(now);                         // too late, though not yet told
  ReleaseUplink(*query);
  ports_.metrics->Upload(SecondsBetween(query->decided, now), query->predicted_upload_s);
  Dispatch(*query, std::move(event.prompt), now);
  WakeHeld(now);
}

void Engine::On(CancelQuery& event, MonotonicTime now) {
  Query* query = queries_.Find(event.id);
  if (query == nullptr || query->state == QueryState::kAborting) return;
  if (!event.answered) ports_.sink->Deliver(query->session, CancelledEvent{query->id});
  Withdraw(*query, now);
}

void Engine::On(SessionClosed& event, MonotonicTime now) {
  links_.Erase(event.session);
  for (const QueryId id : queries_.OfSession(event.session)) Withdraw(*queries_.Find(id), now);
}

void Engine::On(QueryDone& event, MonotonicTime now) {
  Query* query = queries_.Find(event.id);
  if (query == nullptr) return;
  if (event.outcome == DispatchOutcome::kCompleted) {
    // Whatever a backend claims: no more than was asked for, so that no single answer decides what all others are
    // thought to take.
    const int output_tokens = std::clamp(event.output_tokens, 0, std::max(query->meta.max_output_tokens, 0));
    mean_output_tokens_ += (output_tokens - mean_output_tokens_) / 64;
  }
  GiveSlotBack(*query, query->site, now);
  queries_.Erase(*query);
}

// The new site's slot is taken before the old one's is given back, so that nobody gets between.
void Engine::On(QueryReturned& event, MonotonicTime now) {
  Query* query = queries_.Find(event.request.id);
  if (query == nullptr) return;
  query->failed_sites |= uint64_t{1} << sched::ToIndex(query->site);
  double predicted_compute_s = 0;
  const SiteIndex other =
      query->state == QueryState::kRunning ? OtherSite(*query, now, &predicted_compute_s) : SiteIndex::kNone;
  if (other == SiteIndex::kNone) {
    if (query->state == QueryState::kRunning) {
      ports_.sink->Deliver(query->session, FailedEvent{query->id, std::move(event.error)});
    }
    GiveSlotBack(*query, query->site, now);
    return queries_.Erase(*query);
  }
  const SiteIndex failed = query->site;
  TakeSlot(*query, other);
  GiveSlotBack(*query, failed, now);
  ports_.metrics->BackendFailover();
  event.request.site = other;
  query->dispatched = now;
  query->predicted_compute_s = event.request.predicted_compute_s = predicted_compute_s;
  ports_.dispatch->Start(std::move(event.request));
}

// Of the sites that have not failed the query, have a free slot and are predicted to meet its deadline, the fastest;
// its prompt is here, so no link matters.
SiteIndex Engine::OtherSite(const Query& query, MonotonicTime now, double* predicted_compute_s) const {
  if (query.deadline() <= now) return SiteIndex::kNone;
  Query uploaded = query;
  uploaded.meta.prompt_bits = 0;
  const sched::EpochSnapshot snapshot = Snapshot({&uploaded}, {}, now);
  const sched::LoadState state(snapshot);
  SiteIndex best = SiteIndex::kNone;
  for (size_t j = 0; j < sites_.size(); ++j) {
    if ((query.failed_sites >> j & 1) != 0) continue;
    const sched::LoadState::PairCost cost = state.Evaluate(0, j);
    if (cost.eligibility != sched::Eligibility::kEligible) continue;
    if (best != SiteIndex::kNone && cost.compute_s >= *predicted_compute_s) continue;
    best = sched::ToSite(j);
    *predicted_compute_s = cost.compute_s;
  }
  return best;
}

void Engine::On(SiteHealth& event, MonotonicTime now) {
  SiteLoad& site = sites_[sched::ToIndex(event.site)];
  site.backends_up = event.backends_up;
  site.backends_draining = event.draining;
  site.slots = event.slots;
  WakeHeld(now);
}

void Engine::On(Drain&, MonotonicTime now) {
  draining_ = true;
  DeclinePending(now);
  oldest_fresh_ = held_wake_ = MonotonicTime::Infinite();
}

void Engine::On(DrainExpired&, MonotonicTime now) {
  std::vector<QueryId> ids;
  queries_.ForEach([&](const Query& query) {
    if (query.state != QueryState::kAborting) ids.push_back(query.id);
  });
  for (const QueryId id : ids) {
    Query& query = *queries_.Find(id);
    ports_.sink->Deliver(query.session,
                         FailedEvent{id, MakeError(ErrorCode::kUnavailable, Refusal::kDraining, "",
                                                   absl::StrCat("not finished within drain_timeout (",
                                                                absl::FormatDuration(config_->drain_timeout), ")"))});
    Withdraw(query, now);
  }
}

void Engine::On(ApplyConfig& event, MonotonicTime now) {
  const std::shared_ptr<const Config> before = std::exchange(config_, std::move(event.config));
  sites_.resize(config_->sites.size());
  for (size_t j = 0; j < before->sites.size(); ++j) {
    if (before->sites[j].name == config_->sites[j].name) continue;  // else the place is another's: nothing runs there
    sites_[j] = SiteLoad();
    links_.EraseSite(j);
    queries_.ForEach([&](Query& query) { query.failed_sites &= ~(uint64_t{1} << j); });
  }
  tenants_.SetConfig(config_->tenants);
  if (!event.keep_overrides) policy_overridden_ = tau_overridden_ = false;
  if (!policy_overridden_) UsePolicy(config_->policy.name);  // validated by the config room
  if (!tau_overridden_) tau_ = config_->policy.tau;
  ports_.metrics->Tau(tau_);
  WakeHeld(now);
}

void Engine::UsePolicy(const std::string& name) {
  policy_name_ = name;
  policy_ = *sched::MakePolicy(name, {.lambda_s = config_->policy.lambda_s});
}

void Engine::On(SetTau& event, MonotonicTime now) {
  tau_ = event.tau;
  tau_overridden_ = true;
  ports_.metrics->Tau(tau_);
  WakeHeld(now);
}

void Engine::On(SetPolicy& event, MonotonicTime now) {
  UsePolicy(event.name);  // checked by Admin
  policy_overridden_ = true;
  WakeHeld(now);
}

// --- epochs
// --------------------------------------------------------------------------------------------------------------

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

// Who takes part. One radio per device: a session takes part with one query that still has to be uploaded, and with
// none while an earlier prompt is being uploaded; the others wait for the next epoch. A query whose radio stays busy
// for `period` (a forced one for `mandatory_wait`) is answered UPLINK_BUSY.
Engine::Gathered Engine::Gather(MonotonicTime now) {
  Gathered gathered;
  std::unordered_set<SessionId> radio_taken;
  std::vector<QueryId> deferred;
  oldest_fresh_ = MonotonicTime::Infinite();
  for (const QueryId id : queries_.TakePending()) {
    Query* query = queries_.Find(id);
    if (query == nullptr) continue;  // cancelled
    if (query->deadline() <= now) {
      gathered.early.push_back({query, Reason::kDeadline});
    } else if (!query->transmits() ||
               (!queries_.IsUploading(query->session) && radio_taken.insert(query->session).second)) {
      gathered.candidates.push_back(query);
    } else if (const MonotonicTime patience =
                   query->received + (Forced(*query) ? config_->limits.mandatory_wait : config_->epoch.period);
               patience <= now) {
      gathered.early.push_back({query, Reason::kUplinkBusy});
    } else {
      queries_.SetExpiry(*query, patience);
      if (!queries_.IsUploading(query->session)) held_wake_ = std::min(held_wake_, now + config_->epoch.min_period);
      deferred.push_back(id);
    }
  }
  queries_.KeepPending(std::move(deferred));
  queries_.ForEach([&](const Query& query) {
    if (query.state == QueryState::kGranted || query.state == QueryState::kRunning)
      gathered.residents.push_back(&query);
  });
  std::sort(gathered.residents.begin(), gathered.residents.end(),
            [](const Query* a, const Query* b) { return a->id < b->id; });
  return gathered;
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

// What the policy makes of them. Forced queries that it has to leave local are held, as long as their patience lasts.
std::shared_ptr<const EpochRecord> Engine::Decide(const Gathered& gathered, MonotonicTime now) {
  auto record = std::make_shared<EpochRecord>(NewRecord(gathered.early));
  const std::vector<const Query*> candidates(gathered.candidates.begin(), gathered.candidates.end());
  record->snapshot = Snapshot(candidates, gathered.residents, now);
  tenants_.Cap(candidates, &record->snapshot);
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
    record->held.push_back(forced_go && record->snapshot.Forced(i) &&
                           record->result.decisions[i].verdict == Verdict::kLocal && now < Patience(*candidates[i]));
  }
  return record;
}

// Before anybody is told, so that what a device has heard can be explained at once.
void Engine::Record(std::shared_ptr<const EpochRecord> record) {
  if (ports_.on_epoch) ports_.on_epoch(std::move(record));
}

void Engine::Apply(const Gathered& gathered, const EpochRecord& record, MonotonicTime now) {
  for (const auto& [query, reason] : gathered.early) DeclineAndErase(*query, reason, now);
  std::vector<QueryId> held;
  for (size_t i = 0; i < gathered.candidates.size(); ++i) {
    Query& query = *gathered.candidates[i];
    const sched::Decision& decision = record.result.decisions[i];
    if (record.held[i]) {
      queries_.SetExpiry(query, Patience(query));
      held.push_back(query.id);
    } else if (decision.verdict == Verdict::kOffload) {
      Offload(query, decision, now);
    } else {
      DeclineAndErase(query, decision.reason, now);
    }
  }
  queries_.KeepPending(std::move(held));
}

sched::EpochSnapshot Engine::Snapshot(const std::vector<const Query*>& candidates,
                                      const std::vector<const Query*>& residents, MonotonicTime now) const {
  return BuildSnapshot({.config = *config_,
                        .tau = tau_,
                        .epoch = epoch_,
                        .expected_output_tokens = mean_output_tokens_,
                        .sites = sites_,
                        .links = links_,
                        .candidates = candidates,
                        .residents = residents},
                       now);
}

void Engine::CountDecision(const Query& query, bool offloaded) {
  tenants_.Decided(query.meta.tenant, offloaded);
  ports_.metrics->TenantDecision(query.meta.tenant, query.meta.uncertainty, offloaded);
}

void Engine::Offload(Query& query, const sched::Decision& decision, MonotonicTime now) {
  query.decided = now;
  query.predicted_upload_s = decision.predicted_upload_s;
  query.predicted_compute_s = decision.predicted_compute_s;
  TakeSlot(query, decision.site);
  CountDecision(query, true);
  DecisionEvent event;
  event.id = query.id;
  event.epoch = epoch_;
  event.verdict = Verdict::kOffload;
  event.reason = decision.reason;
  event.site = decision.site;
  event.predicted_upload_s = decision.predicted_upload_s;
  event.predicted_compute_s = decision.predicted_compute_s;
  event.predicted_local_s = query.meta.local_delay_s;
  ports_.metrics->QueueWait(SecondsBetween(query.received, now));
  if (query.prompt != nullptr) {
    ports_.sink->Deliver(query.session, std::move(event));
    return Dispatch(query, std::move(query.prompt), now);
  }
  query.state = QueryState::kGranted;
  if (query.transmits()) {
    ++sites_[sched::ToIndex(query.site)].active_uplinks;
    queries_.BeginUpload(query.session);
  }
  const MonotonicTime until = std::min(now + config_->limits.grant, query.deadline());
  queries_.SetExpiry(query, until);
  event.upload_within_s = SecondsBetween(now, until);
  ports_.sink->Deliver(query.session, std::move(event));
}

void Engine::DeclineAndErase(Query& query, Reason reason, MonotonicTime now) {
  DecisionEvent event;
  event.id = query.id;
  event.epoch = epoch_;
  event.reason = reason;
  event.predicted_local_s = query.meta.local_delay_s;
  if (reason == Reason::kDraining || reason == Reason::kQuota) {  // refused for now: it may be asked again
    event.retry_after_s = RetryHint(config_->limits.retry_after, static_cast<uint64_t>(query.id));
  }
  ports_.metrics->QueueWait(SecondsBetween(query.received, now));
  CountDecision(query, false);
  if (Forced(query) && reason != Reason::kDraining) ports_.metrics->TauInfeasible();
  if (reason == Reason::kLinkStale) ports_.metrics->StaleLink();
  ports_.sink->Deliver(query.session, event);
  queries_.Erase(query);
}

// Without asking the policy, and without an epoch: on record and told like all others.
void Engine::Decline(const std::vector<Early>& early, MonotonicTime now) {
  if (early.empty()) return;
  auto record = std::make_shared<EpochRecord>(NewRecord(early));
  record->snapshot.epoch = epoch_;
  record->snapshot.tau = tau_;
  Record(std::move(record));
  for (const auto& [query, reason] : early) DeclineAndErase(*query, reason, now);
}

void Engine::DeclinePending(MonotonicTime now) {
  std::vector<Early> early;
  for (const QueryId id : queries_.TakePending()) {
    if (Query* query = queries_.Find(id)) early.push_back({query, Reason::kDraining});
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
    record.early.push_back({query->query_id, reason, query->meta.uncertainty, query->meta.local_delay_s});
  }
  return record;
}

void Engine::Dispatch(Query& query, std::shared_ptr<const PromptBody> prompt, MonotonicTime now) {
  query.state = QueryState::kRunning;
  query.dispatched = now;
  queries_.SetExpiry(query, MonotonicTime::Infinite());
  DispatchRequest request;
  request.id = query.id;
  request.session = query.session;
  request.site = query.site;
  request.prompt = std::move(prompt);
  request.max_output_tokens = query.meta.max_output_tokens;
  request.traceparent = query.meta.traceparent;
  request.received = query.received;
  request.prompt_ready = now;
  request.deadline = query.deadline();
  request.upload_s = SecondsBetween(query.decided, now);
  request.predicted_upload_s = query.predicted_upload_s;
  request.predicted_compute_s = query.predicted_compute_s;
  ports_.dispatch->Start(std::move(request));
}

// --- leaving
// -------------------------------------------------------------------------------------------------------------

void Engine::Withdraw(Query& query, MonotonicTime now) {
  switch (query.state) {
    case QueryState::kPending: return queries_.Erase(query);
    case QueryState::kGranted:
      ReleaseUplink(query);
      GiveSlotBack(query, query.site, now);
      return queries_.Erase(query);
    case QueryState::kRunning:
      query.state = QueryState::kAborting;  // the slot is free when the backend has let go
      return ports_.dispatch->Abort(query.id);
    case QueryState::kAborting: return;
  }
}

void Engine::Expire(MonotonicTime now) {
  while (Query* query = queries_.TakeExpired(now)) {
    if (query->state == QueryState::kPending) {
      held_wake_ = now;  // the epoch that follows at once gives it its answer
    } else {
      const bool deadline = query->deadline() <= now;
      ports_.sink->Deliver(
          query->session,
          FailedEvent{query->id,
                      MakeError(deadline ? ErrorCode::kDeadlineExceeded : ErrorCode::kGrantExpired,
                                deadline ? "DEADLINE" : "GRANT_EXPIRED", "",
                                absl::StrCat("the prompt did not arrive within ",
                                             absl::FormatDuration(now - query->decided), " of the decision"))});
      Withdraw(*query, now);
    }
  }
}

void Engine::ReleaseUplink(Query& query) {
  if (!query.transmits()) return;
  --sites_[sched::ToIndex(query.site)].active_uplinks;
  queries_.EndUpload(query.session);
}

void Engine::TakeSlot(Query& query, SiteIndex site) {
  query.site = site;
  ++sites_[sched::ToIndex(site)].active_queries;
  tenants_.TakeSlot(query.meta.tenant);
}

void Engine::GiveSlotBack(const Query& query, SiteIndex site, MonotonicTime now) {
  --sites_[sched::ToIndex(site)].active_queries;
  tenants_.ReleaseSlot(query.meta.tenant);
  WakeHeld(now);
}

void Engine::WakeHeld(MonotonicTime now) {
  if (queries_.pending() > 0) held_wake_ = std::min(held_wake_, now + config_->epoch.min_period);
}

void Engine::On(Inspect& event, MonotonicTime) {
  EngineStatus status;
  status.policy = policy_name_;
  status.tau = tau_;
  status.policy_overridden = policy_overridden_;
  status.tau_overridden = tau_overridden_;
  status.epochs = epoch_;
  status.draining = draining_;
  queries_.ForEach([&](const Query& query) {
    switch (query.state) {
      case QueryState::kPending: ++status.pending; break;
      case QueryState::kGranted: ++status.granted; break;
      case QueryState::kRunning:
      case QueryState::kAborting: ++status.running; break;
    }
  });
  for (size_t j = 0; j < sites_.size(); ++j) {
    status.sites.push_back({sites_[j].backends_up > 0 && !config_->sites[j].presence.leaving(),
                            sites_[j].active_queries, sites_[j].active_uplinks,
                            sites_[j].EffectiveMax(config_->sites[j])});
  }
  event.reply(status);
}

}  // namespace goad::server
