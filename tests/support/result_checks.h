// Invariants of every EpochResult, from the snapshot and the policy's own declaration alone. Run on every result in
// every test.
#ifndef GOAD_TESTS_SUPPORT_RESULT_CHECKS_H_
#define GOAD_TESTS_SUPPORT_RESULT_CHECKS_H_

#include <cmath>
#include <set>

#include "gtest/gtest.h"
#include "scheduler/load_state.h"
#include "scheduler/policy.h"

namespace goad::sched {

inline void CheckResult(const EpochSnapshot& snapshot, const EpochResult& result, const PolicyGuarantees& guarantees) {
  ASSERT_EQ(result.decisions.size(), snapshot.candidates.size());
  ASSERT_EQ(result.site_totals.size(), snapshot.sites.size());
  // Replays the order: every assignment was eligible when made, nobody is assigned twice.
  LoadState state(snapshot);
  std::set<uint32_t> assigned;
  for (const auto& [i, site] : result.order) {
    ASSERT_LT(i, snapshot.candidates.size());
    ASSERT_TRUE(assigned.insert(i).second) << "candidate " << i << " assigned twice";
    const LoadState::PairCost cost = state.Evaluate(i, ToIndex(site));
    ASSERT_EQ(cost.eligibility, Eligibility::kEligible) << "candidate " << i;
    if (guarantees.no_optional_without_gain && !(guarantees.forced_offloaded && snapshot.Forced(i))) {
      ASSERT_LT(cost.upload_s + cost.compute_s, snapshot.candidates[i].local_delay_s) << "candidate " << i;
    }
    // By uncertainty x delay, which says nothing about the site when the first is zero.
    if (guarantees.chosen_in_order && snapshot.candidates[i].uncertainty > 0) {
      for (size_t j = 0; j < snapshot.sites.size(); ++j) {
        const LoadState::PairCost other = state.Evaluate(i, j);
        if (other.eligibility != Eligibility::kEligible) continue;
        ASSERT_LE(cost.upload_s + cost.compute_s, (other.upload_s + other.compute_s) * (1 + 1e-9))
            << "candidate " << i << " had a better site when it was taken: " << j;
      }
    }
    state.Assign(i, ToIndex(site));
  }
  std::vector<double> hz(snapshot.sites.size()), flops(snapshot.sites.size());
  for (uint32_t i = 0; i < snapshot.candidates.size(); ++i) {
    const Decision& decision = result.decisions[i];
    ASSERT_EQ(decision.id, snapshot.candidates[i].id);
    ASSERT_EQ(decision.verdict == Verdict::kOffload, assigned.count(i) == 1);
    ASSERT_EQ(decision.site == SiteIndex::kNone, decision.verdict == Verdict::kLocal);
    if (decision.verdict == Verdict::kOffload) {
      hz[ToIndex(decision.site)] += decision.uplink_hz;
      flops[ToIndex(decision.site)] += decision.share_flops;
    } else if (guarantees.forced_offloaded && snapshot.Forced(i)) {
      for (size_t j = 0; j < snapshot.sites.size(); ++j) {
        ASSERT_NE(state.Evaluate(i, j).eligibility, Eligibility::kEligible) << "forced " << i << " left local";
      }
    }
  }
  for (size_t j = 0; j < snapshot.sites.size(); ++j) {
    const SiteState& site = snapshot.sites[j];
    ASSERT_LE(hz[j], site.bandwidth_hz * (1 + 1e-9));
    ASSERT_TRUE(site.compute == ComputeModel::kBatching || flops[j] <= site.compute_flops * (1 + 1e-9));
    ASSERT_LE(state.queries(j), std::max(site.max_queries, site.active_queries));
  }
}

inline EpochResult DecideChecked(const OffloadPolicy& policy, const EpochSnapshot& snapshot) {
  EpochResult result = policy.Decide(snapshot);
  CheckResult(snapshot, result, policy.guarantees());
  const EpochResult again = policy.Decide(snapshot);
  EXPECT_EQ(again.order, result.order) << "not deterministic";
  return result;
}

}  // namespace goad::sched

#endif  // GOAD_TESTS_SUPPORT_RESULT_CHECKS_H_
