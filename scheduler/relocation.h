// The state of goa-relocate's search: who is where, what that costs everybody, and an upper bound of what a move would change.
// README.md, "Relocation", has the idea. relocation.cc is the state and its bounds, relocate_policy.cc the search.
#ifndef GOAD_SCHEDULER_RELOCATION_H_
#define GOAD_SCHEDULER_RELOCATION_H_

#include <algorithm>
#include <utility>
#include <vector>

#include "scheduler/load_state.h"
#include "scheduler/types.h"

namespace goad::sched {

inline constexpr int kLocal = -1;

// Four sites at a time, all that the cost of a move depends on beside the row. Relocation::Site
// has the meaning.
struct SiteLanes {
  double noise_w[4] = {1, 1, 1, 1}, disturbance_w[4] = {1, 1, 1, 1};
  double radio[4] = {};                // 1 = shannon
  double uplinks[4] = {};
  double term_s[4] = {}, slope[4] = {};
  double load[4] = {};
  double factor[4] = {}, next_factor[4] = {};  // of the compute load, with the queries there are and with one more
  double closed_s[4] = {};             // +infinity when full
};

// Of a row, per block of four sites.
enum RowField { kSignal, kWeight, kBase, kLoad, kRowFields };

// What a move of one row needs beside sites and the row's lanes.
struct Leaving {
  double transmits = 0;                // 1 = it has something to upload
  double radiates = 0;                 // 1 = it interferes now
  double leave_s = 0;                  // change of the objective at the old place, were it not to radiate any more
  double radiating_s = 0;              // and what comes on top when it radiates from elsewhere
  double elsewhere_s = 0;              // sum over all sites but the old one of uplinks * slope * signal
};

// The state of a search for better assignments. Rows are the candidates, then the residents, which never move.
class Relocation {
 public:
  Relocation(const EpochSnapshot& snapshot, double lambda_s, AssignmentOrder start);
  void Run();
  AssignmentOrder TakeOrder();  // who was not moved in the old order, then who was, in the order of the last moves
  uint64_t evaluations() const { return evaluations_; }

 private:
  // Row i on site j costs: sharers * (weight / log2(1 + signal/disturbance) | weight) + base + load * the site's factor;
  // its lanes (RowField) hold signal (received power, W; 0 = unknown), weight (s), base (s; +infinity = not eligible) and
  // load (equal share: FLOP; batching: seconds per query on the site).
  struct Row {
    double local_s = 0;         // local delay and the price of a local answer
    double deadline_s = kInfinity;
    int site = kLocal;
    bool transmits = false, forced = false, pinned = false;
    uint32_t moved = 0;         // number of its last move; 0 = never
    size_t slot = 0;            // in its site's members
  };
  // The sums over members, term_s (uploads per sharer), slope (its derivative by the disturbance, s/W) and load, are in lanes_.
  // Objective: uplinks * term_s + factor * load + the bases. Between refreshes terms follow their tangents at reference_w,
  // which lie above them.
  struct Site {
    double per_max_share = 0, per_sharer = 0;  // factor(n) = max(per_max_share, n * per_sharer)
    double reference_w = 0;     // the disturbance at which own_s and own_slope were taken
    int queries = 0, max_queries = 0;
    bool stale = false;
    std::vector<uint32_t> members;
    std::vector<double> signal_w, weight_s, own_s, own_slope;  // of the members, padded to fours
    double Factor(int n) const { return std::max(per_max_share, n * per_sharer); }
  };
  struct Move {
    double delta_s = 0;         // of the objective; < 0 is better
    int to = kLocal;
    bool found = false;
  };

  struct Undo {
    uint32_t row = 0, moved = 0;  // moved: as it was before
    int site = kLocal;
  };
  struct Balance {
    double delay_s = 0, local_uncertainty = 0;  // sums
  };

  int sites() const { return static_cast<int>(sites_.size()); }
  Site& SiteAt(int j) { return sites_[static_cast<size_t>(j)]; }
  const Site& SiteAt(int j) const { return sites_[static_cast<size_t>(j)]; }
  static size_t Lane(int j) { return static_cast<size_t>(j) % 4; }
  SiteLanes& LanesOf(int j) { return lanes_[static_cast<size_t>(j) / 4]; }
  const SiteLanes& LanesOf(int j) const { return lanes_[static_cast<size_t>(j) / 4]; }
  const double* RowLanes(uint32_t i) const { return rows_lanes_.data() + i * 4 * kRowFields * lanes_.size(); }
  double At(uint32_t i, int j, RowField field) const {
    return RowLanes(i)[4 * (kRowFields * (static_cast<size_t>(j) / 4) + field) + Lane(j)];
  }
  bool Radiates(uint32_t i, int j) const { return j != kLocal && rows_[i].transmits && LanesOf(j).radio[Lane(j)] == 1; }
  bool TenantFull(uint32_t i) const { return tenants_.Full(snapshot_.candidates[i]); }
  double OwnSeconds(uint32_t i, int j, double disturbance_w) const;

  // What row i costs all sites together as interference, were it to radiate to none of them.
  double InterferenceSeconds(uint32_t i) const;
  void AddRow(const Candidate& query, const Resident* resident);
  void AddMember(uint32_t i, int j);
  void Publish(int j);
  void Refresh(int j);
  double ObjectiveSeconds() const;
  void MoveTo(uint32_t i, int to);
  void Shift(uint32_t i, int to);
  bool Settle();
  Leaving LeavingOf(uint32_t i) const;
  Move BestMove(uint32_t i);
  void Round(size_t batch);
  bool MeetsDeadline(uint32_t i, int to, double own_s, int uplinks, int queries) const;
  bool TrySwap(uint32_t i, uint32_t k);
  bool SwapWithLocal();
  bool SwapBetweenSites();
  void Descend();
  void SetLambda(double lambda_s);
  Balance Measure() const;

  const EpochSnapshot& snapshot_;
  std::vector<Row> rows_;
  std::vector<double> rows_lanes_;
  std::vector<Site> sites_;
  std::vector<SiteLanes> lanes_;
  TenantPlaces tenants_;
  std::vector<double> delta_s_, own_s_;         // scratch of BestMove, per site
  AssignmentOrder start_;
  std::vector<Undo> undo_;  // moves since the sums were last made afresh
  double fixed_s_ = 0;      // bases of who is offloaded, local_s of who is not
  double verified_s_ = 0;   // the objective when the sums were last made afresh
  double lambda_s_;         // in force; the rows' local_s are made with it
  bool back_to_start_ = false;
  uint32_t moves_ = 0;
  uint64_t evaluations_ = 0;
};

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_RELOCATION_H_
