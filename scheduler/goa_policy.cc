#include "scheduler/goa_policy.h"

#include <algorithm>
#include <cmath>

namespace goad::sched {
namespace {

// Delays never fall while candidates are assigned, up to the last bits of log2; this much slack makes a stale key a
// lower bound whatever those bits do. Applied to the delay and not to the key, because the key suffers cancellation.
constexpr double kBoundSlack = 1 - 1e-12;

struct BestPair {
  bool eligible = false;
  double key = kInfinity;
  double bound = kInfinity;  // no later key of this candidate is below
  SiteIndex site = SiteIndex::kNone;
};

struct Entry {
  double bound;
  uint32_t position;  // in members
};
struct LaterFirst {  // for a min-heap by std::push_heap
  bool operator()(const Entry& a, const Entry& b) const {
    return a.bound != b.bound ? a.bound > b.bound : a.position > b.position;
  }
};

double Key(double weight, double delay_s, double local_s) {
  const double key = weight * (delay_s - local_s);
  return std::isnan(key) ? kInfinity : key;
}

BestPair FindBest(const EpochSnapshot& snapshot, const LoadState& state, uint32_t i, Weight weight) {
  const Candidate& candidate = snapshot.candidates[i];
  const double factor = weight == Weight::kUncertainty ? candidate.uncertainty : 1.0;
  BestPair best;
  for (size_t j = 0; j < snapshot.sites.size(); ++j) {
    const LoadState::PairCost cost = state.Evaluate(i, j);
    if (cost.eligibility != Eligibility::kEligible) continue;
    const double delay_s = cost.upload_s + cost.compute_s;
    const double key = Key(factor, delay_s, candidate.local_delay_s);
    if (!best.eligible || key < best.key) {
      best.eligible = true;
      best.key = key;
      best.site = ToSite(j);
    }
    best.bound = std::min(best.bound, Key(factor, delay_s * kBoundSlack, candidate.local_delay_s));
  }
  return best;
}

}  // namespace

// A lazy greedy with one heap entry per candidate. Each round pops every candidate whose bound does not exceed the best
// exact key found so far, so the winner is exact whatever the bounds were; the losers go back with tighter bounds.
uint64_t GreedyPass(const EpochSnapshot& snapshot, std::span<const uint32_t> members, Weight weight, StopRule stop,
                    LoadState& state, AssignmentOrder& order) {
  uint64_t evaluations = 0;
  std::vector<Entry> heap;
  heap.reserve(members.size());
  for (uint32_t position = 0; position < members.size(); ++position) {
    const BestPair pair = FindBest(snapshot, state, members[position], weight);
    evaluations += snapshot.sites.size();
    if (pair.eligible) heap.push_back({pair.bound, position});
  }
  std::make_heap(heap.begin(), heap.end(), LaterFirst{});

  std::vector<Entry> losers;
  while (!heap.empty()) {
    losers.clear();
    BestPair best;
    Entry winner{kInfinity, 0};
    while (!heap.empty() && (!best.eligible || heap.front().bound <= best.key)) {
      std::pop_heap(heap.begin(), heap.end(), LaterFirst{});
      const uint32_t position = heap.back().position;
      heap.pop_back();
      const BestPair pair = FindBest(snapshot, state, members[position], weight);
      evaluations += snapshot.sites.size();
      if (!pair.eligible) continue;  // and never will be again
      const Entry entry{pair.bound, position};
      if (!best.eligible || pair.key < best.key || (pair.key == best.key && position < winner.position)) {
        if (best.eligible) losers.push_back(winner);
        best = pair;
        winner = entry;
      } else {
        losers.push_back(entry);
      }
    }
    if (!best.eligible || (stop == StopRule::kNoGain && !(best.key < 0))) break;
    const uint32_t i = members[winner.position];
    state.Assign(i, ToIndex(best.site));
    order.emplace_back(i, best.site);
    for (const Entry& loser : losers) {
      heap.push_back(loser);
      std::push_heap(heap.begin(), heap.end(), LaterFirst{});
    }
  }
  return evaluations;
}

EpochResult GoaPolicy::Decide(const EpochSnapshot& snapshot) const {
  std::vector<uint32_t> forced, optional;
  for (uint32_t i = 0; i < snapshot.candidates.size(); ++i) (snapshot.Forced(i) ? forced : optional).push_back(i);
  LoadState state(snapshot);
  AssignmentOrder order;
  uint64_t evaluations = GreedyPass(snapshot, forced, Weight::kUncertainty, StopRule::kExhausted, state, order);
  evaluations += GreedyPass(snapshot, optional, Weight::kUncertainty, StopRule::kNoGain, state, order);
  return MakeResult(snapshot, std::move(order), Reason::kDelayGain, Reason::kNoGain, evaluations);
}

}  // namespace goad::sched
