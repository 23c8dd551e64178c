// The state of goa-relocate's search: who is where, what that costs everybody, and upper bounds of what a change would
// bring. README.md, "Relocation", has the idea; relocation_search decides what is tried.
#ifndef GOAD_SCHEDULER_RELOCATION_STATE_H_
#define GOAD_SCHEDULER_RELOCATION_STATE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "scheduler/load_state.h"
#include "scheduler/relocation_tables.h"
#include "scheduler/types.h"

namespace goad::sched {

inline constexpr int kLocal = -1;

// Rows are the candidates, then the residents, which never move. Thread-compatible. The snapshot is not owned and
// outlives this.
class RelocationState {
 public:
  struct Row {
    double local_s = 0;  // local delay and the price of a local answer
    double deadline_s = kInfinity;
    int site = kLocal;
    bool transmits = false, forced = false;
    bool pinned = false;     // never moves
    uint32_t last_move = 0;  // number of its last move; 0 = never
    size_t slot = 0;         // among its site's members
  };
  struct Move {
    double delta_s = 0;  // of the objective; < 0 is better
    int to = kLocal;
    bool found = false;
  };
  // A candidate among the members of a site.
  struct Seat {
    double own_s = 0;   // its upload per sharer
    double cost_s = 0;  // what it costs everybody, as far as that depends on who sits there
  };
  // Candidate i of site p as one half of swaps with candidates of site q.
  struct Exchange {
    uint32_t i = 0;
    int p = kLocal, q = kLocal;
    double own_s = 0;                   // its upload per sharer on q at the present disturbance
    double left_s = 0, left_slope = 0;  // its term on p
    double on_p_w = 0, on_q_w = 0;      // its signal
    double fixed_s = 0;                 // change of its compute and its bases
  };
  struct Balance {
    double delay_s = 0, local_uncertainty = 0;  // sums: everybody's delay, and the uncertainty of who is left local
  };

  RelocationState(const EpochSnapshot& snapshot, double lambda_s, const AssignmentOrder& start);

  // Who is where.
  uint32_t users() const { return static_cast<uint32_t>(snapshot_.candidates.size()); }
  int sites() const { return static_cast<int>(sites_.size()); }
  const Row& row(uint32_t i) const { return rows_[i]; }
  const std::vector<uint32_t>& members(int j) const { return SiteAt(j).members; }
  bool Shannon(int j) const { return table_[j].is_shannon(); }
  bool Eligible(uint32_t i, int j) const { return std::isfinite(At(i, j, kBase)); }  // but for caps and deadline
  bool TenantFull(uint32_t i) const { return tenants_.Full(snapshot_.candidates[i]); }

  // What it costs, as of the last time that the sums were made afresh.
  double objective_s() const { return verified_s_; }
  Balance Measure() const;
  double lambda_s() const { return lambda_s_; }
  void SetLambda(double lambda_s);

  // What a change would bring, bounded from above.
  //
  // The move of row i (not pinned) whose bound is least, of those that caps and its deadline allow.
  Move BestMove(uint32_t i);
  // Of candidate i in the place of a member of site j, or as one, everybody else being where they are.
  Seat SeatOf(uint32_t i, int j) const;
  bool MeetsDeadlineInPlace(uint32_t i, int j, double own_s) const;
  // REQUIRES: i is on a shannon site, and q is another one.
  Exchange ExchangeOf(uint32_t i, int q) const;
  // The first slot, from `slot` on, of a member of x.q who meets its deadline on x.p, as x.i does on x.q, when their
  // swap may change the objective by less than limit_s (< 0); the number of members when there is none.
  size_t NextPartner(const Exchange& x, size_t slot, double limit_s);

  // Changes.
  //
  // Moves row i, for the time being.
  void Shift(uint32_t i, int to);
  size_t unsettled() const { return undo_.size(); }
  // Makes the sums afresh. When what was shifted since the last time did not lower the objective it is undone: false.
  bool Settle();

  uint64_t evaluations() const { return evaluations_; }  // bounds of pairs computed, but for SeatOf

 private:
  // Between refreshes terms follow their tangents at reference_w, which lie above them.
  struct Site {
    double per_max_share = 0, per_sharer = 0;  // see Factor
    double reference_w = 0;                    // the disturbance at which own_s and own_slope were taken
    int queries = 0, max_queries = 0;
    bool stale = false;
    std::vector<uint32_t> members;
    std::vector<double> signal_w, weight_s, own_s, own_slope;  // of the members, padded to fours

    // Of the load with n queries: 1 / ShareFlops, or n per backend, but for the rounding.
    double Factor(int n) const { return std::max(per_max_share, n * per_sharer); }
    // A member's upload per sharer at a disturbance near reference_w.
    double Term(size_t slot, double disturbance_w) const {
      return own_s[slot] + own_slope[slot] * (disturbance_w - reference_w);
    }
  };
  struct Undo {
    uint32_t row = 0, last_move = 0;  // last_move: as it was before
    int site = kLocal;
  };

  Site& SiteAt(int j) { return sites_[static_cast<size_t>(j)]; }
  const Site& SiteAt(int j) const { return sites_[static_cast<size_t>(j)]; }
  double At(uint32_t i, int j, RowField field) const { return row_table_.At(i, j, field); }
  bool Radiates(uint32_t i, int j) const { return j != kLocal && rows_[i].transmits && Shannon(j); }
  double OwnSeconds(uint32_t i, int j, double disturbance_w) const;
  double InterferenceSeconds(uint32_t i) const { return InterferenceCost(row_table_.Row(i), table_); }
  double ObjectiveSeconds() const;
  Leaving LeavingOf(uint32_t i) const;
  bool MeetsDeadlineAmong(uint32_t i, int j, double own_s, int uplinks, int queries) const;

  void AddSite(int j);
  void PlaceCandidates(const AssignmentOrder& start);
  void PlaceResidents();
  void AddMember(uint32_t i, int j);
  void RemoveMember(uint32_t i, int j);
  void MoveTo(uint32_t i, int to);
  void Leave(uint32_t i);
  void Join(uint32_t i, int to);
  void MoveInterference(uint32_t i, int from, int to);
  void Publish(int j);
  void Refresh(int j);
  double RefreshStale();

  const EpochSnapshot& snapshot_;
  std::vector<Row> rows_;
  RowTable row_table_;
  std::vector<Site> sites_;
  SiteTable table_;  // of what the vector arithmetic reads
  TenantPlaces tenants_;
  std::vector<double> delta_s_, own_s_;  // scratch of BestMove, per site
  std::vector<Undo> undo_;               // moves since the sums were last made afresh
  double fixed_s_ = 0;                   // bases of who is offloaded, local_s of who is not
  double verified_s_ = 0;                // the objective when the sums were last made afresh
  double lambda_s_;                      // in force; the rows' local_s are made with it
  uint32_t moves_ = 0;
  uint64_t evaluations_ = 0;
};

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_RELOCATION_STATE_H_
