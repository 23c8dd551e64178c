// The assignment that is built up within one epoch, what the next candidate would cost, and the result it becomes.
#ifndef GOAD_SCHEDULER_LOAD_STATE_H_
#define GOAD_SCHEDULER_LOAD_STATE_H_

#include <utility>
#include <vector>

#include "scheduler/types.h"

namespace goad::sched {

// How far a (candidate, site) pair gets towards being assignable, in the order in which obstacles are named.
enum class Eligibility { kNoSite, kNotAble, kNoLink, kSiteDraining, kSiteFull, kQuota, kDeadline, kEligible };

// How many more candidates of each tenant may be assigned; without caps everybody may. Thread-compatible.
class TenantPlaces {
 public:
  explicit TenantPlaces(std::vector<int> caps) : free_(std::move(caps)) {}
  bool Full(const Candidate& candidate) const {
    return !free_.empty() && free_[static_cast<size_t>(candidate.tenant)] <= 0;
  }
  void Take(const Candidate& candidate) { Add(candidate, -1); }
  void GiveBack(const Candidate& candidate) { Add(candidate, 1); }

 private:
  void Add(const Candidate& candidate, int places) {
    if (!free_.empty()) free_[static_cast<size_t>(candidate.tenant)] += places;
  }
  std::vector<int> free_;  // per tenant; empty = no caps
};

// Starts from the carried-over load of the snapshot; grows by Assign. A pair only ever turns from eligible to
// ineligible and its delay never falls as others are assigned, which is what makes a lazy greedy exact.
// Thread-compatible. The snapshot is not owned and outlives this.
class LoadState {
 public:
  explicit LoadState(const EpochSnapshot& snapshot);

  // Cost of putting candidate i on site j in the present state (n counts i itself).
  struct PairCost {
    Eligibility eligibility = Eligibility::kNoSite;
    double upload_s = 0;
    double compute_s = 0;
  };
  PairCost Evaluate(size_t i, size_t j) const;

  // REQUIRES: i is not assigned yet.
  void Assign(size_t i, size_t j);
  // The same for a candidate that transmits to shannon site j, from its received power p|h|^2 per site (NaN = unknown),
  // which a policy may have at hand.
  void AssignTransmitter(size_t i, size_t j, const double* received_w);
  bool TenantFull(size_t i) const { return tenants_.Full(snapshot_.candidates[i]); }

  // Why candidate i, left local, has no site: kNoGain when some site was eligible. `i` must not be assigned.
  Reason LocalReason(size_t i) const;

  int queries(size_t j) const { return queries_[j]; }
  int uplinks(size_t j) const { return uplinks_[j]; }
  double interference_w(size_t j) const { return interference_w_[j]; }

 private:
  void AddInterference(size_t j, size_t other, double received_w);

  const EpochSnapshot& snapshot_;
  std::vector<int> queries_;            // per site, carried over + assigned
  std::vector<int> uplinks_;            // per site, carried over + assigned that transmit
  std::vector<double> interference_w_;  // per site, accumulated in order of assignment, never total minus own
  TenantPlaces tenants_;
};

// (candidate, site) pairs in order of assignment.
using AssignmentOrder = std::vector<std::pair<uint32_t, SiteIndex>>;

// The state after assigning `order` from the start.
LoadState ReplayOrder(const EpochSnapshot& snapshot, const AssignmentOrder& order);

// Turns an assignment into decisions: predictions from the final state, reasons, totals. `order` is the order of
// assignment, `state` what it leads to; candidates not in it are local. `admitted` is the reason given to offloaded
// candidates that were not forced, `declined` replaces kNoGain for those left local.
EpochResult MakeResult(const EpochSnapshot& snapshot, AssignmentOrder order, const LoadState& state, Reason admitted,
                       Reason declined, uint64_t evaluations);

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_LOAD_STATE_H_
