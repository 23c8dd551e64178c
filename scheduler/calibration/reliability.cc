#include "scheduler/calibration/reliability.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <tuple>

namespace goad::calibration {
namespace {

void Add(const Predicted& one, ReliabilityBin* bin) {
  ++bin->labels;
  bin->predicted += one.probability;
  bin->wrong += one.wrong ? 1 : 0;
}

std::vector<ReliabilityBin> Means(const std::vector<ReliabilityBin>& sums) {
  std::vector<ReliabilityBin> bins;
  for (const ReliabilityBin& sum : sums) {
    const auto labels = static_cast<double>(sum.labels);
    if (sum.labels > 0) bins.push_back({sum.labels, sum.predicted / labels, sum.wrong / labels});
  }
  return bins;
}

void SortByPrediction(std::vector<Predicted>& predicted) {
  std::stable_sort(predicted.begin(), predicted.end(),
                   [](const Predicted& a, const Predicted& b) { return a.probability < b.probability; });
}

std::pair<double, double> CountWrongAndRight(const std::vector<Predicted>& predicted) {
  const auto wrong = static_cast<double>(
      std::count_if(predicted.begin(), predicted.end(), [](const Predicted& one) { return one.wrong; }));
  return {wrong, static_cast<double>(predicted.size()) - wrong};
}

}  // namespace

std::vector<ReliabilityBin> EqualCountBins(std::vector<Predicted> predicted, size_t bins) {
  SortByPrediction(predicted);
  std::vector<ReliabilityBin> sums(bins);
  for (size_t k = 0; k < bins; ++k) {
    for (size_t i = k * predicted.size() / bins; i < (k + 1) * predicted.size() / bins; ++i)
      Add(predicted[i], &sums[k]);
  }
  return Means(sums);
}

std::vector<ReliabilityBin> EqualWidthBins(const std::vector<Predicted>& predicted, size_t bins) {
  std::vector<ReliabilityBin> sums(bins);
  for (const Predicted& one : predicted) {
    Add(one, &sums[std::min(bins - 1, static_cast<size_t>(one.probability * static_cast<double>(bins)))]);
  }
  return Means(sums);
}

double CalibrationError(const std::vector<ReliabilityBin>& bins) {
  double sum = 0, labels = 0;
  for (const ReliabilityBin& bin : bins) {
    sum += static_cast<double>(bin.labels) * std::abs(bin.predicted - bin.wrong);
    labels += static_cast<double>(bin.labels);
  }
  return labels > 0 ? sum / labels : 0;
}

double ErrorByChance(const std::vector<ReliabilityBin>& bins) {
  double sum = 0, labels = 0;  // E|x| of a normal x is its deviation times sqrt(2 / pi)
  for (const ReliabilityBin& bin : bins) {
    const auto n = static_cast<double>(bin.labels);
    sum += n * std::sqrt(2 / std::numbers::pi * bin.predicted * (1 - bin.predicted) / n);
    labels += n;
  }
  return labels > 0 ? sum / labels : 0;
}

std::optional<double> Auroc(std::vector<Predicted> predicted) {
  const auto [wrong, right] = CountWrongAndRight(predicted);
  if (wrong == 0 || right == 0) return std::nullopt;
  SortByPrediction(predicted);
  double right_below = 0, pairs = 0;
  for (size_t k = 0; k < predicted.size();) {
    double wrong_here = 0, right_here = 0;
    for (const double at = predicted[k].probability; k < predicted.size() && predicted[k].probability == at; ++k) {
      (predicted[k].wrong ? wrong_here : right_here) += 1;
    }
    pairs += wrong_here * (right_below + right_here / 2);
    right_below += right_here;
  }
  return pairs / (wrong * right);
}

double AurocDeviationByChance(const std::vector<Predicted>& predicted) {
  const auto [wrong, right] = CountWrongAndRight(predicted);
  return std::sqrt((wrong + right + 1) / (12 * wrong * right));
}

double AccuracyAt(std::vector<Answered> answered, double share) {
  std::stable_sort(answered.begin(), answered.end(), [](const Answered& a, const Answered& b) {
    return std::tie(a.key, a.tie) > std::tie(b.key, b.tie);
  });
  const auto offloaded = static_cast<size_t>(std::lround(share * static_cast<double>(answered.size())));
  double right = 0;
  for (size_t k = 0; k < answered.size(); ++k) {
    right += (k < offloaded ? answered[k].edge_correct : answered[k].device_correct) ? 1 : 0;
  }
  return right / static_cast<double>(answered.size());
}

}  // namespace goad::calibration
