#include "scheduler/explain.h"

#include <algorithm>

namespace goad::sched {

Explanation Explain(const EpochSnapshot& snapshot, const AssignmentOrder& order, size_t i, bool others_decided) {
  const auto own = [i](const auto& assignment) { return assignment.first == i; };
  AssignmentOrder before;
  if (others_decided) {
    std::copy_if(order.begin(), order.end(), std::back_inserter(before), [&](const auto& a) { return !own(a); });
  } else {
    before.assign(order.begin(), std::find_if(order.begin(), order.end(), own));
  }
  const LoadState state = ReplayOrder(snapshot, before);
  const Candidate& candidate = snapshot.candidates[i];
  Explanation explanation;
  explanation.assigned_before = before.size();
  for (size_t j = 0; j < snapshot.sites.size(); ++j) {
    SiteCost& site = explanation.sites.emplace_back();
    site.cost = state.Evaluate(i, j);
    site.delta_s = site.cost.upload_s + site.cost.compute_s - candidate.local_delay_s;
    site.key_s = candidate.uncertainty * site.delta_s;
    site.queries = state.queries(j);
    site.uplinks = state.uplinks(j);
    site.interference_w = state.interference_w(j);
  }
  return explanation;
}

}  // namespace goad::sched
