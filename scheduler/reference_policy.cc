#include "scheduler/reference_policy.h"

#include <cmath>

#include "scheduler/delay_model.h"
#include "scheduler/load_state.h"

namespace goad::sched {
namespace {

// Delta_ij with every count and sum taken afresh over those already offloaded; NaN when the pair is not eligible.
// Shares nothing with LoadState but the formulas of delay_model, so that it can serve as its check.
double Delta(const EpochSnapshot& snapshot, const AssignmentOrder& offloaded, size_t i, size_t j) {
  const SiteState& site = snapshot.sites[j];
  const Candidate& user = snapshot.candidates[i];
  const bool uploads = user.prompt_bits > 0;
  if (!site.accepting || (user.needs.chat && !site.chat) || !site.Can(user.needs)) return kUnknown;
  if (uploads && site.uplink == UplinkModel::kShannon && std::isnan(snapshot.Gain(i, j))) return kUnknown;
  if (uploads && site.uplink == UplinkModel::kMeasured && std::isnan(snapshot.UplinkBps(i, j))) return kUnknown;

  int queries = site.active_queries;
  int uplinks = site.active_uplinks;
  int of_tenant = 0;
  double interference_w = site.resident_interference_w;
  for (const auto& [k, at] : offloaded) {
    const Candidate& other = snapshot.candidates[k];
    if (other.tenant == user.tenant) ++of_tenant;
    if (ToIndex(at) == j) {
      ++queries;
      if (other.prompt_bits > 0) ++uplinks;
    } else if (other.prompt_bits > 0 && snapshot.sites[ToIndex(at)].uplink == UplinkModel::kShannon) {
      const double gain = snapshot.Gain(k, j);
      if (!std::isnan(gain)) interference_w += other.tx_power_w * gain;
    }
  }
  if (queries + 1 > site.max_queries) return kUnknown;
  if (!snapshot.tenant_caps.empty() && of_tenant + 1 > snapshot.tenant_caps[user.tenant]) return kUnknown;
  const double delay_s =
      UploadSeconds(site, user, snapshot.Gain(i, j), snapshot.UplinkBps(i, j), interference_w, uplinks + 1) +
      ComputeSeconds(site, user, queries + 1);
  if (delay_s > user.deadline_s) return kUnknown;
  return delay_s - user.local_delay_s;
}

}  // namespace

EpochResult ReferencePolicy::Decide(const EpochSnapshot& snapshot) const {
  AssignmentOrder order;
  uint64_t evaluations = 0;
  for (const bool step_one : {true, false}) {
    std::vector<bool> remaining(snapshot.candidates.size());
    for (size_t i = 0; i < remaining.size(); ++i) remaining[i] = snapshot.Forced(i) == step_one;
    for (;;) {
      bool found = false;
      double least = 0;
      std::pair<uint32_t, SiteIndex> best;
      for (uint32_t i = 0; i < remaining.size(); ++i) {
        if (!remaining[i]) continue;
        for (size_t j = 0; j < snapshot.sites.size(); ++j) {
          const double delta = Delta(snapshot, order, i, j);
          ++evaluations;
          if (std::isnan(delta)) continue;
          double key = snapshot.candidates[i].uncertainty * delta;
          if (std::isnan(key)) key = kInfinity;  // 0 * infinity; see goa_policy.h
          if (!found || key < least) {
            found = true;
            least = key;
            best = {i, ToSite(j)};
          }
        }
      }
      if (!found || (!step_one && !(least < 0))) break;
      order.push_back(best);
      remaining[best.first] = false;
    }
  }
  const LoadState state = ReplayOrder(snapshot, order);
  return MakeResult(snapshot, std::move(order), state, Reason::kDelayGain, Reason::kNoGain, evaluations);
}

}  // namespace goad::sched
