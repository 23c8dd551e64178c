// The greedy pass behind `goa` and the greedy baselines: exact, and fast for a million candidates. README.md, "The lazy
// greedy", has the design and its cost.
#ifndef GOAD_SCHEDULER_GREEDY_PASS_H_
#define GOAD_SCHEDULER_GREEDY_PASS_H_

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "scheduler/bound_queue.h"
#include "scheduler/greedy_bounds.h"
#include "scheduler/load_state.h"

namespace goad::sched {

enum class Weight { kUncertainty, kOne };     // key = alpha * Delta, or Delta
enum class StopRule { kExhausted, kNoGain };  // until no eligible pair is left, or at the first least key >= 0

// The passes of one epoch share one solver: what an earlier pass assigned loads the sites for the next.
// Thread-compatible. The snapshot is not owned and outlives this. No allocation per assignment.
class GreedySolver {
 public:
  explicit GreedySolver(const EpochSnapshot& snapshot);
  GreedySolver(const GreedySolver&) = delete;
  GreedySolver& operator=(const GreedySolver&) = delete;

  // Assigns greedily among `members`: candidate indices whose order in the span breaks ties, none of them in an earlier
  // pass.
  void Pass(std::span<const uint32_t> members, Weight weight, StopRule stop);

  AssignmentOrder TakeOrder() { return std::move(order_); }
  const LoadState& state() const { return state_; }
  uint64_t evaluations() const { return evaluations_; }  // pair costs computed

 private:
  // What delay_model's formulas need beside the candidate, hoisted.
  struct Site {
    double band_share_hz = 0;  // BandShareHz, with one more
    double disturbance_w = 0;  // DisturbanceW
    double flops_share = 0;    // ShareFlops, with one more
    bool plain = false;        // shannon and equal share without per-token work
    bool open = false;         // accepting and below max_queries
  };
  // The entries that were given a bound of the present state last: eight of them, what came before is forgotten.
  class FreshList {
   public:
    void Clear() { count_ = 0; }
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
  // One assignment in the making.
  struct Round {
    Best best;                       // the least exact key so far
    BoundEntry winner;               // whose it is, when best.eligible
    std::vector<BoundEntry> losers;  // equal to the best within the slack: back in the queue when the round is over
    FreshList fresh;                 // who has a bound of this round

    void Start() {
      best = {};
      losers.clear();
      fresh.Clear();
    }
    // Whether an entry of that bound may still win.
    bool MayGoTo(const BoundEntry& entry) const { return !best.eligible || entry.bound <= best.key; }
    // Puts up an entry with what an exact look found. Returns who stays behind for later rounds: the entry, the winner
    // so far, or nobody (there was no winner, or the entry has no eligible site and never will).
    std::optional<BoundEntry> Offer(const Best& found, const BoundEntry& entry) {
      if (!found.eligible) return std::nullopt;
      const bool wins =
          !best.eligible || found.key < best.key || (found.key == best.key && entry.position < winner.position);
      if (!wins) return entry;
      const std::optional<BoundEntry> displaced = best.eligible ? std::optional(winner) : std::nullopt;
      best = found;
      winner = entry;
      return displaced;
    }
  };
  // Who is exactly like whom. Of each kind only the first is in the queue; when it is assigned the next one takes its
  // place.
  struct Followers {
    std::span<const uint32_t> members;  // of the pass
    std::vector<uint32_t> next;  // per position: of the next member of its kind, or kNone; empty until somebody looked

    std::optional<BoundEntry> After(const BoundEntry& winner) const;
  };
  static constexpr uint32_t kNone = ~uint32_t{0};

  double* Record(uint32_t i) { return records_ + i * stride_; }
  double Delay(uint32_t i, size_t j);  // NaN = not eligible
  void BoundKeys(const double* record, double* bounds) const;
  void FreshBounds(uint32_t a, uint32_t b, double least[2]);
  std::vector<BoundEntry> FirstBounds(std::span<const uint32_t> members, Weight weight);
  void RefreshTop(BoundQueue& queue, FreshList& fresh);
  void OfferTop(BoundQueue& queue, Round& round);
  void ScanRest(BoundQueue& queue, Round& round, Followers& followers);
  Best FindBest(uint32_t i, double* bound);
  void Assign(uint32_t i, size_t j);
  void RefreshSite(size_t j);
  void RefreshDisturbance(size_t j);
  int Compare(uint32_t a, uint32_t b) const;
  void CollapseAlike(std::vector<BoundEntry>& all, Followers& followers);

  const EpochSnapshot& snapshot_;
  const size_t site_count_;
  const size_t blocks_;    // of four sites
  const size_t stride_;    // doubles per record
  bool all_plain_ = true;  // every site is
  LoadState state_;
  std::vector<Site> sites_;
  std::vector<SiteBlock> site_blocks_;
  std::vector<double> bounds_;  // of one candidate's keys, per site; scratch
  std::vector<double> memory_;
  double* records_;  // in memory_, per candidate: local delay less round trip, bits, work, factor, then p|h|^2 per site
  AssignmentOrder order_;
  uint64_t evaluations_ = 0;
};

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_GREEDY_PASS_H_
