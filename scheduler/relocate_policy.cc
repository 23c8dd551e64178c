#include "scheduler/relocate_policy.h"

#include <algorithm>
#include <cmath>

#include "scheduler/goa_policy.h"
#include "scheduler/relocation.h"
#include "scheduler/system_objective.h"

namespace goad::sched {
namespace {

// Swaps look at every pair of candidates; with more than this many they are left out.
constexpr size_t kMostSwapping = 256;

// A move must lower the objective by this share of it: far above the rounding of the sums, so that moves cannot go in circles.
constexpr double kLeastGain = 1e-10;

// A round that lowers the objective by less than this share of it is the last; kMostRounds bounds the work whatever happens.
constexpr double kRoundWorthIt = 1e-5;
constexpr int kMostRounds = 30;

// Values of lambda tried until neither the delay nor the uncertainty left local is above GOA's.
constexpr int kMostLambdas = 6;

}  // namespace

// One look at everybody. The sums are made afresh after every `batch` moves.
void Relocation::Round(size_t batch) {
  for (uint32_t i = 0; i < snapshot_.candidates.size(); ++i) {
    if (rows_[i].pinned) continue;
    const Move move = BestMove(i);
    if (!move.found || !(move.delta_s < -kLeastGain * std::abs(verified_s_))) continue;
    Shift(i, move.to);
    if (undo_.size() >= batch) Settle();
  }
  if (!undo_.empty()) Settle();
}

// Makes rows i and k change places, if that lowers the objective.
bool Relocation::TrySwap(uint32_t i, uint32_t k) {
  const int at_i = rows_[i].site, at_k = rows_[k].site;
  Shift(i, at_k);
  Shift(k, at_i);
  return Settle();
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
                                  ? InterferenceSeconds(m) - lanes.uplinks[l] * lanes.slope[l] * At(m, j, kSignal)
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
