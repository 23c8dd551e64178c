#include "scheduler/relocation_state.h"

#include <algorithm>
#include <cmath>

#include "scheduler/delay_model.h"

namespace goad::sched {

// --- from the snapshot -----------------------------------------------------------------------------------------------

RelocationState::RelocationState(const EpochSnapshot& snapshot, double lambda_s, const AssignmentOrder& start)
    : snapshot_(snapshot),
      row_table_(snapshot.sites.size(), snapshot.candidates.size() + snapshot.residents.size()),
      sites_(snapshot.sites.size()),
      table_(snapshot.sites.size()),
      tenants_(snapshot.tenant_caps),
      delta_s_(4 * table_.blocks().size()),
      own_s_(4 * table_.blocks().size()),
      lambda_s_(lambda_s) {
  for (int j = 0; j < sites(); ++j) AddSite(j);
  rows_.reserve(snapshot.candidates.size() + snapshot.residents.size());
  for (uint32_t i = 0; i < users(); ++i) {
    const Candidate& candidate = snapshot.candidates[i];
    Row& row = rows_.emplace_back();
    row.transmits = candidate.prompt_bits > 0;
    row.local_s = candidate.local_delay_s + lambda_s * candidate.uncertainty;
    row.deadline_s = candidate.deadline_s * (1 - 1e-9);  // the sums here round otherwise than delay_model
    row.forced = snapshot.Forced(i);
    row_table_.AddCandidate(snapshot, i);
    fixed_s_ += row.local_s;
  }
  for (const Resident& resident : snapshot.residents) {
    rows_.emplace_back().transmits = resident.query.prompt_bits > 0;
    row_table_.AddResident(snapshot, resident);
  }
  PlaceCandidates(start);
  PlaceResidents();
  for (int j = 0; j < sites(); ++j) {
    Publish(j);
    Refresh(j);
  }
  verified_s_ = ObjectiveSeconds();
}

void RelocationState::AddSite(int j) {
  const SiteState& from = snapshot_.sites[static_cast<size_t>(j)];
  Site& site = SiteAt(j);
  const bool batching = from.compute == ComputeModel::kBatching;
  site.per_max_share = batching ? 0 : 1 / from.max_share_flops;
  site.per_sharer = batching ? 1.0 / from.backends : 1 / from.compute_flops;
  site.queries = from.active_queries;
  site.max_queries = from.max_queries;
  const auto lane = table_[j];
  lane.uplinks = from.active_uplinks;
  if (from.uplink != UplinkModel::kShannon) return;
  lane.shannon = 1;
  lane.noise_w = from.noise_w;
  lane.disturbance_w = DisturbanceW(from, from.resident_interference_w);
}

void RelocationState::PlaceCandidates(const AssignmentOrder& start) {
  for (const auto& [i, site] : start) {  // the disturbances first: who counts as uploading depends on the final ones
    if (!Radiates(i, static_cast<int>(site))) continue;
    for (int k = 0; k < sites(); ++k) {
      if (k != static_cast<int>(site)) table_[k].disturbance_w += At(i, k, kSignal);
    }
  }
  for (const auto& [i, site] : start) {
    const int j = static_cast<int>(site);
    rows_[i].site = j;
    // For ever uploading, where GOA had to put it: no move of others changes that, and it takes its place as it is.
    rows_[i].pinned = !std::isfinite(OwnSeconds(i, j, table_[j].disturbance_w));
    ++SiteAt(j).queries;
    table_[j].uplinks += rows_[i].transmits;
    table_[j].load += At(i, j, kLoad);
    if (!rows_[i].pinned) AddMember(i, j);
    tenants_.Take(snapshot_.candidates[i]);
    fixed_s_ += (std::isfinite(At(i, j, kBase)) ? At(i, j, kBase) : 0) - rows_[i].local_s;
  }
}

// They are counted already; what is added is what they suffer.
void RelocationState::PlaceResidents() {
  for (uint32_t i = users(); i < rows_.size(); ++i) {
    const int j = static_cast<int>(snapshot_.residents[i - users()].site);
    rows_[i].site = j;
    rows_[i].pinned = true;
    table_[j].load += At(i, j, kLoad);
    if (std::isfinite(OwnSeconds(i, j, table_[j].disturbance_w))) AddMember(i, j);
  }
}

// --- what it costs ---------------------------------------------------------------------------------------------------

// The upload of row i on site j per sharer.
double RelocationState::OwnSeconds(uint32_t i, int j, double disturbance_w) const {
  if (!rows_[i].transmits) return 0;
  const double weight_s = At(i, j, kWeight);
  return Shannon(j) ? weight_s / SpectralEfficiency(At(i, j, kSignal), disturbance_w) : weight_s;
}

double RelocationState::ObjectiveSeconds() const {
  double total_s = fixed_s_;
  for (int j = 0; j < sites(); ++j) {
    const auto lane = table_[j];
    total_s += lane.uplinks * lane.term_s + lane.factor * lane.load;
  }
  return total_s;
}

RelocationState::Balance RelocationState::Measure() const {
  Balance balance;
  for (uint32_t i = 0; i < users(); ++i) {
    if (rows_[i].site == kLocal) balance.local_uncertainty += snapshot_.candidates[i].uncertainty;
  }
  balance.delay_s = verified_s_ - lambda_s_ * balance.local_uncertainty;
  return balance;
}

void RelocationState::SetLambda(double lambda_s) {
  for (uint32_t i = 0; i < users(); ++i) {
    const double more_s = (lambda_s - lambda_s_) * snapshot_.candidates[i].uncertainty;
    rows_[i].local_s += more_s;
    if (rows_[i].site == kLocal) fixed_s_ += more_s;
  }
  lambda_s_ = lambda_s;
  verified_s_ = ObjectiveSeconds();
}

// --- what a change would bring ---------------------------------------------------------------------------------------

RelocationState::Move RelocationState::BestMove(uint32_t i) {
  const Row& row = rows_[i];
  const Leaving leaving = LeavingOf(i);
  Move best;
  if (row.site != kLocal && !row.forced) {
    best = {leaving.leave_s - leaving.radiates * leaving.elsewhere_s + row.local_s, kLocal, true};
  }
  if (row.site == kLocal && TenantFull(i)) return best;
  MoveDeltas(row_table_.Row(i), table_, leaving, delta_s_.data(), own_s_.data());
  evaluations_ += sites_.size();
  for (int to = 0; to < sites(); ++to) {
    const double delta_s = delta_s_[static_cast<size_t>(to)];
    if (to == row.site || !(best.found ? delta_s < best.delta_s : delta_s < kInfinity)) continue;
    const int uplinks = static_cast<int>(table_[to].uplinks) + row.transmits;
    if (!MeetsDeadlineAmong(i, to, own_s_[static_cast<size_t>(to)], uplinks, SiteAt(to).queries + 1)) continue;
    best = {delta_s, to, true};
  }
  return best;
}

Leaving RelocationState::LeavingOf(uint32_t i) const {
  const Row& row = rows_[i];
  Leaving leaving;
  leaving.transmits = row.transmits;
  if (row.transmits) leaving.elsewhere_s = InterferenceSeconds(i);
  if (row.site == kLocal) {
    leaving.leave_s = -row.local_s;
    return leaving;
  }
  const int j = row.site;
  const Site& site = SiteAt(j);
  const auto lane = table_[j];
  const double signal_w = At(i, j, kSignal);
  const double own_s = site.Term(row.slot, lane.disturbance_w);
  const double left = lane.uplinks - row.transmits;
  leaving.radiates = Radiates(i, j);
  leaving.leave_s = left * (lane.term_s - own_s) - lane.uplinks * lane.term_s +
                    site.Factor(site.queries - 1) * (lane.load - At(i, j, kLoad)) - lane.factor * lane.load -
                    At(i, j, kBase);
  if (row.transmits) leaving.radiating_s = left * (lane.slope - site.own_slope[row.slot]) * signal_w;
  leaving.elsewhere_s -= lane.uplinks * lane.slope * signal_w * row.transmits;
  return leaving;
}

// With so many on the site, this one included.
bool RelocationState::MeetsDeadlineAmong(uint32_t i, int j, double own_s, int uplinks, int queries) const {
  if (rows_[i].deadline_s == kInfinity) return true;
  return uplinks * own_s + At(i, j, kBase) + SiteAt(j).Factor(queries) * At(i, j, kLoad) <= rows_[i].deadline_s;
}

// In the place of a member.
bool RelocationState::MeetsDeadlineInPlace(uint32_t i, int j, double own_s) const {
  return MeetsDeadlineAmong(i, j, own_s, static_cast<int>(table_[j].uplinks), SiteAt(j).queries);
}

RelocationState::Seat RelocationState::SeatOf(uint32_t i, int j) const {
  const Row& row = rows_[i];
  const auto lane = table_[j];
  const double own_s = row.site == j ? SiteAt(j).own_s[row.slot] : OwnSeconds(i, j, lane.disturbance_w);
  const double others_s =
      row.transmits && lane.is_shannon() ? InterferenceSeconds(i) - lane.uplinks * lane.slope * At(i, j, kSignal) : 0;
  return {own_s, lane.uplinks * own_s + lane.factor * At(i, j, kLoad) + At(i, j, kBase) + others_s - row.local_s};
}

RelocationState::Exchange RelocationState::ExchangeOf(uint32_t i, int q) const {
  const Row& row = rows_[i];
  const int p = row.site;
  const auto at_p = table_[p], at_q = table_[q];
  Exchange x{.i = i, .p = p, .q = q};
  x.own_s = OwnSeconds(i, q, at_q.disturbance_w);
  x.left_s = SiteAt(p).own_s[row.slot];
  x.left_slope = SiteAt(p).own_slope[row.slot];
  x.on_p_w = At(i, p, kSignal);
  x.on_q_w = At(i, q, kSignal);
  x.fixed_s = at_q.factor * At(i, q, kLoad) - at_p.factor * At(i, p, kLoad) + At(i, q, kBase) - At(i, p, kBase);
  return x;
}

size_t RelocationState::NextPartner(const Exchange& x, size_t slot, double limit_s) {
  const int p = x.p, q = x.q;
  const auto at_p = table_[p], at_q = table_[q];
  const Site& site = SiteAt(q);
  for (; slot < site.members.size(); ++slot) {
    const uint32_t k = site.members[slot];
    if (rows_[k].pinned || !rows_[k].transmits || !Eligible(k, p)) continue;
    ++evaluations_;
    const double more_p_w = x.on_p_w - At(k, p, kSignal), more_q_w = At(k, q, kSignal) - x.on_q_w;
    const double p_after_w = std::max(at_p.noise_w, at_p.disturbance_w + more_p_w);
    const double q_after_w = std::max(at_q.noise_w, at_q.disturbance_w + more_q_w);
    const double without_own_s = at_p.uplinks * ((at_p.slope - x.left_slope) * more_p_w - x.left_s) +
                                 at_q.uplinks * ((at_q.slope - site.own_slope[slot]) * more_q_w - site.own_s[slot]) +
                                 x.fixed_s + at_p.factor * At(k, p, kLoad) - at_q.factor * At(k, q, kLoad) +
                                 At(k, p, kBase) - At(k, q, kBase);
    // An upload grows with the disturbance, at most in proportion.
    const double least_i_s = x.own_s * std::min(1.0, q_after_w / at_q.disturbance_w);
    if (!(without_own_s + at_q.uplinks * least_i_s < limit_s)) continue;
    const double i_s = OwnSeconds(x.i, q, q_after_w), k_s = OwnSeconds(k, p, p_after_w);
    if (!(without_own_s + at_q.uplinks * i_s + at_p.uplinks * k_s < limit_s)) continue;
    if (MeetsDeadlineInPlace(x.i, q, i_s) && MeetsDeadlineInPlace(k, p, k_s)) break;
  }
  return slot;
}

// --- changes ---------------------------------------------------------------------------------------------------------

void RelocationState::Shift(uint32_t i, int to) {
  undo_.push_back({i, rows_[i].last_move, rows_[i].site});
  MoveTo(i, to);
  rows_[i].last_move = ++moves_;
}

bool RelocationState::Settle() {
  const double now_s = RefreshStale();
  const bool better = now_s < verified_s_;
  if (better) {
    verified_s_ = now_s;
  } else {
    for (; !undo_.empty(); undo_.pop_back()) {
      MoveTo(undo_.back().row, undo_.back().site);
      rows_[undo_.back().row].last_move = undo_.back().last_move;
    }
    verified_s_ = RefreshStale();
  }
  undo_.clear();
  return better;
}

void RelocationState::MoveTo(uint32_t i, int to) {
  const int from = rows_[i].site;
  if (from != kLocal) {
    Leave(i);
  } else {
    fixed_s_ -= rows_[i].local_s;
  }
  MoveInterference(i, from, to);
  rows_[i].site = to;
  if (to != kLocal) {
    Join(i, to);
  } else {
    fixed_s_ += rows_[i].local_s;
  }
}

void RelocationState::Leave(uint32_t i) {
  const Row& row = rows_[i];
  Site& site = SiteAt(row.site);
  const auto lane = table_[row.site];
  lane.term_s -= site.Term(row.slot, lane.disturbance_w);
  lane.slope -= site.own_slope[row.slot];
  lane.load -= At(i, row.site, kLoad);
  lane.uplinks -= row.transmits;
  --site.queries;
  RemoveMember(i, row.site);
  fixed_s_ -= At(i, row.site, kBase);
  tenants_.GiveBack(snapshot_.candidates[i]);
  Publish(row.site);
}

void RelocationState::Join(uint32_t i, int to) {
  const Row& row = rows_[i];
  Site& site = SiteAt(to);
  const auto lane = table_[to];
  AddMember(i, to);
  lane.term_s += site.Term(row.slot, lane.disturbance_w);
  lane.slope += site.own_slope[row.slot];
  lane.load += At(i, to, kLoad);
  lane.uplinks += row.transmits;
  ++site.queries;
  fixed_s_ += At(i, to, kBase);
  tenants_.Take(snapshot_.candidates[i]);
  Publish(to);
}

// What the row's signal adds to the sites that it is not at.
void RelocationState::MoveInterference(uint32_t i, int from, int to) {
  const bool radiates = Radiates(i, from), will_radiate = Radiates(i, to);
  if (!radiates && !will_radiate) return;
  for (int k = 0; k < sites(); ++k) {
    const auto lane = table_[k];
    if (!lane.is_shannon()) continue;
    const double change_w = ((will_radiate && k != to) - (radiates && k != from)) * At(i, k, kSignal);
    if (change_w == 0) continue;
    const double before_w = lane.disturbance_w;
    lane.disturbance_w = std::max(lane.noise_w, before_w + change_w);
    lane.term_s += lane.slope * (lane.disturbance_w - before_w);
    SiteAt(k).stale = true;
  }
}

// Lists the row at its site, with its own term at the present disturbance; the sums are the caller's.
void RelocationState::AddMember(uint32_t i, int j) {
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
  const double disturbance_w = table_[j].disturbance_w, signal_w = site.signal_w[slot];
  const double per_log2 = 1 / SpectralEfficiency(signal_w, disturbance_w);
  const double own_s = site.weight_s[slot] * per_log2;
  site.own_slope[slot] = own_s * per_log2 * M_LOG2E * signal_w / (disturbance_w * (disturbance_w + signal_w));
  site.own_s[slot] = own_s - site.own_slope[slot] * (disturbance_w - site.reference_w);
}

void RelocationState::RemoveMember(uint32_t i, int j) {
  Site& site = SiteAt(j);
  const size_t slot = rows_[i].slot, last = site.members.size() - 1;
  rows_[site.members[last]].slot = slot;
  site.members[slot] = site.members[last];
  site.members.pop_back();
  for (auto* list : {&site.signal_w, &site.weight_s, &site.own_s, &site.own_slope}) (*list)[slot] = (*list)[last];
  site.weight_s[last] = site.own_s[last] = site.own_slope[last] = 0;
}

// Brings the table up to a site's number of queries.
void RelocationState::Publish(int j) {
  const Site& site = SiteAt(j);
  const auto lane = table_[j];
  lane.factor = site.Factor(site.queries);
  lane.next_factor = site.Factor(site.queries + 1);
  lane.closed_s = site.queries < site.max_queries ? 0 : kInfinity;
}

// Makes the terms of a site afresh.
void RelocationState::Refresh(int j) {
  Site& site = SiteAt(j);
  const auto lane = table_[j];
  site.stale = false;
  site.reference_w = lane.disturbance_w;
  if (lane.is_shannon()) {
    TermsOf(site.signal_w.data(), site.weight_s.data(), site.signal_w.size(), site.reference_w, site.own_s.data(),
            site.own_slope.data(), &lane.term_s, &lane.slope);
    return;
  }
  lane.term_s = 0;
  for (size_t slot = 0; slot < site.members.size(); ++slot) lane.term_s += site.own_s[slot];
}

// Of those sites whose disturbance changed. The objective then.
double RelocationState::RefreshStale() {
  for (int j = 0; j < sites(); ++j) {
    if (SiteAt(j).stale) Refresh(j);
  }
  return ObjectiveSeconds();
}

}  // namespace goad::sched
