// The search of goa-relocate: which moves and swaps are tried, in which order, and when it ends. README.md,
// "Relocation".
#ifndef GOAD_SCHEDULER_RELOCATION_SEARCH_H_
#define GOAD_SCHEDULER_RELOCATION_SEARCH_H_

#include <cstdint>

#include "scheduler/load_state.h"
#include "scheduler/relocation_state.h"
#include "scheduler/types.h"

namespace goad::sched {

// Thread-compatible. The snapshot is not owned and outlives this.
class RelocationSearch {
 public:
  RelocationSearch(const EpochSnapshot& snapshot, double lambda_s, AssignmentOrder start);

  // The assignment found: who was not moved in the order of `start`, then who was, in the order of the last moves. With
  // lambda > 0 it is `start` itself when nothing else came out that loses neither delay nor certainty. Once.
  AssignmentOrder Run();
  uint64_t evaluations() const { return state_.evaluations() + evaluations_; }  // bounds of pairs computed

 private:
  void Descend();
  void DescendByMoves();
  void Round();
  bool SwapWithLocal();
  bool SwapBetweenSites();
  bool SwapWithMember(uint32_t i, int q);
  bool TrySwap(uint32_t i, uint32_t k);
  double LimitSeconds() const;
  AssignmentOrder Order() const;

  const EpochSnapshot& snapshot_;
  const AssignmentOrder start_;
  RelocationState state_;
  uint64_t evaluations_ = 0;  // of swaps with local candidates
};

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_RELOCATION_SEARCH_H_
