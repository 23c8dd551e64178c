// What a calibration is worth on the recorded workload, beside its goals: certified targets that are broken, accuracy
// gained by ranking questions by value, calibration error. Prints, asserts nothing. Seeds are fixed.
//
//   calibration_bench [WORKLOAD]
#include <array>
#include <cstdio>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "scheduler/calibration/certificate.h"
#include "scheduler/calibration/reliability.h"
#include "scheduler/workload/workload.h"

namespace {

using namespace goad::calibration;  // NOLINT(google-build-using-namespace): all of this is about it

std::vector<Label> Shuffled(std::vector<Label> labels, uint64_t seed) {
  std::mt19937_64 random(seed);
  for (size_t k = labels.size(); k > 1; --k) std::swap(labels[k - 1], labels[random() % k]);
  return labels;
}

std::vector<Label> WithoutKinds(std::vector<Label> labels) {
  for (Label& label : labels) label.kind.clear();
  return labels;
}

// How often a certified tau misses its target where the truth is the whole workload (`replace`: drawn with
// replacement), or what was not drawn.
void Broken(const std::vector<Label>& workload, size_t count, double accuracy, bool kinds, bool replace) {
  constexpr int kDraws = 200;
  int certified = 0, broken = 0, local_broken = 0, uncertified_broken = 0;
  double share = 0, reached = 0;
  for (uint64_t seed = 1; seed <= kDraws; ++seed) {
    std::vector<Label> drawn, truth = workload;
    if (replace) {
      std::mt19937_64 random(seed);
      for (size_t k = 0; k < count; ++k) drawn.push_back(workload[random() % workload.size()]);
    } else {
      truth = Shuffled(workload, seed);
      drawn.assign(truth.begin(), truth.begin() + static_cast<std::ptrdiff_t>(count));
      truth.erase(truth.begin(), truth.begin() + static_cast<std::ptrdiff_t>(count));
    }
    if (!kinds) drawn = WithoutKinds(drawn), truth = WithoutKinds(truth);
    const Halves halves = SplitLabels(drawn, kSplitSeed);
    const Curves curves = FitCurves(halves.fit);
    const auto certificate = Certify(Gather(curves, halves.fit, halves.certify), accuracy, 0.9);
    // The same grid and strata, with the truth in place of the certify half.
    const Evidence of_truth = Gather(curves, halves.fit, truth);
    const auto share_of = [&](size_t right) {
      return static_cast<double>(right) / static_cast<double>(of_truth.labels);
    };
    const auto at = [&](double tau) {
      for (const Step& step : of_truth.steps) {
        if (step.value_tau == tau) return step;
      }
      return of_truth.steps[0];
    };
    if (certificate) {
      ++certified;
      const Step step = at(certificate->value_tau);
      share += share_of(step.offloaded);
      reached += share_of(step.local_right);
      broken += share_of(step.right) < accuracy ? 1 : 0;
      local_broken += share_of(step.local_right) < accuracy ? 1 : 0;
    }
    // A tau that is merely seen to hold the target on the other half, without a bound.
    const Evidence evidence = Gather(curves, halves.fit, halves.certify);
    double seen_tau = -1;
    for (const Step& step : evidence.steps) {
      if (static_cast<double>(step.right) < accuracy * static_cast<double>(evidence.labels)) break;
      seen_tau = step.value_tau;
    }
    if (seen_tau >= 0 && share_of(at(seen_tau).right) < accuracy) ++uncertified_broken;
  }
  std::printf("%6zu  %.2f  %-7s  %-16s  %4d of %d  %5.1f %%  %5.1f %%  %12.1f %%  %7.1f %%  %7.1f %%\n", count,
              accuracy, kinds ? "kinds" : "none", replace ? "the workload" : "what is not drawn", certified, kDraws,
              100.0 * broken / kDraws, 100.0 * local_broken / kDraws, 100.0 * uncertified_broken / kDraws,
              certified > 0 ? 100 * share / certified : 0, certified > 0 ? 100 * reached / certified : 0);
}

// Curves of `count` labels on the 1,000 that are the second half of a shuffle; means of 10.
void Gained(const std::vector<Label>& workload, size_t count) {
  constexpr std::array<double, 3> kShares = {0.3, 0.5, 0.62};
  constexpr int kSplits = 10;
  std::array<double, 3> kinds = {}, none = {};
  double count_before = 0, count_after = 0, count_kinds = 0, width_before = 0, width_after = 0, width_kinds = 0,
         chance = 0;
  for (uint64_t seed = 1; seed <= kSplits; ++seed) {
    const std::vector<Label> shuffled = Shuffled(workload, seed);
    const std::vector<Label> fit(shuffled.begin(), shuffled.begin() + static_cast<std::ptrdiff_t>(count));
    const Curves of_kinds = FitCurves(fit), of_all = FitCurves(WithoutKinds(fit));
    std::vector<Answered> by_alpha, by_value, by_kind;
    std::vector<Predicted> alpha, all, kind;
    for (size_t k = 1000; k < shuffled.size(); ++k) {
      const Label& label = shuffled[k];
      const double at = label.uncertainty;
      const Curve& curve = *FindCurve(of_kinds, label.metric, label.model, label.kind);
      by_alpha.push_back({at, 0, label.device_correct, *label.edge_correct});
      by_value.push_back({of_all[0].Value(at), at, label.device_correct, *label.edge_correct});
      by_kind.push_back({curve.Value(at), at, label.device_correct, *label.edge_correct});
      alpha.push_back({at, !label.device_correct});
      all.push_back({of_all[0].DeviceWrong(at), !label.device_correct});
      kind.push_back({curve.DeviceWrong(at), !label.device_correct});
    }
    for (size_t k = 0; k < kShares.size(); ++k) {
      const double plain = AccuracyAt(by_alpha, kShares[k]);
      kinds[k] += (AccuracyAt(by_kind, kShares[k]) - plain) / kSplits;
      none[k] += (AccuracyAt(by_value, kShares[k]) - plain) / kSplits;
    }
    count_before += CalibrationError(EqualCountBins(alpha)) / kSplits;
    count_after += CalibrationError(EqualCountBins(all)) / kSplits;
    count_kinds += CalibrationError(EqualCountBins(kind)) / kSplits;
    width_before += CalibrationError(EqualWidthBins(alpha)) / kSplits;
    width_after += CalibrationError(EqualWidthBins(all)) / kSplits;
    width_kinds += CalibrationError(EqualWidthBins(kind)) / kSplits;
    chance += ErrorByChance(EqualCountBins(kind)) / kSplits;
  }
  std::printf("%6zu  gained at 30, 50, 62 %%: kinds %+.2f %+.2f %+.2f, none %+.2f %+.2f %+.2f points\n", count,
              100 * kinds[0], 100 * kinds[1], 100 * kinds[2], 100 * none[0], 100 * none[1], 100 * none[2]);
  std::printf(
      "        ECE, 10 bins of equal count: alpha %.3f, none %.3f, kinds %.3f (by chance alone %.3f); of equal width: "
      "%.3f, %.3f, %.3f\n",
      count_before, count_after, count_kinds, chance, width_before, width_after, width_kinds);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string path = argc > 1 ? argv[1] : "deploy/llm/workload.jsonl";
  std::ifstream in(path);
  const auto questions = goad::sched::ReadWorkload(in, path);
  if (!questions.ok()) {
    std::fprintf(stderr, "calibration_bench: %s\n", std::string(questions.status().message()).c_str());
    return 2;
  }
  std::vector<Label> workload;
  for (const auto& question : *questions) {
    workload.push_back(
        {question.uncertainty, "MARGIN", "", question.kind, question.device.correct, question.edge.correct});
  }
  std::printf(
      "Certified at confidence 0.9, half of the labels each; goal: broken in at most 10 %% of 200 draws.\n"
      "labels  target  kinds  truth               certified  broken  (local)  without a bound  offloaded  reached\n");
  for (const bool replace : {true, false}) {
    for (const size_t count : {200, 500}) {
      for (const double accuracy : {0.65, 0.7, 0.75, 0.8}) {
        for (const bool kinds : {true, false}) Broken(workload, count, accuracy, kinds, replace);
      }
    }
  }
  std::printf(
      "\nCurves of so many labels, looked at on 1,000 others; means of 10 splits. Goals: kinds +0.8, none within "
      "0.3; ECE 0.040 with 1,000.\n");
  for (const size_t count : {100, 250, 500, 1000}) Gained(workload, count);
  return 0;
}
