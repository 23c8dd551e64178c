#include "scheduler/relocate_policy.h"

#include <algorithm>
#include <cmath>

#include "scheduler/goa_policy.h"
#include "scheduler/system_objective.h"
#include "scheduler/vector_log2.h"

namespace goad::sched {
namespace {

constexpr int kLocal = -1;

// Swaps look at every pair of candidates; with more than this many they are left out.
constexpr size_t kMostSwapping = 256;

// A move must lower the objective by this share of it: far above the rounding of the sums, so that moves cannot go in circles.
constexpr double kLeastGain = 1e-10;

// A round that lowers the objective by less than this share of it is the last; kMostRounds bounds the work whatever happens.
constexpr double kRoundWorthIt = 1e-5;
constexpr int kMostRounds = 30;

// Values of lambda tried until neither the delay nor the uncertainty left local is above GOA's.
constexpr int kMostLambdas = 6;

// Links this much better than the noise could overflow the arithmetic; nobody has one.
constexpr double kMostSinr = 1e290;

// Four sites at a time, all that the cost of a move depends on beside the row. See Relocation::Site for the meaning.
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

GOAD_WITH_AVX2 double InterferenceCost(const double* row, const SiteLanes* sites, size_t blocks) {
  Four sum = {};
  for (size_t b = 0; b < blocks; ++b) {
    Four signal, uplinks, slope;
    Load(row + 4 * (kRowFields * b + kSignal), &signal);
    Load(sites[b].uplinks, &uplinks);
    Load(sites[b].slope, &slope);
    sum += uplinks * slope * signal;
  }
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// An upper bound of the change of the objective for each site the row could go to (+infinity or NaN: it cannot), and its own
// upload per sharer there.
GOAD_WITH_AVX2 void MoveDeltas(const double* row, const SiteLanes* sites, size_t blocks, const Leaving& leaving, double* delta_s,
                               double* own_s) {
  for (size_t b = 0; b < blocks; ++b) {
    const double* lanes = row + 4 * kRowFields * b;
    const SiteLanes& site = sites[b];
    Four signal, weight, base, load, noise, disturbance, radio, uplinks, term, slope, site_load, factor, next, closed;
    Load(lanes + 4 * kSignal, &signal);
    Load(lanes + 4 * kWeight, &weight);
    Load(lanes + 4 * kBase, &base);
    Load(lanes + 4 * kLoad, &load);
    Load(site.noise_w, &noise);
    Load(site.disturbance_w, &disturbance);
    Load(site.radio, &radio);
    Load(site.uplinks, &uplinks);
    Load(site.term_s, &term);
    Load(site.slope, &slope);
    Load(site.load, &site_load);
    Load(site.factor, &factor);
    Load(site.next_factor, &next);
    Load(site.closed_s, &closed);
    const Four change = -leaving.radiates * signal;   // of the disturbance there: it stops interfering
    const Four quiet = disturbance + change;
    const Four after = quiet > noise ? quiet : noise;
    Four log2;
    Log2OnePlus<Series::kFine>(signal / after, &log2);
    const Four own = weight / (log2 * radio + (1.0 - radio));
    const Four join = (uplinks + leaving.transmits) * (term + slope * change + own) - uplinks * term +
                      next * (site_load + load) - factor * site_load + base + closed;
    const Four others = (leaving.transmits * radio - leaving.radiates) * (leaving.elsewhere_s - uplinks * slope * signal);
    Store(leaving.leave_s + leaving.radiating_s * radio + join + others, delta_s + 4 * b);
    Store(own, own_s + 4 * b);
  }
}

// The uploads per sharer of `padded` members of a shannon site, their derivatives by the disturbance, and both sums.
GOAD_WITH_AVX2 void TermsOf(const double* signal_w, const double* weight_s, size_t padded, double disturbance_w, double* own_s,
                            double* own_slope, double* sum_s, double* sum_slope) {
  Four sum = {}, slopes = {};
  const double per_disturbance = 1 / disturbance_w;
  for (size_t k = 0; k < padded; k += 4) {
    Four signal, weight, log2;
    Load(signal_w + k, &signal);
    Load(weight_s + k, &weight);
    Log2OnePlus<Series::kFine>(signal * per_disturbance, &log2);
    const Four per_log2 = 1.0 / log2;
    const Four own = weight * per_log2;
    const Four slope = own * per_log2 * M_LOG2E * signal * per_disturbance / (disturbance_w + signal);
    sum += own;
    slopes += slope;
    Store(own, own_s + k);
    Store(slope, own_slope + k);
  }
  *sum_s = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  *sum_slope = (slopes[0] + slopes[1]) + (slopes[2] + slopes[3]);
}

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
  bool TenantFull(uint32_t i) const {
    return !tenant_free_.empty() && tenant_free_[static_cast<size_t>(snapshot_.candidates[i].tenant)] <= 0;
  }
  double OwnSeconds(uint32_t i, int j, double disturbance_w) const;

  void AddRow(const Candidate& query, const Resident* resident);
  void AddMember(uint32_t i, int j);
  void Publish(int j);
  void Refresh(int j);
  double ObjectiveSeconds() const;
  void MoveTo(uint32_t i, int to);
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
  std::vector<int> tenant_free_;
  std::vector<double> delta_s_, own_s_;         // scratch of BestMove, per site
  AssignmentOrder start_;
  std::vector<std::pair<uint32_t, int>> undo_;  // (row, where it was): moves since the sums were last made afresh
  double fixed_s_ = 0;      // bases of who is offloaded, local_s of who is not
  double verified_s_ = 0;   // the objective when the sums were last made afresh
  double lambda_s_;         // in force; the rows' local_s are made with it
  bool back_to_start_ = false;
  uint32_t moves_ = 0;
  uint64_t evaluations_ = 0;
};

Relocation::Relocation(const EpochSnapshot& snapshot, double lambda_s, AssignmentOrder start)
    : snapshot_(snapshot), sites_(snapshot.sites.size()), lanes_((sites_.size() + 3) / 4), tenant_free_(snapshot.tenant_caps),
      delta_s_(4 * lanes_.size()), own_s_(4 * lanes_.size()), start_(std::move(start)), lambda_s_(lambda_s) {
  for (int j = 0; j < sites(); ++j) {
    const SiteState& from = snapshot.sites[static_cast<size_t>(j)];
    Site& site = SiteAt(j);
    const bool batching = from.compute == ComputeModel::kBatching;
    site.per_max_share = batching ? 0 : 1 / from.max_share_flops;
    site.per_sharer = batching ? 1.0 / from.backends : 1 / from.compute_flops;
    site.queries = from.active_queries;
    site.max_queries = from.max_queries;
    SiteLanes& lanes = LanesOf(j);
    lanes.uplinks[Lane(j)] = from.active_uplinks;
    if (from.uplink != UplinkModel::kShannon) continue;
    lanes.radio[Lane(j)] = 1;
    lanes.noise_w[Lane(j)] = from.noise_w;
    lanes.disturbance_w[Lane(j)] = from.resident_interference_w + from.noise_w;
  }
  rows_.reserve(snapshot.candidates.size() + snapshot.residents.size());
  rows_lanes_.reserve(rows_.capacity() * 4 * kRowFields * lanes_.size());
  for (uint32_t i = 0; i < snapshot.candidates.size(); ++i) {
    const Candidate& candidate = snapshot.candidates[i];
    AddRow(candidate, nullptr);
    rows_[i].local_s = candidate.local_delay_s + lambda_s * candidate.uncertainty;
    rows_[i].deadline_s = candidate.deadline_s * (1 - 1e-9);
    rows_[i].forced = snapshot.Forced(i);
    fixed_s_ += rows_[i].local_s;
  }
  for (const Resident& resident : snapshot.residents) AddRow(resident.query, &resident);
  for (const auto& [i, site] : start_) {  // the disturbances first: who counts as uploading depends on the final ones
    if (!Radiates(i, static_cast<int>(site))) continue;
    for (int k = 0; k < sites(); ++k) {
      if (k != static_cast<int>(site)) LanesOf(k).disturbance_w[Lane(k)] += At(i, k, kSignal);
    }
  }
  for (const auto& [i, site] : start_) {
    const int j = static_cast<int>(site);
    rows_[i].site = j;
    // For ever uploading, where GOA had to put it: no move of others changes that, and it takes its place as it is.
    rows_[i].pinned = !std::isfinite(OwnSeconds(i, j, LanesOf(j).disturbance_w[Lane(j)]));
    ++SiteAt(j).queries;
    LanesOf(j).uplinks[Lane(j)] += rows_[i].transmits;
    LanesOf(j).load[Lane(j)] += At(i, j, kLoad);
    if (!rows_[i].pinned) AddMember(i, j);
    if (!tenant_free_.empty()) --tenant_free_[static_cast<size_t>(snapshot.candidates[i].tenant)];
    fixed_s_ += (std::isfinite(At(i, j, kBase)) ? At(i, j, kBase) : 0) - rows_[i].local_s;
  }
  for (uint32_t i = static_cast<uint32_t>(snapshot.candidates.size()); i < rows_.size(); ++i) {
    const int j = static_cast<int>(snapshot.residents[i - snapshot.candidates.size()].site);
    rows_[i].site = j;
    rows_[i].pinned = true;
    LanesOf(j).load[Lane(j)] += At(i, j, kLoad);
    if (std::isfinite(OwnSeconds(i, j, LanesOf(j).disturbance_w[Lane(j)]))) AddMember(i, j);
  }
  for (int j = 0; j < sites(); ++j) {
    Publish(j);
    Refresh(j);
  }
  verified_s_ = ObjectiveSeconds();
}

void Relocation::AddRow(const Candidate& query, const Resident* resident) {
  const size_t i = rows_.size();
  Row row;
  row.transmits = query.prompt_bits > 0;
  rows_.push_back(row);
  rows_lanes_.resize(rows_lanes_.size() + 4 * kRowFields * lanes_.size());
  double* lanes = rows_lanes_.data() + i * 4 * kRowFields * lanes_.size();
  for (size_t j = 0; j < 4 * lanes_.size(); ++j) {
    double& signal_w = lanes[4 * (kRowFields * (j / 4) + kSignal) + j % 4];
    double& weight_s = lanes[4 * (kRowFields * (j / 4) + kWeight) + j % 4];
    double& base_s = lanes[4 * (kRowFields * (j / 4) + kBase) + j % 4];
    double& load = lanes[4 * (kRowFields * (j / 4) + kLoad) + j % 4];
    base_s = kInfinity;
    if (j >= sites_.size() || (resident != nullptr && ToIndex(resident->site) != j)) continue;
    const SiteState& site = snapshot_.sites[j];
    const double gain = resident != nullptr ? resident->gain : snapshot_.Gain(i, j);
    const double uplink_bps = resident != nullptr ? resident->uplink_bps : snapshot_.UplinkBps(i, j);
    bool eligible = site.accepting && (!query.chat || site.chat);
    double fixed_upload_s = 0;
    if (!row.transmits) {
      signal_w = 1;  // never received anywhere; with weight 0 any number gives an upload of 0 s
    } else {
      signal_w = std::isnan(gain) ? 0 : query.tx_power_w * gain;
      if (site.uplink == UplinkModel::kShannon) {
        signal_w = std::min(signal_w, kMostSinr * site.noise_w);
        weight_s = query.prompt_bits / site.bandwidth_hz;
        eligible = eligible && signal_w > 0;
      } else {
        (site.uplink_shared ? weight_s : fixed_upload_s) = query.prompt_bits / uplink_bps;
        eligible = eligible && !std::isnan(uplink_bps);
      }
    }
    if (eligible || resident != nullptr) base_s = fixed_upload_s;
    if (site.compute == ComputeModel::kBatching) {
      base_s += query.prompt_tokens / site.prefill_tokens_per_s + query.expected_output_tokens * site.token_time_s;
      load = query.expected_output_tokens * site.token_time_per_query_s;
    } else {
      load = query.edge_work_flop + site.work_flop_per_token * (query.prompt_tokens + query.expected_output_tokens);
    }
  }
}

// The upload of row i on site j per sharer.
double Relocation::OwnSeconds(uint32_t i, int j, double disturbance_w) const {
  if (!rows_[i].transmits) return 0;
  const double weight_s = At(i, j, kWeight);
  return LanesOf(j).radio[Lane(j)] == 1 ? weight_s / std::log2(1 + At(i, j, kSignal) / disturbance_w) : weight_s;
}

// Lists the row at its site, with its own term at the present disturbance; the sums are the caller's.
void Relocation::AddMember(uint32_t i, int j) {
  Site& site = SiteAt(j);
  const size_t slot = site.members.size();
  rows_[i].slot = slot;
  site.members.push_back(i);
  if (slot == site.signal_w.size()) {
    site.signal_w.resize(slot + 4, 1);
    site.weight_s.resize(slot + 4, 0);
    site.own_s.resize(slot + 4, 0);
    site.own_slope.resize(slot + 4, 0);
  }
  site.weight_s[slot] = rows_[i].transmits ? At(i, j, kWeight) : 0;
  site.signal_w[slot] = rows_[i].transmits && At(i, j, kSignal) > 0 ? At(i, j, kSignal) : 1;
  site.own_s[slot] = site.weight_s[slot];
  site.own_slope[slot] = 0;
  if (!Radiates(i, j)) return;
  const double disturbance_w = LanesOf(j).disturbance_w[Lane(j)], signal_w = site.signal_w[slot];
  const double per_log2 = 1 / std::log2(1 + signal_w / disturbance_w);
  const double own_s = site.weight_s[slot] * per_log2;
  site.own_slope[slot] = own_s * per_log2 * M_LOG2E * signal_w / (disturbance_w * (disturbance_w + signal_w));
  site.own_s[slot] = own_s - site.own_slope[slot] * (disturbance_w - site.reference_w);
}

// Brings the lanes of a site up to its number of queries.
void Relocation::Publish(int j) {
  const Site& site = SiteAt(j);
  SiteLanes& lanes = LanesOf(j);
  lanes.factor[Lane(j)] = site.Factor(site.queries);
  lanes.next_factor[Lane(j)] = site.Factor(site.queries + 1);
  lanes.closed_s[Lane(j)] = site.queries < site.max_queries ? 0 : kInfinity;
}

// Makes the terms of a site afresh.
void Relocation::Refresh(int j) {
  Site& site = SiteAt(j);
  SiteLanes& lanes = LanesOf(j);
  site.stale = false;
  site.reference_w = lanes.disturbance_w[Lane(j)];
  if (lanes.radio[Lane(j)] == 1) {
    TermsOf(site.signal_w.data(), site.weight_s.data(), site.signal_w.size(), site.reference_w, site.own_s.data(),
            site.own_slope.data(), &lanes.term_s[Lane(j)], &lanes.slope[Lane(j)]);
    return;
  }
  lanes.term_s[Lane(j)] = 0;
  for (size_t slot = 0; slot < site.members.size(); ++slot) lanes.term_s[Lane(j)] += site.own_s[slot];
}

double Relocation::ObjectiveSeconds() const {
  double total_s = fixed_s_;
  for (int j = 0; j < sites(); ++j) {
    const SiteLanes& lanes = LanesOf(j);
    total_s += lanes.uplinks[Lane(j)] * lanes.term_s[Lane(j)] + lanes.factor[Lane(j)] * lanes.load[Lane(j)];
  }
  return total_s;
}

void Relocation::MoveTo(uint32_t i, int to) {
  Row& row = rows_[i];
  const int from = row.site;
  if (from != kLocal) {
    Site& site = SiteAt(from);
    SiteLanes& lanes = LanesOf(from);
    const size_t l = Lane(from), slot = row.slot, last = site.members.size() - 1;
    lanes.term_s[l] -= site.own_s[slot] + site.own_slope[slot] * (lanes.disturbance_w[l] - site.reference_w);
    lanes.slope[l] -= site.own_slope[slot];
    lanes.load[l] -= At(i, from, kLoad);
    lanes.uplinks[l] -= row.transmits;
    --site.queries;
    rows_[site.members[last]].slot = slot;
    site.members[slot] = site.members[last];
    site.members.pop_back();
    for (auto* list : {&site.signal_w, &site.weight_s, &site.own_s, &site.own_slope}) (*list)[slot] = (*list)[last];
    site.weight_s[last] = site.own_s[last] = site.own_slope[last] = 0;
    fixed_s_ -= At(i, from, kBase);
    Publish(from);
  } else {
    fixed_s_ -= row.local_s;
  }
  const bool radiates = Radiates(i, from), will_radiate = Radiates(i, to);
  if (radiates || will_radiate) {
    for (int k = 0; k < sites(); ++k) {
      SiteLanes& lanes = LanesOf(k);
      const size_t l = Lane(k);
      if (lanes.radio[l] != 1) continue;
      const double change_w = ((will_radiate && k != to) - (radiates && k != from)) * At(i, k, kSignal);
      if (change_w == 0) continue;
      const double before_w = lanes.disturbance_w[l];
      lanes.disturbance_w[l] = std::max(lanes.noise_w[l], before_w + change_w);
      lanes.term_s[l] += lanes.slope[l] * (lanes.disturbance_w[l] - before_w);
      SiteAt(k).stale = true;
    }
  }
  row.site = to;
  if (!tenant_free_.empty()) {
    tenant_free_[static_cast<size_t>(snapshot_.candidates[i].tenant)] += (from != kLocal) - (to != kLocal);
  }
  if (to == kLocal) {
    fixed_s_ += row.local_s;
    return;
  }
  Site& site = SiteAt(to);
  SiteLanes& lanes = LanesOf(to);
  const size_t l = Lane(to);
  AddMember(i, to);
  lanes.term_s[l] += site.own_s[row.slot] + site.own_slope[row.slot] * (lanes.disturbance_w[l] - site.reference_w);
  lanes.slope[l] += site.own_slope[row.slot];
  lanes.load[l] += At(i, to, kLoad);
  lanes.uplinks[l] += row.transmits;
  ++site.queries;
  fixed_s_ += At(i, to, kBase);
  Publish(to);
}

// Makes the stale sums afresh. When the moves since the last time did not lower the objective they are undone: false.
bool Relocation::Settle() {
  const auto refresh = [&] {
    for (int j = 0; j < sites(); ++j) {
      if (SiteAt(j).stale) Refresh(j);
    }
    return ObjectiveSeconds();
  };
  const double now_s = refresh();
  const bool better = now_s < verified_s_;
  if (better) {
    verified_s_ = now_s;
  } else {
    for (; !undo_.empty(); undo_.pop_back()) MoveTo(undo_.back().first, undo_.back().second);
    verified_s_ = refresh();
  }
  undo_.clear();
  return better;
}

Leaving Relocation::LeavingOf(uint32_t i) const {
  const Row& row = rows_[i];
  Leaving leaving;
  leaving.transmits = row.transmits;
  if (row.transmits) leaving.elsewhere_s = InterferenceCost(RowLanes(i), lanes_.data(), lanes_.size());
  if (row.site == kLocal) {
    leaving.leave_s = -row.local_s;
    return leaving;
  }
  const int j = row.site;
  const size_t l = Lane(j);
  const Site& site = SiteAt(j);
  const SiteLanes& lanes = LanesOf(j);
  const double signal_w = At(i, j, kSignal);
  const double own_s = site.own_s[row.slot] + site.own_slope[row.slot] * (lanes.disturbance_w[l] - site.reference_w);
  const double left = lanes.uplinks[l] - row.transmits;
  leaving.radiates = Radiates(i, j);
  leaving.leave_s = left * (lanes.term_s[l] - own_s) - lanes.uplinks[l] * lanes.term_s[l] +
                    site.Factor(site.queries - 1) * (lanes.load[l] - At(i, j, kLoad)) - lanes.factor[l] * lanes.load[l] -
                    At(i, j, kBase);
  if (row.transmits) leaving.radiating_s = left * (lanes.slope[l] - site.own_slope[row.slot]) * signal_w;
  leaving.elsewhere_s -= lanes.uplinks[l] * lanes.slope[l] * signal_w * row.transmits;
  return leaving;
}

bool Relocation::MeetsDeadline(uint32_t i, int to, double own_s, int uplinks, int queries) const {
  if (rows_[i].deadline_s == kInfinity) return true;
  return uplinks * own_s + At(i, to, kBase) + SiteAt(to).Factor(queries) * At(i, to, kLoad) <= rows_[i].deadline_s;
}

// The move of row i whose upper bound is least.
Relocation::Move Relocation::BestMove(uint32_t i) {
  const Row& row = rows_[i];
  const Leaving leaving = LeavingOf(i);
  Move best;
  if (row.site != kLocal && !row.forced) {
    best = {leaving.leave_s - leaving.radiates * leaving.elsewhere_s + row.local_s, kLocal, true};
  }
  if (row.site == kLocal && TenantFull(i)) return best;
  MoveDeltas(RowLanes(i), lanes_.data(), lanes_.size(), leaving, delta_s_.data(), own_s_.data());
  evaluations_ += sites_.size();
  for (int to = 0; to < sites(); ++to) {
    const double delta_s = delta_s_[static_cast<size_t>(to)];
    if (to == row.site || !(best.found ? delta_s < best.delta_s : delta_s < kInfinity)) continue;
    const int uplinks = static_cast<int>(LanesOf(to).uplinks[Lane(to)]) + row.transmits;
    if (!MeetsDeadline(i, to, own_s_[static_cast<size_t>(to)], uplinks, SiteAt(to).queries + 1)) continue;
    best = {delta_s, to, true};
  }
  return best;
}

// One look at everybody. The sums are made afresh after every `batch` moves.
void Relocation::Round(size_t batch) {
  for (uint32_t i = 0; i < snapshot_.candidates.size(); ++i) {
    if (rows_[i].pinned) continue;
    const Move move = BestMove(i);
    if (!move.found || !(move.delta_s < -kLeastGain * std::abs(verified_s_))) continue;
    undo_.emplace_back(i, rows_[i].site);
    MoveTo(i, move.to);
    rows_[i].moved = ++moves_;
    if (undo_.size() >= batch) Settle();
  }
  if (!undo_.empty()) Settle();
}

// Makes rows i and k change places, if that lowers the objective.
bool Relocation::TrySwap(uint32_t i, uint32_t k) {
  const int at_i = rows_[i].site, at_k = rows_[k].site;
  undo_ = {{k, at_k}, {i, at_i}};
  MoveTo(i, at_k);
  MoveTo(k, at_i);
  if (!Settle()) return false;
  rows_[i].moved = ++moves_;
  rows_[k].moved = ++moves_;
  return true;
}

// One round of swaps of a local candidate with an offloaded one, per site. With n and the site's own disturbance unchanged the
// bound is a sum of one part for each of the two, so the best pair is found without looking at pairs.
bool Relocation::SwapWithLocal() {
  bool any = false;
  for (int j = 0; j < sites(); ++j) {
    const size_t l = Lane(j);
    const SiteLanes& lanes = LanesOf(j);
    const Site& site = SiteAt(j);
    if (site.members.empty()) continue;
    // What row m costs everybody while it is on site j, as far as it differs from another row there.
    const auto cost_s = [&](uint32_t m, double own_s) {
      const double others_s = rows_[m].transmits && lanes.radio[l] == 1
                                  ? InterferenceCost(RowLanes(m), lanes_.data(), lanes_.size()) -
                                        lanes.uplinks[l] * lanes.slope[l] * At(m, j, kSignal)
                                  : 0;
      return lanes.uplinks[l] * own_s + lanes.factor[l] * At(m, j, kLoad) + At(m, j, kBase) + others_s - rows_[m].local_s;
    };
    Move cheapest, dearest;
    uint32_t in = 0, out = 0;
    for (uint32_t m = 0; m < snapshot_.candidates.size(); ++m) {
      const Row& row = rows_[m];
      if (row.pinned || !row.transmits) continue;
      if (row.site == kLocal && std::isfinite(At(m, j, kBase))) {
        const double own_s = OwnSeconds(m, j, lanes.disturbance_w[l]);
        const double c = cost_s(m, own_s);
        if (cheapest.found && !(c < cheapest.delta_s)) continue;
        if (!MeetsDeadline(m, j, own_s, static_cast<int>(lanes.uplinks[l]), site.queries)) continue;
        cheapest = {c, j, true};
        in = m;
      } else if (row.site == j && !row.forced) {
        const double c = cost_s(m, site.own_s[row.slot]);
        if (dearest.found && !(c > dearest.delta_s)) continue;
        dearest = {c, j, true};
        out = m;
      }
    }
    evaluations_ += snapshot_.candidates.size();
    if (!cheapest.found || !dearest.found || !(cheapest.delta_s - dearest.delta_s < -kLeastGain * std::abs(verified_s_))) continue;
    if (TenantFull(in) && snapshot_.candidates[in].tenant != snapshot_.candidates[out].tenant) continue;
    any |= TrySwap(in, out);
  }
  return any;
}

// One round of swaps of two candidates on different sites, both of them shannon. A pair is looked at closely only when it would
// gain with the uploads of the two bounded from below.
bool Relocation::SwapBetweenSites() {
  bool any = false;
  for (uint32_t i = 0; i < snapshot_.candidates.size(); ++i) {
    if (rows_[i].pinned || !Radiates(i, rows_[i].site)) continue;
    for (int q = rows_[i].site + 1; q < sites(); ++q) {
      if (LanesOf(q).radio[Lane(q)] != 1 || !std::isfinite(At(i, q, kBase))) continue;
      const int p = rows_[i].site;
      const SiteLanes &at_p = LanesOf(p), &at_q = LanesOf(q);
      const size_t lp = Lane(p), lq = Lane(q);
      const double own_i_s = OwnSeconds(i, q, at_q.disturbance_w[lq]);
      const double i_on_p_s = SiteAt(p).own_s[rows_[i].slot], i_slope = SiteAt(p).own_slope[rows_[i].slot];
      const double sip_w = At(i, p, kSignal), siq_w = At(i, q, kSignal);
      const double i_fixed_s = at_q.factor[lq] * At(i, q, kLoad) - at_p.factor[lp] * At(i, p, kLoad) + At(i, q, kBase) -
                               At(i, p, kBase);
      for (size_t slot = 0; slot < SiteAt(q).members.size(); ++slot) {
        const uint32_t k = SiteAt(q).members[slot];
        if (rows_[k].pinned || !rows_[k].transmits || !std::isfinite(At(k, p, kBase))) continue;
        ++evaluations_;
        const double skp_w = At(k, p, kSignal), skq_w = At(k, q, kSignal);
        const double more_p_w = sip_w - skp_w, more_q_w = skq_w - siq_w;
        const double p_after_w = std::max(at_p.noise_w[lp], at_p.disturbance_w[lp] + more_p_w);
        const double q_after_w = std::max(at_q.noise_w[lq], at_q.disturbance_w[lq] + more_q_w);
        const double k_on_q_s = SiteAt(q).own_s[slot], k_slope = SiteAt(q).own_slope[slot];
        const double without_own_s =
            at_p.uplinks[lp] * ((at_p.slope[lp] - i_slope) * more_p_w - i_on_p_s) +
            at_q.uplinks[lq] * ((at_q.slope[lq] - k_slope) * more_q_w - k_on_q_s) + i_fixed_s +
            at_p.factor[lp] * At(k, p, kLoad) - at_q.factor[lq] * At(k, q, kLoad) + At(k, p, kBase) - At(k, q, kBase);
        // An upload grows with the disturbance, at most in proportion.
        const double least_i_s = own_i_s * std::min(1.0, q_after_w / at_q.disturbance_w[lq]);
        const double limit_s = -kLeastGain * std::abs(verified_s_);
        if (!(without_own_s + at_q.uplinks[lq] * least_i_s < limit_s)) continue;
        const double i_s = OwnSeconds(i, q, q_after_w), k_s = OwnSeconds(k, p, p_after_w);
        if (!(without_own_s + at_q.uplinks[lq] * i_s + at_p.uplinks[lp] * k_s < limit_s)) continue;
        if (!MeetsDeadline(i, q, i_s, static_cast<int>(at_q.uplinks[lq]), SiteAt(q).queries)) continue;
        if (!MeetsDeadline(k, p, k_s, static_cast<int>(at_p.uplinks[lp]), SiteAt(p).queries)) continue;
        if (!TrySwap(i, k)) continue;
        any = true;
        break;  // i is elsewhere now; its next chance is with the sites after that one
      }
      if (rows_[i].site != p) q = std::max(q, rows_[i].site);
    }
  }
  return any;
}

// To a local optimum of the objective.
void Relocation::Descend() {
  const size_t users = snapshot_.candidates.size();
  const size_t batch = std::max<size_t>(1, users / 256);
  const auto settle_down = [&] {
    for (int round = 0; round < kMostRounds; ++round) {
      const double before_s = verified_s_;
      Round(batch);
      if (!(verified_s_ < before_s - kRoundWorthIt * std::abs(before_s))) return;
    }
  };
  settle_down();
  if (users > kMostSwapping) return;
  const bool with_local = SwapWithLocal();
  if (SwapBetweenSites() || with_local) settle_down();
}

void Relocation::SetLambda(double lambda_s) {
  for (uint32_t i = 0; i < snapshot_.candidates.size(); ++i) {
    const double more_s = (lambda_s - lambda_s_) * snapshot_.candidates[i].uncertainty;
    rows_[i].local_s += more_s;
    if (rows_[i].site == kLocal) fixed_s_ += more_s;
  }
  lambda_s_ = lambda_s;
  verified_s_ = ObjectiveSeconds();
}

Relocation::Balance Relocation::Measure() const {
  Balance balance;
  for (uint32_t i = 0; i < snapshot_.candidates.size(); ++i) {
    if (rows_[i].site == kLocal) balance.local_uncertainty += snapshot_.candidates[i].uncertainty;
  }
  balance.delay_s = verified_s_ - lambda_s_ * balance.local_uncertainty;
  return balance;
}

void Relocation::Run() {
  const Balance goa = Measure();
  if (lambda_s_ == 0) return Descend();
  double low_s = 0, high_s = kInfinity;
  for (int tries = 0; tries < kMostLambdas; ++tries) {
    Descend();
    const Balance now = Measure();
    const bool less_accurate = now.local_uncertainty > goa.local_uncertainty * (1 + kLeastGain);
    if (!less_accurate && now.delay_s <= goa.delay_s * (1 + kLeastGain)) return;
    (less_accurate ? low_s : high_s) = lambda_s_;
    SetLambda(high_s == kInfinity ? 2 * low_s : low_s == 0 ? high_s / 2 : std::sqrt(low_s * high_s));
  }
  back_to_start_ = true;
}

AssignmentOrder Relocation::TakeOrder() {
  if (back_to_start_) return std::move(start_);
  AssignmentOrder order;
  order.reserve(start_.size());
  for (const auto& [i, site] : start_) {
    if (rows_[i].moved == 0) order.emplace_back(i, site);
  }
  std::vector<uint32_t> movers;
  for (uint32_t i = 0; i < snapshot_.candidates.size(); ++i) {
    if (rows_[i].site != kLocal && rows_[i].moved != 0) movers.push_back(i);
  }
  std::sort(movers.begin(), movers.end(), [&](uint32_t a, uint32_t b) { return rows_[a].moved < rows_[b].moved; });
  for (const uint32_t i : movers) order.emplace_back(i, ToSite(static_cast<size_t>(rows_[i].site)));
  return order;
}

}  // namespace

EpochResult RelocatePolicy::Decide(const EpochSnapshot& snapshot) const {
  GreedySolver goa(snapshot);
  Relocation relocation(snapshot, lambda_s_, GoaOrder(goa, snapshot));
  relocation.Run();
  AssignmentOrder order = relocation.TakeOrder();
  LoadState state = ReplayOrder(snapshot, order);
  PlaceForced(snapshot, state, order);
  return MakeResult(snapshot, std::move(order), state, Reason::kDelayGain, Reason::kNoGain,
                    goa.evaluations() + relocation.evaluations());
}

}  // namespace goad::sched
