#include "scheduler/search_policies.h"

#include <algorithm>
#include <random>

#include "scheduler/load_state.h"
#include "scheduler/system_objective.h"

namespace goad::sched {
namespace {

EpochResult Finish(const EpochSnapshot& snapshot, AssignmentOrder order, uint64_t evaluations) {
  LoadState state = ReplayOrder(snapshot, order);
  PlaceForced(snapshot, state, order);
  return MakeResult(snapshot, std::move(order), state, Reason::kDelayGain, Reason::kNoGain, evaluations);
}

// --- optimal ---------------------------------------------------------------------------------------------------------

struct Value {  // ordered: fewer forced candidates left local first
  int forced_local = 0;
  double objective_s = 0;
  bool operator<(const Value& other) const {
    return forced_local != other.forced_local ? forced_local < other.forced_local : objective_s < other.objective_s;
  }
};

class BranchAndBound {
 public:
  BranchAndBound(const EpochSnapshot& snapshot, double lambda_s) : snapshot_(snapshot), lambda_s_(lambda_s) {}

  AssignmentOrder Run() {
    Visit(0, LoadState(snapshot_), 0);
    return best_order_;
  }
  uint64_t evaluations() const { return evaluations_; }

 private:
  double LocalSeconds(size_t i) const {
    return snapshot_.candidates[i].local_delay_s + lambda_s_ * snapshot_.candidates[i].uncertainty;
  }

  // What all candidates from `next` on cost at the least, the others being where they are.
  Value LowerBound(size_t next, const LoadState& state, int forced_local) {
    // SystemObjective counts everybody who is not in the order as local; those to come are counted below instead.
    Value bound{forced_local, SystemObjective(snapshot_, order_, state, lambda_s_)};
    for (size_t i = next; i < snapshot_.candidates.size(); ++i) {
      bound.objective_s -= LocalSeconds(i);
      double least_s = snapshot_.Forced(i) ? kInfinity : LocalSeconds(i);
      for (size_t j = 0; j < snapshot_.sites.size(); ++j) {
        const LoadState::PairCost cost = state.Evaluate(i, j);
        ++evaluations_;
        if (cost.eligibility == Eligibility::kEligible) least_s = std::min(least_s, cost.upload_s + cost.compute_s);
      }
      if (least_s == kInfinity) {
        if (snapshot_.Forced(i)) ++bound.forced_local;
        least_s = 0;
      }
      bound.objective_s += least_s;
    }
    return bound;
  }

  void Visit(size_t i, const LoadState& state, int forced_local) {
    if (i == snapshot_.candidates.size()) {
      const Value value{forced_local, SystemObjective(snapshot_, order_, state, lambda_s_)};
      if (!found_ || value < best_) {
        found_ = true;
        best_ = value;
        best_order_ = order_;
      }
      return;
    }
    if (found_ && !(LowerBound(i, state, forced_local) < best_)) return;
    for (size_t j = 0; j < snapshot_.sites.size(); ++j) {
      if (state.Evaluate(i, j).eligibility != Eligibility::kEligible) continue;
      LoadState with(state);
      with.Assign(i, j);
      order_.emplace_back(static_cast<uint32_t>(i), ToSite(j));
      Visit(i + 1, with, forced_local);
      order_.pop_back();
    }
    Visit(i + 1, state, forced_local + snapshot_.Forced(i));
  }

  const EpochSnapshot& snapshot_;
  const double lambda_s_;
  AssignmentOrder order_, best_order_;
  Value best_;
  bool found_ = false;
  uint64_t evaluations_ = 0;
};

// --- genetic ---------------------------------------------------------------------------------------------------------

constexpr size_t kPopulation = 40, kGenerations = 60, kKept = 2, kTournament = 3;
constexpr double kCrossover = 0.9;
constexpr int kLocal = -1;

class Evolution {
 public:
  Evolution(const EpochSnapshot& snapshot, double lambda_s)
      : snapshot_(snapshot), lambda_s_(lambda_s), random_(snapshot.seed), places_(snapshot.candidates.size()) {
    const LoadState empty(snapshot);
    for (size_t i = 0; i < places_.size(); ++i) {
      for (size_t j = 0; j < snapshot.sites.size(); ++j) {
        if (empty.Evaluate(i, j).eligibility == Eligibility::kEligible) places_[i].push_back(static_cast<int>(j));
      }
      if (!snapshot.Forced(i) || places_[i].empty()) places_[i].push_back(kLocal);
    }
  }

  AssignmentOrder Run() {
    std::vector<Chromosome> population(kPopulation);
    for (Chromosome& one : population) {
      for (size_t i = 0; i < places_.size(); ++i) one.genes.push_back(Draw(i));
      Express(one);
    }
    Rank(population);
    for (size_t generation = 0; generation < kGenerations; ++generation) {
      std::vector<Chromosome> next(population.begin(), population.begin() + kKept);
      while (next.size() < kPopulation) {
        Chromosome child = Pick(population);
        if (Uniform() < kCrossover) {
          const Chromosome& other = Pick(population);
          const size_t cut = random_() % places_.size();
          std::copy(other.genes.begin() + static_cast<std::ptrdiff_t>(cut), other.genes.end(),
                    child.genes.begin() + static_cast<std::ptrdiff_t>(cut));
        }
        for (size_t i = 0; i < places_.size(); ++i) {
          if (random_() % places_.size() == 0) child.genes[i] = Draw(i);
        }
        Express(child);
        next.push_back(std::move(child));
      }
      population = std::move(next);
      Rank(population);
    }
    return population.front().order;
  }
  uint64_t evaluations() const { return evaluations_; }

 private:
  struct Chromosome {
    std::vector<int> genes;  // per candidate: kLocal or a site
    AssignmentOrder order;   // what of it is eligible, in the order of the snapshot
    double objective_s = 0;
  };

  double Uniform() { return static_cast<double>(random_() >> 11) * 0x1p-53; }
  int Draw(size_t i) { return places_[i][random_() % places_[i].size()]; }
  const Chromosome& Pick(const std::vector<Chromosome>& population) {  // sorted, so the least index is the fittest
    size_t best = random_() % population.size();
    for (size_t k = 1; k < kTournament; ++k) best = std::min<size_t>(best, random_() % population.size());
    return population[best];
  }
  static void Rank(std::vector<Chromosome>& population) {
    std::stable_sort(population.begin(), population.end(),
                     [](const Chromosome& a, const Chromosome& b) { return a.objective_s < b.objective_s; });
  }
  // A gene whose site has filled up or is past the deadline by the time is local, but for forced candidates.
  void Express(Chromosome& one) {
    LoadState state(snapshot_);
    one.order.clear();
    for (uint32_t i = 0; i < one.genes.size(); ++i) {
      if (one.genes[i] == kLocal) continue;
      const size_t j = static_cast<size_t>(one.genes[i]);
      ++evaluations_;
      if (state.Evaluate(i, j).eligibility != Eligibility::kEligible) continue;
      state.Assign(i, j);
      one.order.emplace_back(i, ToSite(j));
    }
    PlaceForced(snapshot_, state, one.order);
    one.objective_s = SystemObjective(snapshot_, one.order, state, lambda_s_);
  }

  const EpochSnapshot& snapshot_;
  const double lambda_s_;
  std::mt19937_64 random_;
  std::vector<std::vector<int>> places_;  // per candidate: what its gene may be
  uint64_t evaluations_ = 0;
};

}  // namespace

EpochResult OptimalPolicy::Decide(const EpochSnapshot& snapshot) const {
  BranchAndBound search(snapshot, lambda_s_);
  AssignmentOrder order = search.Run();
  return Finish(snapshot, std::move(order), search.evaluations());
}

EpochResult GeneticPolicy::Decide(const EpochSnapshot& snapshot) const {
  if (snapshot.candidates.empty()) return Finish(snapshot, {}, 0);
  Evolution search(snapshot, lambda_s_);
  AssignmentOrder order = search.Run();
  return Finish(snapshot, std::move(order), search.evaluations());
}

}  // namespace goad::sched
