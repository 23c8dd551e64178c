// The greedy pass behind `goa` and the greedy baselines: exact, and fast for a million candidates. README.md, "The lazy
// greedy", has the design and its cost.
#ifndef GOAD_SCHEDULER_GREEDY_PASS_H_
#define GOAD_SCHEDULER_GREEDY_PASS_H_

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "scheduler/bound_queue.h"
#include "scheduler/load_state.h"

namespace goad::sched {

enum class Weight { kUncertainty, kOne };     // key = alpha * Delta, or Delta
enum class StopRule { kExhausted, kNoGain };  // until no eligible pair is left, or at the first least key >= 0

// The passes of one epoch share one solver: what an earlier pass assigned loads the sites for the next. Thread-compatible.
// The snapshot is not owned and outlives this. No allocation per assignment.
class GreedySolver {
 public:
  explicit GreedySolver(const EpochSnapshot& snapshot);
  GreedySolver(const GreedySolver&) = delete;
  GreedySolver& operator=(const GreedySolver&) = delete;

  // Assigns greedily among `members`: candidate indices whose order in the span breaks ties, none of them in an earlier pass.
  void Pass(std::span<const uint32_t> members, Weight weight, StopRule stop);

  AssignmentOrder TakeOrder() { return std::move(order_); }
  const LoadState& state() const { return state_; }
  uint64_t evaluations() const { return evaluations_; }  // pair costs computed

 private:
  // What delay_model's formulas need beside the candidate, hoisted.
  struct Site {
    double band_share_hz = 0;   // BandShareHz, with one more
    double disturbance_w = 0;   // DisturbanceW
    double flops_share = 0;     // ShareFlops, with one more
    bool plain = false;         // shannon and equal share without per-token work
    bool open = false;          // accepting and below max_queries
  };
  // The same for four sites at a time, for bounds only.
  struct SiteBlock {
    double per_disturbance[4];  // 1 / disturbance; NaN = closed or not there
    double band_share_hz[4];
    double per_flops[4];        // 1 / flops_share
  };
  // The entries that were given a bound of the present state last; of a few before them nobody remembers.
  class FreshList {
   public:
    void Add(uint32_t position) { last_[count_++ % 8] = position; }
    bool Has(uint32_t position) const {
      for (size_t k = 0; k < std::min<size_t>(count_, 8); ++k) {
        if (last_[k] == position) return true;
      }
      return false;
    }

   private:
    uint32_t last_[8];
    size_t count_ = 0;
  };
  struct Best {
    bool eligible = false;
    double key = kInfinity;
    size_t site = 0;
  };

  double* Record(uint32_t i) { return records_ + i * stride_; }
  double Delay(uint32_t i, size_t j);  // NaN = not eligible
  void BoundKeys(const double* record, double* bounds) const;
  void FreshBounds(uint32_t a, uint32_t b, double least[2]);
  void RefreshTop(BoundQueue& queue, FreshList& fresh);
  Best FindBest(uint32_t i, double* bound);
  void Assign(uint32_t i, size_t j);
  void RefreshSite(size_t j);
  void RefreshDisturbance(size_t j);
  int Compare(uint32_t a, uint32_t b) const;
  void CollapseAlike(std::vector<BoundEntry>& all, std::vector<uint32_t>* next_alike);

  const EpochSnapshot& snapshot_;
  const size_t site_count_;
  const size_t blocks_;          // of four sites
  const size_t stride_;          // doubles per record
  bool all_plain_ = true;        // every site is
  LoadState state_;
  std::vector<Site> sites_;
  std::vector<SiteBlock> site_blocks_;
  std::vector<double> bounds_;   // of one candidate's keys, per site; scratch
  std::vector<double> memory_;
  double* records_;              // in memory_, per candidate: local delay, bits, work, factor, then p|h|^2 per site
  AssignmentOrder order_;
  uint64_t evaluations_ = 0;
};

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_GREEDY_PASS_H_
