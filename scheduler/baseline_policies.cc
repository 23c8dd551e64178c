#include "scheduler/baseline_policies.h"

#include <numeric>
#include <random>

#include "scheduler/goa_policy.h"
#include "scheduler/greedy_pass.h"

namespace goad::sched {
namespace {

std::vector<uint32_t> Everyone(const EpochSnapshot& snapshot) {
  std::vector<uint32_t> all(snapshot.candidates.size());
  std::iota(all.begin(), all.end(), 0u);
  return all;
}

EpochResult OnePass(const EpochSnapshot& snapshot, const std::vector<uint32_t>& members, Weight weight, StopRule stop,
                    Reason admitted, Reason declined) {
  GreedySolver solver(snapshot);
  solver.Pass(members, weight, stop);
  return MakeResult(snapshot, solver.TakeOrder(), solver.state(), admitted, declined, solver.evaluations());
}

}  // namespace

EpochResult MinDelayPolicy::Decide(const EpochSnapshot& snapshot) const {
  return OnePass(snapshot, Everyone(snapshot), Weight::kOne, StopRule::kNoGain, Reason::kDelayGain, Reason::kNoGain);
}

EpochResult AllEdgePolicy::Decide(const EpochSnapshot& snapshot) const {
  return OnePass(snapshot, Everyone(snapshot), Weight::kUncertainty, StopRule::kExhausted, Reason::kPolicy,
                 Reason::kPolicy);
}

EpochResult AllLocalPolicy::Decide(const EpochSnapshot& snapshot) const {
  return MakeResult(snapshot, {}, LoadState(snapshot), Reason::kPolicy, Reason::kPolicy, 0);
}

EpochResult RandomPolicy::Decide(const EpochSnapshot& snapshot) const {
  std::vector<uint32_t> drawn = snapshot.sample;
  if (drawn.empty()) {
    const size_t wanted = GoaPolicy().Decide(snapshot).order.size();
    drawn = Everyone(snapshot);
    std::mt19937_64 random(snapshot.seed);
    for (size_t k = 0; k < wanted; ++k) std::swap(drawn[k], drawn[k + random() % (drawn.size() - k)]);
    drawn.resize(wanted);
  }
  return OnePass(snapshot, drawn, Weight::kOne, StopRule::kExhausted, Reason::kPolicy, Reason::kPolicy);
}

}  // namespace goad::sched
