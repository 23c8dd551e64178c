// The tables behind relocation_state, four sites at a time, and the vector arithmetic over them. Internal to it.
// Yes and no are the doubles 1 and 0 wherever they are factors (SiteLanes::shannon, Leaving): the arithmetic has no
// branch then.
#ifndef GOAD_SCHEDULER_RELOCATION_TABLES_H_
#define GOAD_SCHEDULER_RELOCATION_TABLES_H_

#include <cstddef>
#include <vector>

#include "scheduler/types.h"

namespace goad::sched {

// Four sites: all that the cost of a move depends on beside its row. The objective has uplinks * term_s + factor * load
// of each.
struct SiteLanes {
  double noise_w[4] = {1, 1, 1, 1};
  double disturbance_w[4] = {1, 1, 1, 1};
  double shannon[4] = {};      // 1 or 0
  double uplinks[4] = {};      // how many share the uplink
  double term_s[4] = {};       // sum of the members' uploads per sharer
  double slope[4] = {};        // its derivative by the disturbance, s/W
  double load[4] = {};         // sum of the members' compute loads
  double factor[4] = {};       // of the load, with the queries there are
  double next_factor[4] = {};  // and with one more
  double closed_s[4] = {};     // +infinity when full, else 0
};

class SiteTable {
 public:
  // One site of its block. Double is double or const double.
  template <typename Double>
  struct Lane {
    Double &noise_w, &disturbance_w, &shannon, &uplinks, &term_s, &slope, &load, &factor, &next_factor, &closed_s;
    bool is_shannon() const { return shannon == 1; }
  };

  explicit SiteTable(size_t sites) : blocks_((sites + 3) / 4) {}
  Lane<double> operator[](int j) { return Of<double>(blocks_[static_cast<size_t>(j) / 4], static_cast<size_t>(j) % 4); }
  Lane<const double> operator[](int j) const {
    return Of<const double>(blocks_[static_cast<size_t>(j) / 4], static_cast<size_t>(j) % 4);
  }
  const std::vector<SiteLanes>& blocks() const { return blocks_; }

 private:
  template <typename Double, typename Block>
  static Lane<Double> Of(Block& b, size_t l) {
    return {b.noise_w[l], b.disturbance_w[l], b.shannon[l], b.uplinks[l],     b.term_s[l],
            b.slope[l],   b.load[l],          b.factor[l],  b.next_factor[l], b.closed_s[l]};
  }

  std::vector<SiteLanes> blocks_;
};

// What row i on site j costs: sharers * (weight / log2(1 + signal/disturbance) | weight) + base + load * the site's
// factor.
enum RowField : size_t {
  kSignal,  // received power, W; 0 = unknown
  kWeight,  // s: the upload alone on the site, per bit/s/Hz with shannon
  kBase,    // s; +infinity = not eligible
  kLoad,    // equal share: FLOP; batching: seconds per query on a backend
  kRowFields
};

class RowTable {
 public:
  RowTable(size_t sites, size_t rows) : row_size_((sites + 3) / 4 * 4 * kRowFields) {
    values_.reserve(rows * row_size_);
  }
  // Row i is the i-th so added: candidate i of the snapshot, or a resident's query, which is eligible where it is.
  void AddCandidate(const EpochSnapshot& snapshot, size_t i);
  void AddResident(const EpochSnapshot& snapshot, const Resident& resident);

  double At(size_t i, int j, RowField field) const { return values_[Index(i, static_cast<size_t>(j), field)]; }
  const double* Row(size_t i) const { return values_.data() + i * row_size_; }

 private:
  void AddRow();
  // The cell of the last row on site j.
  void Fill(size_t j, const SiteState& site, const Candidate& query, double gain, double uplink_bps);
  double& Last(size_t j, RowField field) { return values_[Index(rows_ - 1, j, field)]; }
  size_t Index(size_t i, size_t j, RowField field) const {
    return i * row_size_ + 4 * (kRowFields * (j / 4) + field) + j % 4;
  }

  const size_t row_size_;
  size_t rows_ = 0;
  std::vector<double> values_;  // per row and block of sites: the fields, four sites each
};

// What a move of one row needs beside the tables.
struct Leaving {
  double transmits = 0;    // 1: it has something to upload
  double radiates = 0;     // 1: it interferes now
  double leave_s = 0;      // change of the objective at the old place, were it not to radiate any more
  double radiating_s = 0;  // and what comes on top when it radiates from elsewhere
  double elsewhere_s = 0;  // sum over all sites but the old one of uplinks * slope * signal
};

// Sum over the sites of uplinks * slope * signal: what a row costs all of them as interference.
double InterferenceCost(const double* row, const SiteTable& sites);

// An upper bound of the change of the objective for each site the row could go to (+infinity or NaN: it cannot), and
// its own upload per sharer there. Both are padded to fours.
void MoveDeltas(const double* row, const SiteTable& sites, const Leaving& leaving, double* delta_s, double* own_s);

// The uploads per sharer of `padded` (a multiple of four) members of a shannon site, their derivatives by the
// disturbance, and both sums.
void TermsOf(const double* signal_w, const double* weight_s, size_t padded, double disturbance_w, double* own_s,
             double* own_slope, double* sum_s, double* sum_slope);

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_RELOCATION_TABLES_H_
