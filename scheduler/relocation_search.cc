#include "scheduler/relocation_search.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

namespace goad::sched {
namespace {

using Balance = RelocationState::Balance;
using Exchange = RelocationState::Exchange;
using Move = RelocationState::Move;
using Row = RelocationState::Row;
using Seat = RelocationState::Seat;

// Swaps look at every pair of candidates; with more than this many they are left out.
constexpr size_t kMostSwapping = 256;

// A move must lower the objective by this share of it: far above the rounding of the sums, so that moves cannot go in
// circles.
constexpr double kLeastGain = 1e-10;

// A round that lowers the objective by less than this share of it is the last; kMostRounds bounds the work whatever
// happens.
constexpr double kRoundWorthIt = 1e-5;
constexpr int kMostRounds = 30;

// Values of lambda tried until neither the delay nor the uncertainty left local is above GOA's.
constexpr int kMostLambdas = 6;

}  // namespace

RelocationSearch::RelocationSearch(const EpochSnapshot& snapshot, double lambda_s, AssignmentOrder start)
    : snapshot_(snapshot), start_(std::move(start)), state_(snapshot, lambda_s, start_) {}

AssignmentOrder RelocationSearch::Run() {
  const Balance goa = state_.Measure();
  if (state_.lambda_s() == 0) {
    Descend();
    return Order();
  }
  double low_s = 0, high_s = kInfinity;
  for (int tries = 0; tries < kMostLambdas; ++tries) {
    Descend();
    const Balance now = state_.Measure();
    const bool less_accurate = now.local_uncertainty > goa.local_uncertainty * (1 + kLeastGain);
    if (!less_accurate && now.delay_s <= goa.delay_s * (1 + kLeastGain)) return Order();
    (less_accurate ? low_s : high_s) = state_.lambda_s();
    state_.SetLambda(high_s == kInfinity ? 2 * low_s : low_s == 0 ? high_s / 2 : std::sqrt(low_s * high_s));
  }
  return start_;
}

// To a local optimum of the objective.
void RelocationSearch::Descend() {
  DescendByMoves();
  if (state_.users() > kMostSwapping) return;
  const bool with_local = SwapWithLocal();
  if (SwapBetweenSites() || with_local) DescendByMoves();
}

void RelocationSearch::DescendByMoves() {
  for (int round = 0; round < kMostRounds; ++round) {
    const double before_s = state_.objective_s();
    Round();
    if (!(state_.objective_s() < before_s - kRoundWorthIt * std::abs(before_s))) return;
  }
}

// One look at everybody. The sums are made afresh after every move, or after every few of them when there are many
// users.
void RelocationSearch::Round() {
  const size_t batch = std::max<size_t>(1, state_.users() / 256);
  for (uint32_t i = 0; i < state_.users(); ++i) {
    if (state_.row(i).pinned) continue;
    const Move move = state_.BestMove(i);
    if (!move.found || !(move.delta_s < LimitSeconds())) continue;
    state_.Shift(i, move.to);
    if (state_.unsettled() >= batch) state_.Settle();
  }
  if (state_.unsettled() > 0) state_.Settle();
}

// One round of swaps of a local candidate with an offloaded one, per site. With n and the site's own disturbance
// unchanged the bound is a sum of one part for each of the two, so the best pair is found without looking at pairs.
bool RelocationSearch::SwapWithLocal() {
  struct Half {
    double cost_s = 0;
    uint32_t i = 0;
    bool found = false;
  };
  bool any = false;
  for (int j = 0; j < state_.sites(); ++j) {
    if (state_.members(j).empty()) continue;
    Half cheapest, dearest;  // who is local and would cost least on j, who is there and costs most
    for (uint32_t m = 0; m < state_.users(); ++m) {
      const Row& row = state_.row(m);
      if (row.pinned || !row.transmits) continue;
      if (row.site == kLocal && state_.Eligible(m, j)) {
        const Seat seat = state_.SeatOf(m, j);
        if (cheapest.found && !(seat.cost_s < cheapest.cost_s)) continue;
        if (!state_.MeetsDeadlineInPlace(m, j, seat.own_s)) continue;
        cheapest = {seat.cost_s, m, true};
      } else if (row.site == j && !row.forced) {
        const Seat seat = state_.SeatOf(m, j);
        if (!dearest.found || seat.cost_s > dearest.cost_s) dearest = {seat.cost_s, m, true};
      }
    }
    evaluations_ += state_.users();
    const uint32_t in = cheapest.i, out = dearest.i;
    if (!cheapest.found || !dearest.found || !(cheapest.cost_s - dearest.cost_s < LimitSeconds())) continue;
    if (state_.TenantFull(in) && snapshot_.candidates[in].tenant != snapshot_.candidates[out].tenant) continue;
    any |= TrySwap(in, out);
  }
  return any;
}

// One round of swaps of two candidates on different sites, both of them shannon.
bool RelocationSearch::SwapBetweenSites() {
  bool any = false;
  for (uint32_t i = 0; i < state_.users(); ++i) {
    const Row& row = state_.row(i);
    if (row.pinned || !row.transmits || row.site == kLocal || !state_.Shannon(row.site)) continue;
    for (int q = row.site + 1; q < state_.sites(); ++q) {
      if (!state_.Shannon(q) || !state_.Eligible(i, q) || !SwapWithMember(i, q)) continue;
      any = true;
      q = std::max(q, row.site);  // i is elsewhere now; its next chance is with the sites after that one
    }
  }
  return any;
}

// Makes candidate i change places with the first member of site q for which that lowers the objective.
bool RelocationSearch::SwapWithMember(uint32_t i, int q) {
  const Exchange exchange = state_.ExchangeOf(i, q);
  const std::vector<uint32_t>& members = state_.members(q);
  for (size_t slot = 0;; ++slot) {
    slot = state_.NextPartner(exchange, slot, LimitSeconds());
    if (slot == members.size()) return false;
    if (TrySwap(i, members[slot])) return true;
  }
}

// Makes rows i and k change places, if that lowers the objective.
bool RelocationSearch::TrySwap(uint32_t i, uint32_t k) {
  const int at_i = state_.row(i).site, at_k = state_.row(k).site;
  state_.Shift(i, at_k);
  state_.Shift(k, at_i);
  return state_.Settle();
}

// A change is worth making when its bound is below this.
double RelocationSearch::LimitSeconds() const { return -kLeastGain * std::abs(state_.objective_s()); }

AssignmentOrder RelocationSearch::Order() const {
  AssignmentOrder order;
  order.reserve(start_.size());
  for (const auto& [i, site] : start_) {
    if (state_.row(i).last_move == 0) order.emplace_back(i, site);
  }
  std::vector<uint32_t> movers;
  for (uint32_t i = 0; i < state_.users(); ++i) {
    if (state_.row(i).site != kLocal && state_.row(i).last_move != 0) movers.push_back(i);
  }
  std::sort(movers.begin(), movers.end(),
            [&](uint32_t a, uint32_t b) { return state_.row(a).last_move < state_.row(b).last_move; });
  for (const uint32_t i : movers) order.emplace_back(i, ToSite(static_cast<size_t>(state_.row(i).site)));
  return order;
}

}  // namespace goad::sched
