#include "scheduler/calibration/curves.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

namespace goad::calibration {
namespace {

constexpr double kLeastOdds = 0.02;  // levels nearer to 0 and 1 than this move as if they were here

double LogOdds(double p) {
  p = std::clamp(p, kLeastOdds, 1 - kLeastOdds);
  return std::log(p / (1 - p));
}
double Probability(double log_odds) { return 1 / (1 + std::exp(-log_odds)); }

using Labels = std::vector<const Label*>;

// The most likely move of `all` in log-odds for these labels and the prior. The likelihood is concave; Newton's steps,
// at most 1 long.
double MoveOf(const Curve& all, const Labels& labels) {
  double move = 0;
  for (int step = 0; step < 50; ++step) {
    double slope = -move / kKindVariance, curvature = 1 / kKindVariance;
    for (const Label* label : labels) {
      const double p = Probability(LogOdds(all.DeviceWrong(label->uncertainty)) + move);
      slope += (label->device_correct ? 0 : 1) - p;
      curvature += p * (1 - p);
    }
    const double change = std::clamp(slope / curvature, -1.0, 1.0);
    move += change;
    if (std::abs(change) < 1e-12) break;
  }
  return move;
}

// P(edge wrong), `prior_labels` of the rate `prior` counted beside the labels.
std::optional<double> EdgeWrong(const Labels& labels, double prior, double prior_labels) {
  double wrong = prior * prior_labels, known = prior_labels;
  for (const Label* label : labels) {
    if (!label->edge_correct) continue;
    wrong += *label->edge_correct ? 0 : 1;
    ++known;
  }
  if (known <= 0) return std::nullopt;
  return std::clamp(wrong / known, 0.0, 1.0);
}

Curve FitAll(const Labels& labels) {
  Curve curve;
  curve.metric = labels[0]->metric;
  curve.model = labels[0]->model;
  curve.labels = labels.size();
  std::vector<Sample> samples;
  for (const Label* label : labels) samples.push_back({label->uncertainty, label->device_correct ? 0.0 : 1.0, 1});
  curve.points = FitMonotone(std::move(samples), kLeastLevelLabels);
  curve.edge_wrong = EdgeWrong(labels, 0, 0);
  return curve;
}

Curve FitKind(const Curve& all, const Labels& labels) {
  Curve curve = all;
  curve.kind = labels[0]->kind;
  curve.labels = labels.size();
  const double move = MoveOf(all, labels);
  for (Point& point : curve.points) point.y = Probability(LogOdds(point.y) + move);
  if (all.edge_wrong) curve.edge_wrong = EdgeWrong(labels, *all.edge_wrong, kEdgePriorLabels);
  return curve;
}

}  // namespace

double Curve::Value(double uncertainty) const {
  return std::clamp(DeviceWrong(uncertainty) - edge_wrong.value_or(0), 0.0, 1.0);
}

double Curve::TauFor(double value_tau) const {
  if (Value(1) <= value_tau) return 1;
  if (Value(0) > value_tau) return 0;
  double low = 0, high = 1;
  while (true) {  // ends where no double lies between
    const double middle = low + (high - low) / 2;
    if (middle <= low || middle >= high) return low;
    (Value(middle) <= value_tau ? low : high) = middle;
  }
}

const Curve* FindCurve(const Curves& curves, const std::string& metric, const std::string& model,
                       const std::string& kind) {
  const auto find = [&](const std::string& of) -> const Curve* {
    const auto key = std::tie(metric, model, of);
    const auto found = std::lower_bound(curves.begin(), curves.end(), key, [](const Curve& curve, const auto& wanted) {
      return std::tie(curve.metric, curve.model, curve.kind) < wanted;
    });
    return found != curves.end() && std::tie(found->metric, found->model, found->kind) == key ? &*found : nullptr;
  };
  const Curve* exact = find(kind);
  return exact != nullptr || kind.empty() ? exact : find("");
}

Curves FitCurves(const std::vector<Label>& labels) {
  std::map<std::pair<std::string, std::string>, std::map<std::string, Labels>> groups;
  for (const Label& label : labels) groups[{label.metric, label.model}][label.kind].push_back(&label);
  Curves curves;
  for (const auto& [key, kinds] : groups) {
    Labels everything;
    for (const auto& [kind, of_kind] : kinds) everything.insert(everything.end(), of_kind.begin(), of_kind.end());
    const Curve all = FitAll(everything);
    curves.push_back(all);
    for (const auto& [kind, of_kind] : kinds) {
      if (!kind.empty()) curves.push_back(FitKind(all, of_kind));
    }
  }
  return curves;
}

}  // namespace goad::calibration
