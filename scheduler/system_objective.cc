#include "scheduler/system_objective.h"

#include "scheduler/delay_model.h"

namespace goad::sched {
namespace {

double DelaySeconds(const EpochSnapshot& snapshot, const LoadState& state, const Candidate& query, size_t j,
                    double gain, double uplink_bps) {
  const SiteState& site = snapshot.sites[j];
  return UploadSeconds(site, query, gain, uplink_bps, state.interference_w(j), state.uplinks(j)) +
         ComputeSeconds(site, query, state.queries(j));
}

}  // namespace

double SystemObjective(const EpochSnapshot& snapshot, const AssignmentOrder& order, const LoadState& state,
                       double lambda_s) {
  double total_s = 0;
  std::vector<bool> offloaded(snapshot.candidates.size());
  for (const auto& [i, site] : order) {
    offloaded[i] = true;
    const size_t j = ToIndex(site);
    total_s += DelaySeconds(snapshot, state, snapshot.candidates[i], j, snapshot.Gain(i, j), snapshot.UplinkBps(i, j));
  }
  for (const Resident& resident : snapshot.residents) {
    total_s +=
        DelaySeconds(snapshot, state, resident.query, ToIndex(resident.site), resident.gain, resident.uplink_bps);
  }
  for (size_t i = 0; i < offloaded.size(); ++i) {
    const Candidate& candidate = snapshot.candidates[i];
    if (!offloaded[i]) total_s += candidate.local_delay_s + lambda_s * candidate.uncertainty;
  }
  return total_s;
}

void PlaceForced(const EpochSnapshot& snapshot, LoadState& state, AssignmentOrder& order) {
  std::vector<bool> offloaded(snapshot.candidates.size());
  for (const auto& [i, site] : order) offloaded[i] = true;
  for (uint32_t i = 0; i < offloaded.size(); ++i) {
    if (offloaded[i] || !snapshot.Forced(i)) continue;
    size_t best = snapshot.sites.size();
    double least_s = 0;
    for (size_t j = 0; j < snapshot.sites.size(); ++j) {
      const LoadState::PairCost cost = state.Evaluate(i, j);
      if (cost.eligibility != Eligibility::kEligible) continue;
      if (best == snapshot.sites.size() || cost.upload_s + cost.compute_s < least_s) {
        best = j;
        least_s = cost.upload_s + cost.compute_s;
      }
    }
    if (best == snapshot.sites.size()) continue;
    state.Assign(i, best);
    order.emplace_back(i, ToSite(best));
  }
}

}  // namespace goad::sched
