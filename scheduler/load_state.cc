#include "scheduler/load_state.h"

#include <algorithm>
#include <cmath>

#include "scheduler/delay_model.h"

namespace goad::sched {

LoadState::LoadState(const EpochSnapshot& snapshot) : snapshot_(snapshot), tenants_(snapshot.tenant_caps) {
  queries_.reserve(snapshot.sites.size());
  uplinks_.reserve(snapshot.sites.size());
  interference_w_.reserve(snapshot.sites.size());
  for (const SiteState& site : snapshot.sites) {
    queries_.push_back(site.active_queries);
    uplinks_.push_back(site.active_uplinks);
    interference_w_.push_back(site.resident_interference_w);
  }
}

LoadState::PairCost LoadState::Evaluate(size_t i, size_t j) const {
  const SiteState& site = snapshot_.sites[j];
  const Candidate& candidate = snapshot_.candidates[i];
  PairCost cost;
  if (!(site.accepting || site.draining) || (candidate.needs.chat && !site.chat)) return cost;
  if (!site.Can(candidate.needs)) return cost.eligibility = Eligibility::kNotAble, cost;
  double uplink_bps = kUnknown;
  if (candidate.prompt_bits > 0) {
    if (site.uplink == UplinkModel::kMeasured) {
      uplink_bps = snapshot_.UplinkBps(i, j);
      if (std::isnan(uplink_bps)) return cost.eligibility = Eligibility::kNoLink, cost;
    } else if (std::isnan(snapshot_.Gain(i, j))) {
      return cost.eligibility = Eligibility::kNoLink, cost;
    }
  }
  if (!site.accepting) return cost.eligibility = Eligibility::kSiteDraining, cost;
  if (queries_[j] >= site.max_queries) return cost.eligibility = Eligibility::kSiteFull, cost;
  if (TenantFull(i)) return cost.eligibility = Eligibility::kQuota, cost;
  cost.upload_s = UploadSeconds(site, candidate, snapshot_.Gain(i, j), uplink_bps, interference_w_[j], uplinks_[j] + 1);
  cost.compute_s = ComputeSeconds(site, candidate, queries_[j] + 1);
  cost.eligibility =
      cost.upload_s + cost.compute_s > candidate.deadline_s ? Eligibility::kDeadline : Eligibility::kEligible;
  return cost;
}

void LoadState::Assign(size_t i, size_t j) {
  const Candidate& candidate = snapshot_.candidates[i];
  ++queries_[j];
  tenants_.Take(candidate);
  if (candidate.prompt_bits == 0) return;
  ++uplinks_[j];
  if (snapshot_.sites[j].uplink == UplinkModel::kMeasured) return;
  for (size_t other = 0; other < snapshot_.sites.size(); ++other) {
    AddInterference(j, other, candidate.tx_power_w * snapshot_.Gain(i, other));
  }
}

void LoadState::AssignTransmitter(size_t i, size_t j, const double* received_w) {
  tenants_.Take(snapshot_.candidates[i]);
  ++queries_[j];
  ++uplinks_[j];
  for (size_t other = 0; other < snapshot_.sites.size(); ++other) AddInterference(j, other, received_w[other]);
}

void LoadState::AddInterference(size_t j, size_t other, double received_w) {
  interference_w_[other] += ((other == j) | std::isnan(received_w)) ? 0 : received_w;  // adding 0 changes no bit
}

LoadState ReplayOrder(const EpochSnapshot& snapshot, const AssignmentOrder& order) {
  LoadState state(snapshot);
  for (const auto& [i, site] : order) state.Assign(i, ToIndex(site));
  return state;
}

Reason LoadState::LocalReason(size_t i) const {
  Eligibility furthest = Eligibility::kNoSite;
  for (size_t j = 0; j < snapshot_.sites.size() && furthest != Eligibility::kEligible; ++j) {
    furthest = std::max(furthest, Evaluate(i, j).eligibility);
  }
  switch (furthest) {
    case Eligibility::kNoSite: return Reason::kNoSite;
    case Eligibility::kNotAble: return Reason::kNotAble;
    case Eligibility::kSiteDraining: return Reason::kSiteDraining;
    case Eligibility::kNoLink: return snapshot_.candidates[i].link_stale ? Reason::kLinkStale : Reason::kNoLink;
    case Eligibility::kSiteFull: return snapshot_.Forced(i) ? Reason::kTauInfeasible : Reason::kSiteFull;
    case Eligibility::kQuota: return Reason::kQuota;
    case Eligibility::kDeadline: return Reason::kDeadline;
    case Eligibility::kEligible: return Reason::kNoGain;
  }
  return Reason::kNoGain;
}

EpochResult MakeResult(const EpochSnapshot& snapshot, AssignmentOrder order, const LoadState& state, Reason admitted,
                       Reason declined, uint64_t evaluations) {
  EpochResult result;
  result.decisions.resize(snapshot.candidates.size());
  result.site_totals.resize(snapshot.sites.size());
  result.order = std::move(order);
  result.evaluations = evaluations;
  for (const auto& [i, site] : result.order) result.decisions[i].site = site;
  for (size_t i = 0; i < snapshot.candidates.size(); ++i) {
    const Candidate& candidate = snapshot.candidates[i];
    Decision& decision = result.decisions[i];
    decision.id = candidate.id;
    if (decision.site == SiteIndex::kNone) {
      const Reason reason = state.LocalReason(i);
      decision.reason = reason == Reason::kNoGain ? declined : reason;
      result.local_s += candidate.local_delay_s;
      continue;
    }
    const size_t j = ToIndex(decision.site);
    const SiteState& site = snapshot.sites[j];
    decision.verdict = Verdict::kOffload;
    decision.reason = snapshot.Forced(i) ? Reason::kUncertain : admitted;
    if (site.uplink == UplinkModel::kShannon && candidate.prompt_bits > 0) {
      decision.uplink_hz = BandShareHz(site, state.uplinks(j));
    }
    if (site.compute == ComputeModel::kEqualShare) {
      decision.share_flops = ShareFlops(site, state.queries(j));
    }
    decision.predicted_upload_s = UploadSeconds(site, candidate, snapshot.Gain(i, j), snapshot.UplinkBps(i, j),
                                                state.interference_w(j), state.uplinks(j));
    decision.predicted_compute_s = ComputeSeconds(site, candidate, state.queries(j));
    decision.weighted_gain_s =
        candidate.uncertainty * (decision.predicted_upload_s + decision.predicted_compute_s - candidate.local_delay_s);
    SiteTotal& total = result.site_totals[j];
    ++total.assigned;
    total.upload_s += decision.predicted_upload_s;
    total.compute_s += decision.predicted_compute_s;
  }
  return result;
}

}  // namespace goad::sched
