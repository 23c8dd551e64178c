#include "scheduler/relocation.h"

#include <cmath>

#include "scheduler/delay_model.h"
#include "scheduler/vector_log2.h"

namespace goad::sched {
namespace {

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

}  // namespace

Relocation::Relocation(const EpochSnapshot& snapshot, double lambda_s, AssignmentOrder start)
    : snapshot_(snapshot), sites_(snapshot.sites.size()), lanes_((sites_.size() + 3) / 4), tenants_(snapshot.tenant_caps),
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
    lanes.disturbance_w[Lane(j)] = DisturbanceW(from, from.resident_interference_w);
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
    tenants_.Take(snapshot.candidates[i]);
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
        weight_s = query.prompt_bits / BandShareHz(site, 1);
        eligible = eligible && signal_w > 0;
      } else {
        (site.uplink_shared ? weight_s : fixed_upload_s) = MeasuredSeconds(site, query.prompt_bits, uplink_bps, 1);
        eligible = eligible && !std::isnan(uplink_bps);
      }
    }
    if (eligible || resident != nullptr) base_s = fixed_upload_s;
    if (site.compute == ComputeModel::kBatching) {
      base_s += BatchingSeconds(site, query, 0);
      load = query.expected_output_tokens * site.token_time_per_query_s;
    } else {
      load = WorkFlop(site, query);
    }
  }
}

// The upload of row i on site j per sharer.
double Relocation::OwnSeconds(uint32_t i, int j, double disturbance_w) const {
  if (!rows_[i].transmits) return 0;
  const double weight_s = At(i, j, kWeight);
  return LanesOf(j).radio[Lane(j)] == 1 ? weight_s / SpectralEfficiency(At(i, j, kSignal), disturbance_w) : weight_s;
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
  const double per_log2 = 1 / SpectralEfficiency(signal_w, disturbance_w);
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
  if (from != kLocal) tenants_.GiveBack(snapshot_.candidates[i]);
  if (to != kLocal) tenants_.Take(snapshot_.candidates[i]);
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

// A move that Settle may undo.
void Relocation::Shift(uint32_t i, int to) {
  undo_.push_back({i, rows_[i].moved, rows_[i].site});
  MoveTo(i, to);
  rows_[i].moved = ++moves_;
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
    for (; !undo_.empty(); undo_.pop_back()) {
      MoveTo(undo_.back().row, undo_.back().site);
      rows_[undo_.back().row].moved = undo_.back().moved;
    }
    verified_s_ = refresh();
  }
  undo_.clear();
  return better;
}

double Relocation::InterferenceSeconds(uint32_t i) const { return InterferenceCost(RowLanes(i), lanes_.data(), lanes_.size()); }

Leaving Relocation::LeavingOf(uint32_t i) const {
  const Row& row = rows_[i];
  Leaving leaving;
  leaving.transmits = row.transmits;
  if (row.transmits) leaving.elsewhere_s = InterferenceSeconds(i);
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

}  // namespace goad::sched
