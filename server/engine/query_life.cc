#include "server/engine/query_life.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/load_state.h"
#include "server/base/jitter.h"
#include "server/engine/outcome.h"
#include "server/engine/snapshot_builder.h"
#include "server/telemetry/promise_watch.h"

namespace goad::server {

using sched::Reason;
using sched::SiteIndex;
using sched::Verdict;

QueryLife::QueryLife(std::shared_ptr<const Config> config, SessionSink* sink, DispatchPort* dispatch, Metrics* metrics,
                     std::function<void(OutcomeRecord)> on_outcome)
    : sink_(sink), dispatch_(dispatch), metrics_(metrics), on_outcome_(std::move(on_outcome)), config_(config) {
  SetConfig(std::move(config));
}

void QueryLife::SetConfig(std::shared_ptr<const Config> config) {
  const std::shared_ptr<const Config> before = std::exchange(config_, std::move(config));
  sites_.resize(config_->sites.size());
  for (size_t j = 0; j < before->sites.size(); ++j) {
    if (BeginsAnew(before->sites[j], config_->sites[j])) {
      sites_[j].service = {};
      queries_.ForEach([&](Query& query) { query.teaches &= query.site != sched::ToSite(j); });
    }
    if (before->sites[j].name == config_->sites[j].name) continue;  // else the place is another's: nothing runs there
    sites_[j] = SiteLoad();
    links_.EraseSite(j);
    queries_.ForEach([&](Query& query) { query.failed_sites &= ~(uint64_t{1} << j); });
  }
  tenants_.SetConfig(config_->tenants);
}

sched::EpochSnapshot QueryLife::Snapshot(const std::vector<const Query*>& candidates,
                                         const std::vector<const Query*>& residents, double tau, uint64_t epoch,
                                         MonotonicTime now) {
  uplinks_.Refresh(now);
  return BuildSnapshot({.config = *config_,
                        .tau = tau,
                        .epoch = epoch,
                        .sites = sites_,
                        .links = links_,
                        .uplinks = uplinks_,
                        .candidates = candidates,
                        .residents = residents},
                       now);
}

// --- decided ---------------------------------------------------------------------------------------------------------

void QueryLife::Offload(Query& query, const sched::Decision& decision, uint64_t epoch, MonotonicTime now) {
  query.decided = now;
  query.predicted_upload_s = decision.predicted_upload_s;
  query.predicted_compute_s = decision.predicted_compute_s;
  TakeSlot(query, decision.site, now);
  CountDecision(query, true);
  DecisionEvent event;
  event.id = query.id;
  event.epoch = epoch;
  event.verdict = Verdict::kOffload;
  event.reason = decision.reason;
  event.site = decision.site;
  event.predicted_upload_s = decision.predicted_upload_s;
  event.predicted_compute_s = decision.predicted_compute_s;
  event.predicted_local_s = query.meta.local_delay_s;
  event.queue_s = SecondsBetween(query.received, now);
  metrics_->QueueWait(event.queue_s);
  if (query.prompt != nullptr) {
    sink_->Deliver(query.session, std::move(event));
    return Dispatch(query, std::move(query.prompt), now);
  }
  query.state = QueryState::kGranted;
  if (query.transmits()) {
    SiteLoad& site = sites_[sched::ToIndex(query.site)];  // counted up to now with the slot
    query.uplinks_before_s = site.uplinks_s;
    ++site.active_uplinks;
    queries_.BeginUpload(query.session);
  }
  const MonotonicTime until = std::min(now + config_->limits.grant, query.deadline());
  queries_.SetExpiry(query, until);
  event.upload_within_s = SecondsBetween(now, until);
  sink_->Deliver(query.session, std::move(event));
}

void QueryLife::Decline(Query& query, Reason reason, uint64_t epoch, MonotonicTime now) {
  DecisionEvent event;
  event.id = query.id;
  event.epoch = epoch;
  event.reason = reason;
  event.predicted_local_s = query.meta.local_delay_s;
  event.queue_s = SecondsBetween(query.received, now);
  if (reason == Reason::kDraining || reason == Reason::kQuota) {  // refused for now: it may be asked again
    event.retry_after_s = RetryHint(config_->limits.retry_after, static_cast<uint64_t>(query.id));
  }
  metrics_->QueueWait(event.queue_s);
  CountDecision(query, false);
  if (reason == Reason::kLinkStale) metrics_->StaleLink();
  if (reason == Reason::kQuota) metrics_->TenantRefused(query.meta.tenant, tenants_.Refused(query.meta.tenant));
  if (reason == Reason::kNotAble && query.meta.must_offload) {  // its device has nobody else to ask: what is missing?
    metrics_->Decision(event.verdict, event.reason, event.site);
    FailedEvent failed{query.id, MakeError(ErrorCode::kFailedPrecondition, "NOT_ABLE", "query", Missing(query))};
    failed.answer_locally = false;
    sink_->Deliver(query.session, std::move(failed));
  } else {
    sink_->Deliver(query.session, event);
  }
  queries_.Erase(query);
}

Reason QueryLife::WhyNotAble(const Query& query) const {
  const auto can = [&](const sched::Contexts& contexts) {
    return contexts[query.meta.needs.Set()] >= query.meta.needs.context_tokens;
  };
  Reason why = Reason::kNotAble;
  for (size_t j = 0; j < sites_.size(); ++j) {
    const Presence& presence = config_->sites[j].presence;
    if (presence.removed() || !can(sites_[j].all_contexts)) continue;
    if (presence.drained || can(sites_[j].drained_contexts)) return Reason::kSiteDraining;
    why = Reason::kNoSite;
  }
  return why;
}

// Of what the query needs: what no site that is up can, or that none can all of it.
std::string QueryLife::Missing(const Query& query) const {
  const sched::Needs& needs = query.meta.needs;
  sched::Needs missing;
  int longest = 0;
  const auto none = [&](size_t set) {
    return std::none_of(sites_.begin(), sites_.end(), [&](const SiteLoad& site) {
      return site.backends_up > 0 && site.contexts[set] != sched::kCannot;
    });
  };
  const auto alone = [](bool chat, bool tools, bool images) { return sched::Needs{chat, tools, images, 0}.Set(); };
  missing.chat = needs.chat && none(alone(true, false, false));
  missing.tools = needs.tools && none(alone(needs.chat, true, false));
  missing.images = needs.images && none(alone(needs.chat, false, true));
  for (const SiteLoad& site : sites_) {
    if (site.backends_up > 0) longest = std::max(longest, site.contexts[alone(needs.chat, false, false)]);
  }
  if (needs.context_tokens > longest) missing.context_tokens = needs.context_tokens;
  if (missing.Set() == 0 && missing.context_tokens == 0) {
    return absl::StrCat("needs ", ToString(needs), ", and no server of a site that is up can all of it");
  }
  return absl::StrCat("needs ", ToString(missing), ", which no server of a site that is up can",
                      missing.context_tokens > 0 ? absl::StrCat(" (the longest context is ", longest, ")") : "");
}

void QueryLife::CountDecision(const Query& query, bool offloaded) {
  tenants_.Decided(query.meta.tenant, offloaded);
  metrics_->TenantDecision(query.meta.tenant, query.meta.uncertainty, offloaded);
  metrics_->promise().Decided(query.forced(), offloaded);
}

// --- at a site -------------------------------------------------------------------------------------------------------

Wake QueryLife::On(PromptReady& event, MonotonicTime now) {
  Query* query = queries_.Find(event.id);
  if (query == nullptr || query->state != QueryState::kGranted) return Wake::kNever;  // expired or cancelled meanwhile
  if (query->expires <= now) return Expire(now);                                      // too late, though not yet told
  LearnUplink(*query, now);
  ReleaseUplink(*query, now);
  metrics_->Upload(query->site, SecondsBetween(query->decided, now), query->predicted_upload_s);
  Dispatch(*query, std::move(event.prompt), now);
  return Wake::kSoon;
}

// The device's own word of what its upload took is from before its prompt was through, and no sample.
void QueryLife::LearnUplink(Query& query, MonotonicTime now) {
  const size_t j = sched::ToIndex(query.site);
  const UplinkConfig& uplink = config_->sites[j].uplink;
  const double seconds = SecondsBetween(query.decided, now);
  if (query.transmits()) query.upload_s = seconds;
  if (!query.transmits() || uplink.model != sched::UplinkModel::kMeasured || seconds <= 0) return;
  SiteLoad& site = sites_[j];
  site.CountLoad(now);
  query.sharers =
      uplink.shared ? (site.uplinks_s - query.uplinks_before_s) / seconds : queries_.Uploads(query.session);  // its own
  uplinks_.Add(query.device, query.meta.prompt_bits, *query.sharers, seconds, now);
}

void QueryLife::Dispatch(Query& query, std::shared_ptr<const PromptBody> prompt, MonotonicTime now) {
  query.state = QueryState::kRunning;
  query.dispatched = now;
  query.meta.needs.Add(prompt->needs());  // an older client does not say
  SiteLoad& site = sites_[sched::ToIndex(query.site)];
  site.CountLoad(now);
  query.load_before_s = site.load_s;
  queries_.SetExpiry(query, MonotonicTime::Infinite());
  DispatchRequest request;
  request.id = query.id;
  request.session = query.session;
  request.site = query.site;
  request.prompt = std::move(prompt);
  request.needs = query.meta.needs;
  request.max_output_tokens = query.meta.max_output_tokens;
  request.traceparent = query.meta.traceparent;
  request.received = query.received;
  request.prompt_ready = now;
  request.deadline = query.deadline();
  request.upload_s = SecondsBetween(query.decided, now);
  request.predicted_upload_s = query.predicted_upload_s;
  request.predicted_compute_s = query.predicted_compute_s;
  dispatch_->Start(std::move(request));
}

// The new site's slot is taken before the old one's is given back, so that nobody gets between.
Wake QueryLife::On(QueryReturned& event, MonotonicTime now) {
  Query* query = queries_.Find(event.request.id);
  if (query == nullptr) return Wake::kNever;
  query->failed_sites |= uint64_t{1} << sched::ToIndex(query->site);
  const std::optional<Placement> other = query->state == QueryState::kRunning ? OtherSite(*query, now) : std::nullopt;
  if (!other) {
    if (query->state == QueryState::kRunning) {
      sink_->Deliver(query->session, FailedEvent{query->id, std::move(event.error)});
    }
    Leave(*query, query->ending, nullptr, now);
    return Wake::kSoon;
  }
  const SiteIndex failed = query->site;
  TakeSlot(*query, other->site, now);
  GiveSlotBack(*query, failed, now);
  metrics_->BackendFailover();
  event.request.site = other->site;
  query->dispatched = now;
  query->load_before_s = sites_[sched::ToIndex(query->site)].load_s;
  query->predicted_compute_s = event.request.predicted_compute_s = other->compute_s;
  dispatch_->Start(std::move(event.request));
  return Wake::kSoon;
}

// Of the sites that have not failed the query, have a free slot and are predicted to meet its deadline, the fastest;
// its prompt is here, so no link matters.
std::optional<QueryLife::Placement> QueryLife::OtherSite(const Query& query, MonotonicTime now) {
  if (query.deadline() <= now) return std::nullopt;
  Query uploaded = query;
  uploaded.meta.prompt_bits = 0;
  constexpr double kNoTau = 1;  // and no epoch: what a pair costs depends on neither
  const sched::EpochSnapshot snapshot = Snapshot({&uploaded}, {}, kNoTau, 0, now);
  const sched::LoadState state(snapshot);
  std::optional<Placement> best;
  for (size_t j = 0; j < sites_.size(); ++j) {
    if ((query.failed_sites >> j & 1) != 0) continue;
    const sched::LoadState::PairCost cost = state.Evaluate(0, j);
    if (cost.eligibility != sched::Eligibility::kEligible) continue;
    if (!best || cost.compute_s < best->compute_s) best = {sched::ToSite(j), cost.compute_s};
  }
  return best;
}

Wake QueryLife::On(LinkUpdate& event, MonotonicTime now) {
  for (const LinkMeasurement& link : event.links) metrics_->LinkReportAge(SecondsBetween(link.measured_at, now));
  links_.Update(event);
  return queries_.HasSession(event.session) ? Wake::kSoon : Wake::kNever;
}

Wake QueryLife::On(SiteHealth& event, MonotonicTime now) {
  SiteLoad& site = sites_[sched::ToIndex(event.site)];
  site.CountLoad(now);
  site.backends_up = event.backends_up;
  site.backends_draining = event.draining;
  site.slots = event.slots;
  site.contexts = event.contexts;
  site.all_contexts = event.all_contexts;
  site.drained_contexts = event.drained_contexts;
  return Wake::kSoon;
}

// --- leaving ---------------------------------------------------------------------------------------------------------

Wake QueryLife::On(QueryDone& event, MonotonicTime now) {
  Query* query = queries_.Find(event.id);
  if (query == nullptr) return Wake::kNever;
  if (event.outcome == DispatchOutcome::kCompleted) lengths_.Add(query->meta, event.output_tokens, now);
  if (event.served && query->Teaches()) {
    const size_t j = sched::ToIndex(query->site);
    sites_[j].service.Add(config_->sites[j].compute, *event.served, query->meta.prompt_tokens, MeanQueries(*query, now),
                          now);
  }
  if (event.outcome == DispatchOutcome::kCompleted) query->ending = Ending::kCompleted;
  if (event.outcome == DispatchOutcome::kAborted && query->state == QueryState::kRunning) {
    query->ending = Ending::kCancelled;  // the dispatcher found its device gone
  }
  Leave(*query, query->ending, &event, now);
  return Wake::kSoon;
}

double QueryLife::MeanQueries(const Query& query, MonotonicTime now) {
  SiteLoad& site = sites_[sched::ToIndex(query.site)];
  site.CountLoad(now);
  const double life_s = SecondsBetween(query.dispatched, now);
  return life_s > 0 ? (site.load_s - query.load_before_s) / life_s
                    : static_cast<double>(site.active_queries) / site.ModelBackends();
}

void QueryLife::Leave(Query& query, Ending ending, const QueryDone* done, MonotonicTime now) {
  if (on_outcome_) {
    const bool ran = query.state != QueryState::kGranted;
    const auto queries = ran ? std::optional<double>(MeanQueries(query, now)) : std::nullopt;
    on_outcome_(MakeOutcome(*config_, query, ending, done, queries, now));
  }
  if (query.forced() && ending != Ending::kCompleted && ending != Ending::kCancelled) metrics_->promise().Failed();
  GiveSlotBack(query, query.site, now);
  queries_.Erase(query);
}

Wake QueryLife::On(CancelQuery& event, MonotonicTime now) {
  Query* query = queries_.Find(event.id);
  if (query == nullptr || query->state == QueryState::kAborting) return Wake::kNever;
  if (!event.answered) sink_->Deliver(query->session, CancelledEvent{query->id});
  return Withdraw(*query, Ending::kCancelled, now);
}

Wake QueryLife::On(SessionClosed& event, MonotonicTime now) {
  links_.Erase(event.session);
  Wake wake = Wake::kNever;
  for (const QueryId id : queries_.OfSession(event.session)) {
    wake = std::max(wake, Withdraw(*queries_.Find(id), Ending::kCancelled, now));
  }
  return wake;
}

Wake QueryLife::On(DrainExpired&, MonotonicTime now) {
  std::vector<QueryId> ids;
  queries_.ForEach([&](const Query& query) {
    if (query.state != QueryState::kAborting) ids.push_back(query.id);
  });
  Wake wake = Wake::kNever;
  for (const QueryId id : ids) {
    Query& query = *queries_.Find(id);
    sink_->Deliver(query.session,
                   FailedEvent{id, MakeError(ErrorCode::kUnavailable, Refusal::kDraining, "",
                                             absl::StrCat("not finished within drain_timeout (",
                                                          absl::FormatDuration(config_->drain_timeout), ")"))});
    wake = std::max(wake, Withdraw(query, Ending::kDrained, now));
  }
  return wake;
}

Wake QueryLife::Expire(MonotonicTime now) {
  Wake wake = Wake::kNever;
  while (Query* query = queries_.TakeExpired(now)) {
    if (query->state == QueryState::kPending) {
      wake = Wake::kNow;  // the epoch that follows at once gives it its answer
      continue;
    }
    const bool deadline = query->deadline() <= now;
    sink_->Deliver(query->session,
                   FailedEvent{query->id, MakeError(deadline ? ErrorCode::kDeadlineExceeded : ErrorCode::kGrantExpired,
                                                    deadline ? "DEADLINE" : "GRANT_EXPIRED", "",
                                                    absl::StrCat("the prompt did not arrive within ",
                                                                 absl::FormatDuration(now - query->decided),
                                                                 " of the decision"))});
    wake = std::max(wake, Withdraw(*query, Ending::kExpired, now));
  }
  return wake;
}

Wake QueryLife::Withdraw(Query& query, Ending why, MonotonicTime now) {
  switch (query.state) {
    case QueryState::kGranted:
      ReleaseUplink(query, now);
      Leave(query, why, nullptr, now);
      return Wake::kSoon;
    case QueryState::kPending: queries_.Erase(query); break;
    case QueryState::kRunning:
      query.ending = why;
      query.state = QueryState::kAborting;  // the slot is free when the backend has let go
      dispatch_->Abort(query.id);
      break;
    case QueryState::kAborting: break;
  }
  return Wake::kNever;
}

// --- what it holds ---------------------------------------------------------------------------------------------------

void QueryLife::TakeSlot(Query& query, SiteIndex site, MonotonicTime now) {
  query.site = site;
  SiteLoad& load = sites_[sched::ToIndex(site)];
  load.CountLoad(now);
  ++load.active_queries;
  tenants_.TakeSlot(query.meta.tenant);
}

void QueryLife::GiveSlotBack(const Query& query, SiteIndex site, MonotonicTime now) {
  SiteLoad& load = sites_[sched::ToIndex(site)];
  load.CountLoad(now);
  --load.active_queries;
  tenants_.ReleaseSlot(query.meta.tenant);
}

void QueryLife::ReleaseUplink(const Query& query, MonotonicTime now) {
  if (!query.transmits()) return;
  SiteLoad& site = sites_[sched::ToIndex(query.site)];
  site.CountLoad(now);
  --site.active_uplinks;
  queries_.EndUpload(query.session);
}

}  // namespace goad::server
