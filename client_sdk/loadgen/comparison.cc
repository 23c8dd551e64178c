#include "client_sdk/loadgen/comparison.h"

#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace goad::loadgen {

absl::StatusOr<std::vector<Played>> PlayPolicies(
    const FleetOptions& options, const std::vector<std::string>& policies, int rounds,
    const std::vector<sched::RecordedQuestion>& workload, const UnderPolicy& under,
    const std::function<void(const std::string& policy, int round, const Progress&, int questions)>& progress) {
  for (const std::string& policy : policies) {  // a name that is none is said before anything is played
    if (auto trial = under(policy); !trial.ok()) return trial.status();
  }
  std::vector<Played> played(policies.size());
  for (size_t p = 0; p < policies.size(); ++p) played[p].policy = policies[p];
  for (int round = 0; round < rounds; ++round) {
    FleetOptions part = options;
    part.seed = options.seed + static_cast<uint64_t>(round);
    part.questions = options.questions / rounds + (round < options.questions % rounds ? 1 : 0);
    for (size_t k = 0; k < played.size(); ++k) {
      Played& now = played[(k + static_cast<size_t>(round)) % played.size()];
      auto trial = under(now.policy);
      if (!trial.ok()) return trial.status();
      auto outcomes =
          PlayFleet(part, workload, [&](const Progress& p) { progress(now.policy, round, p, part.questions); });
      if (!outcomes.ok()) return outcomes.status();
      if (absl::Status status = (*trial)->status(); !status.ok()) return status;
      now.outcomes.insert(now.outcomes.end(), outcomes->begin(), outcomes->end());
    }
  }
  return played;
}

std::string FormatComparison(const std::vector<Played>& played, const FleetOptions& o, int rounds) {
  std::string text =
      absl::StrFormat("%d devices, %d questions under each policy, %.4g a second (open loop, Poisson), in %d rounds\n",
                      o.devices, o.questions, o.rate_per_s, rounds);
  absl::StrAppend(&text, WhatIsEmulated(o), "\n");
  absl::StrAppendFormat(&text, "  %-14s %9s %5s %6s  %-24s %-20s %-22s %7s %7s  %s\n", "policy", "offloaded", "lost",
                        "twice", "accuracy, % (95 %)", "to the first, points", "delay, mean ms (95 %)", "p50", "p99",
                        "to the first, ms");
  for (const Played& one : played) {
    const Report report = MakeReport(one.outcomes);
    std::vector<double> delays_ms, points, milliseconds;
    for (size_t k = 0; k < one.outcomes.size(); ++k) {
      const Outcome &mine = one.outcomes[k], &first = played[0].outcomes[k];
      if (mine.answers == 0) continue;
      delays_ms.push_back(1e3 * absl::ToDoubleSeconds(mine.delay));
      if (first.answers == 0) continue;
      points.push_back(100.0 * (mine.correct ? 1 : 0) - 100.0 * (first.correct ? 1 : 0));
      milliseconds.push_back(1e3 * absl::ToDoubleSeconds(mine.delay - first.delay));
    }
    const auto paired = [&](const std::vector<double>& differences) {
      if (&one == &played[0]) return std::string("-");
      const PairedDifference difference = DifferenceOf(differences);
      return absl::StrFormat("%+.1f +-%.1f", difference.mean, difference.half_width);
    };
    const double share = report.asked == 0 ? 0 : 100.0 * report.edge / report.asked;
    absl::StrAppendFormat(&text, "  %-14s %7.1f %% %5d %6d  %-24s %-20s %-22s %7.1f %7.1f  %s\n", one.policy, share,
                          report.lost, report.twice,
                          absl::StrFormat("%.1f (%.1f .. %.1f)", 100 * report.accuracy.value(),
                                          100 * report.accuracy.low(), 100 * report.accuracy.high()),
                          paired(points),
                          absl::StrFormat("%.1f +-%.1f", 1e3 * report.delay.mean_s, DifferenceOf(delays_ms).half_width),
                          1e3 * report.delay.p50_s, 1e3 * report.delay.p99_s, paired(milliseconds));
  }
  absl::StrAppend(&text, "\n  Differences are per question, over those that both answered.\n");
  return text;
}

}  // namespace goad::loadgen
