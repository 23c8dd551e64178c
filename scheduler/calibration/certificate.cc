#include "scheduler/calibration/certificate.h"

#include <algorithm>
#include <random>
#include <set>

#include "scheduler/calibration/binomial.h"

namespace goad::calibration {
namespace {

constexpr size_t kGrid = 50;   // a tau for each 2 % of the fit half
constexpr size_t kStrata = 4;  // of values above 0

double ValueOf(const Curves& curves, const Label& label) {
  const Curve* curve = FindCurve(curves, label.metric, label.model, label.kind);
  return curve == nullptr ? 1 : curve->Value(label.uncertainty);
}

// The distinct k / parts quantiles of `sorted` above 0, k in 1..parts - 1.
std::set<double> Quantiles(const std::vector<double>& sorted, size_t parts) {
  std::set<double> at;
  for (size_t k = 1; k < parts && !sorted.empty(); ++k) {
    const double value = sorted[k * sorted.size() / parts];
    if (value > 0) at.insert(value);
  }
  return at;
}

struct Counted {
  double value = 0;
  bool device = false, edge = false;
};

}  // namespace

Halves SplitLabels(const std::vector<Label>& labels, uint64_t seed) {
  std::vector<const Label*> shuffled;
  for (const Label& label : labels) shuffled.push_back(&label);
  std::mt19937_64 random(seed);  // std::shuffle may differ from machine to machine
  for (size_t k = shuffled.size(); k > 1; --k) std::swap(shuffled[k - 1], shuffled[random() % k]);
  Halves halves;
  for (size_t k = 0; k < shuffled.size(); ++k) {
    (k < shuffled.size() / 2 ? halves.fit : halves.certify).push_back(*shuffled[k]);
  }
  return halves;
}

Evidence Gather(const Curves& curves, const std::vector<Label>& fit, const std::vector<Label>& certify) {
  std::vector<double> values;
  for (const Label& label : fit) values.push_back(ValueOf(curves, label));
  std::sort(values.begin(), values.end());
  std::set<double> grid = Quantiles(values, kGrid);
  grid.insert({0, 1});
  const std::vector<double> above_0(std::upper_bound(values.begin(), values.end(), 0.0), values.end());
  std::set<double> edges = Quantiles(above_0, kStrata);
  edges.insert(0);
  const std::vector<double> strata(edges.begin(), edges.end());  // the upper ends, each in its stratum; one more above
  std::vector<Counted> counted;
  for (const Label& label : certify) {
    if (label.edge_correct) counted.push_back({ValueOf(curves, label), label.device_correct, *label.edge_correct});
  }
  Evidence evidence{.labels = counted.size(), .steps = {}};
  for (const double tau : grid) {
    Step step{.value_tau = tau};
    std::vector<size_t> device(strata.size() + 1), edge(strata.size() + 1);
    for (const Counted& label : counted) {
      if (label.value > tau) {
        ++step.offloaded;
        step.right += label.edge ? 1 : 0;
        continue;
      }
      const auto stratum =
          static_cast<size_t>(std::lower_bound(strata.begin(), strata.end(), label.value) - strata.begin());
      device[stratum] += label.device ? 1 : 0;
      edge[stratum] += label.edge ? 1 : 0;
    }
    step.local_right = step.right;
    for (size_t k = 0; k < device.size(); ++k) {
      step.right += std::min(device[k], edge[k]);
      step.local_right += device[k];
    }
    evidence.steps.push_back(step);
  }
  return evidence;
}

double BoundOf(const Evidence& evidence, const Step& step, double confidence, Below below) {
  if (evidence.labels == 0) return 0;
  return LowerBound(below == Below::kLocal ? step.local_right : step.right, evidence.labels, confidence);
}

std::optional<Certificate> Certify(const Evidence& evidence, double accuracy, double confidence, Below below) {
  std::optional<Certificate> certificate;
  for (const Step& step : evidence.steps) {
    const double bound = BoundOf(evidence, step, confidence, below);
    if (!(bound >= accuracy)) break;
    certificate = {accuracy,        confidence,
                   step.value_tau,  bound,
                   evidence.labels, static_cast<double>(step.offloaded) / static_cast<double>(evidence.labels)};
  }
  return certificate;
}

}  // namespace goad::calibration
