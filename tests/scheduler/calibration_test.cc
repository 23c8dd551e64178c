// Monotone curves, exact bounds and the certificate, against values known by hand and populations made here.
#include <cmath>
#include <random>
#include <set>
#include <string>

#include "gtest/gtest.h"
#include "scheduler/calibration/binomial.h"
#include "scheduler/calibration/certificate.h"
#include "scheduler/calibration/curves.h"
#include "scheduler/calibration/monotone.h"
#include "scheduler/calibration/reliability.h"

namespace goad::calibration {
namespace {

// P(at least `right` of `trials`) at `rate`, summed.
double Tail(size_t right, size_t trials, double rate) {
  double sum = 0;
  for (size_t k = right; k <= trials; ++k) {
    const auto n = static_cast<double>(trials), i = static_cast<double>(k);
    sum += std::exp(std::lgamma(n + 1) - std::lgamma(i + 1) - std::lgamma(n - i + 1) + i * std::log(rate) +
                    (n - i) * std::log1p(-rate));
  }
  return sum;
}

TEST(BinomialTest, IncompleteBetaIsWhatIsKnown) {
  EXPECT_NEAR(IncompleteBeta(2, 3, 0.5), 11.0 / 16, 1e-12);             // P(2 or more heads of 4)
  EXPECT_NEAR(IncompleteBeta(1, 1, 0.3), 0.3, 1e-12);                   // uniform
  EXPECT_NEAR(IncompleteBeta(0.5, 0.5, 0.25), 1.0 / 3, 1e-12);          // arcsine: 2/pi asin(sqrt x)
  EXPECT_NEAR(IncompleteBeta(3, 1, 0.9), 0.729, 1e-12);                 // x^3
  EXPECT_NEAR(IncompleteBeta(1, 4, 0.1), 1 - std::pow(0.9, 4), 1e-12);  // 1 - (1 - x)^4
  EXPECT_EQ(IncompleteBeta(2, 3, 0), 0);
  EXPECT_EQ(IncompleteBeta(2, 3, 1), 1);
}

TEST(BinomialTest, BoundsAreClopperAndPearsons) {
  EXPECT_NEAR(LowerBound(20, 20, 0.9), std::pow(0.1, 1.0 / 20), 1e-9);       // all right: p^n = 1 - confidence
  EXPECT_NEAR(LowerBound(1, 50, 0.95), 1 - std::pow(0.95, 1.0 / 50), 1e-9);  // one right: 1 - (1 - p)^n
  EXPECT_NEAR(LowerBound(1, 2, 0.9), 1 - std::sqrt(0.9), 1e-9);
  EXPECT_NEAR(UpperBound(0, 10, 0.95), 1 - std::pow(0.05, 0.1), 1e-9);
  EXPECT_NEAR(UpperBound(0, 100, 0.9), 1 - std::pow(0.1, 0.01), 1e-9);
  EXPECT_NEAR(LowerBound(8, 10, 0.95), 0.4931, 5e-5);  // as published tables have it
  EXPECT_NEAR(UpperBound(8, 10, 0.95), 0.9632, 5e-5);
  EXPECT_EQ(LowerBound(0, 10, 0.9), 0);
  EXPECT_EQ(UpperBound(10, 10, 0.9), 1);
  for (const size_t trials : {5, 50, 250, 2000}) {
    for (const double share : {0.2, 0.5, 0.77, 0.98}) {
      const auto right = static_cast<size_t>(share * static_cast<double>(trials));
      if (right == 0) continue;
      EXPECT_NEAR(Tail(right, trials, LowerBound(right, trials, 0.9)), 0.1, 1e-9) << right << " of " << trials;
    }
  }
}

TEST(BinomialTest, HowManyTrialsItTakes) {
  EXPECT_EQ(TrialsFor(1, 0.75, 0.9), 9u);  // 0.75^8 is 0.1001
  EXPECT_EQ(TrialsFor(0.7, 0.75, 0.9), std::nullopt);
  EXPECT_EQ(TrialsFor(0.75, 0.75, 0.9), std::nullopt);
  const size_t trials = *TrialsFor(0.8, 0.75, 0.9);
  EXPECT_GE(LowerBound(trials * 4 / 5, trials, 0.9), 0.75 - 0.01);
  EXPECT_GT(trials, 100u);
  EXPECT_LT(trials, 160u);
}

TEST(MonotoneTest, ViolatorsArePooled) {
  const std::vector<Point> points = FitMonotone({{4, 1, 1}, {1, 0, 1}, {3, 0, 1}, {2, 1, 1}}, 0);
  ASSERT_EQ(points.size(), 3u);
  EXPECT_DOUBLE_EQ(points[1].x, 2.5);
  EXPECT_DOUBLE_EQ(points[1].y, 0.5);
  EXPECT_DOUBLE_EQ(ValueAt(points, 0), 0);
  EXPECT_DOUBLE_EQ(ValueAt(points, 1.75), 0.25);
  EXPECT_DOUBLE_EQ(ValueAt(points, 2.5), 0.5);
  EXPECT_DOUBLE_EQ(ValueAt(points, 9), 1);
}

TEST(MonotoneTest, WeightsCountAndEqualXAreOne) {
  const std::vector<Point> points = FitMonotone({{1, 1, 3}, {2, 0, 1}, {5, 1, 1}, {5, 0.8, 1}}, 0);
  ASSERT_EQ(points.size(), 2u);
  EXPECT_DOUBLE_EQ(points[0].x, 1.25);
  EXPECT_DOUBLE_EQ(points[0].y, 0.75);
  EXPECT_DOUBLE_EQ(points[1].y, 0.9);
}

TEST(MonotoneTest, LightLevelsJoinTheirNeighbour) {
  const std::vector<Point> points = FitMonotone({{1, 0, 1}, {2, 0.1, 5}, {3, 0.5, 5}, {4, 1, 1}}, 5);
  ASSERT_EQ(points.size(), 2u);
  EXPECT_DOUBLE_EQ(points[0].y, 0.5 / 6);
  EXPECT_DOUBLE_EQ(points[1].y, 3.5 / 6);
}

TEST(MonotoneTest, NeverFallsWhateverIsRounded) {
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> uniform(0, 1);
  for (int run = 0; run < 200; ++run) {
    std::vector<Sample> samples;
    for (int k = 0; k < 60; ++k)
      samples.push_back({uniform(random), uniform(random) < 0.5 ? 0.0 : 1.0, uniform(random) + 0.01});
    const std::vector<Point> points = FitMonotone(samples, run % 3);
    for (size_t k = 1; k < points.size(); ++k) {
      ASSERT_LT(points[k - 1].x, points[k].x);
      ASSERT_LE(points[k - 1].y, points[k].y);
      const double below = std::nextafter(points[k].x, 0);
      ASSERT_LE(ValueAt(points, below), ValueAt(points, points[k].x)) << "run " << run;
    }
  }
}

// Questions of two kinds: the second one's device answers are wrong more often by far; the edge's by `edge_wrong`.
std::vector<Label> Questions(size_t count, uint64_t seed, double edge_wrong = 0.1) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> uniform(0, 1);
  std::vector<Label> labels;
  for (size_t k = 0; k < count; ++k) {
    Label label{
        .uncertainty = uniform(random), .metric = "MARGIN", .model = "slm", .kind = k % 2 == 0 ? "easy" : "hard"};
    label.device_correct = uniform(random) >= std::min(1.0, label.uncertainty * (k % 2 == 0 ? 0.3 : 0.9));
    label.edge_correct = uniform(random) >= edge_wrong;
    labels.push_back(label);
  }
  return labels;
}

TEST(CurvesTest, AKindMovesTheCurveOfAllAsFarAsItsLabelsSay) {
  const Curves curves = FitCurves(Questions(4000, 3));
  ASSERT_EQ(curves.size(), 3u);  // of all, easy, hard
  const Curve& all = *FindCurve(curves, "MARGIN", "slm", "");
  EXPECT_NEAR(all.DeviceWrong(0.5), 0.3, 0.05);
  EXPECT_NEAR(FindCurve(curves, "MARGIN", "slm", "easy")->DeviceWrong(0.8), 0.24, 0.06);
  EXPECT_NEAR(FindCurve(curves, "MARGIN", "slm", "hard")->DeviceWrong(0.8), 0.72, 0.06);
  EXPECT_NEAR(*all.edge_wrong, 0.1, 0.02);
  EXPECT_EQ(FindCurve(curves, "MARGIN", "slm", "unheard")->kind, "");
  EXPECT_EQ(FindCurve(curves, "MARGIN", "other", "easy"), nullptr);
  EXPECT_EQ(FindCurve(curves, "DECLARED", "slm", ""), nullptr);
}

TEST(CurvesTest, AKindOfFewLabelsStaysWithTheOthers) {
  std::vector<Label> labels = Questions(1000, 4);
  Label rare{.uncertainty = 0.5,
             .metric = "MARGIN",
             .model = "slm",
             .kind = "rare",
             .device_correct = false,
             .edge_correct = false};
  labels.push_back(rare);
  const Curves curves = FitCurves(labels);
  const Curve &all = *FindCurve(curves, "MARGIN", "slm", ""), &kind = *FindCurve(curves, "MARGIN", "slm", "rare");
  EXPECT_GT(kind.DeviceWrong(0.5), all.DeviceWrong(0.5));
  EXPECT_NEAR(kind.DeviceWrong(0.5), all.DeviceWrong(0.5), 0.02);
  EXPECT_NEAR(*kind.edge_wrong, (1 + 10 * *all.edge_wrong) / 11, 1e-12);
}

TEST(CurvesTest, TauIsTheUpperEndOfAPlateau) {
  const Curve curve{.metric = "",
                    .model = "",
                    .kind = "",
                    .labels = 0,
                    .points = {{0.2, 0.1}, {0.4, 0.5}, {0.6, 0.5}, {0.8, 0.9}},
                    .edge_wrong = 0.1};
  EXPECT_DOUBLE_EQ(curve.Value(0.1), 0);
  EXPECT_DOUBLE_EQ(curve.TauFor(0), 0.2);
  EXPECT_NEAR(curve.TauFor(0.4), 0.6, 1e-12);
  EXPECT_NEAR(curve.TauFor(0.39), 0.395, 1e-12);
  EXPECT_EQ(curve.TauFor(0.8), 1);
  for (double value = 0; value < 1; value += 0.01) {  // above the one exactly where above the other
    const double tau = curve.TauFor(value);
    EXPECT_LE(curve.Value(tau), value);
    if (tau < 1) {
      EXPECT_GT(curve.Value(std::nextafter(tau, 2)), value);
    }
  }
}

TEST(CurvesTest, ValuesAreInRangeWhenTheEdgeIsWorse) {
  const Curves curves = FitCurves(Questions(500, 5, 0.9));
  for (const Curve& curve : curves) {
    for (double x = 0; x <= 1; x += 0.01) {
      EXPECT_GE(curve.Value(x), 0);
      EXPECT_LE(curve.Value(x), 1);
    }
  }
  EXPECT_EQ(curves[0].Value(0.1), 0);
}

TEST(CertificateTest, HalvesAreDisjointAndTheSameEachTime) {
  std::vector<Label> labels = Questions(101, 6);
  for (size_t k = 0; k < labels.size(); ++k) labels[k].model = std::to_string(k);
  const Halves halves = SplitLabels(labels, kSplitSeed), again = SplitLabels(labels, kSplitSeed);
  EXPECT_EQ(halves.certify.size(), 51u);
  EXPECT_EQ(halves.fit.size(), 50u);
  std::set<std::string> seen;
  for (const Label& label : halves.fit) EXPECT_TRUE(seen.insert(label.model).second);
  for (const Label& label : halves.certify) EXPECT_TRUE(seen.insert(label.model).second);
  for (size_t k = 0; k < again.certify.size(); ++k) EXPECT_EQ(again.certify[k].model, halves.certify[k].model);
  EXPECT_NE(SplitLabels(labels, 2).certify[0].model + SplitLabels(labels, 2).certify[1].model,
            halves.certify[0].model + halves.certify[1].model);
}

TEST(CertificateTest, TheGridIsNotOfTheCertifyHalf) {
  const std::vector<Label> fit = Questions(300, 8);
  const Curves curves = FitCurves(fit);
  const Evidence one = Gather(curves, fit, Questions(200, 9)), other = Gather(curves, fit, Questions(50, 10));
  ASSERT_EQ(one.steps.size(), other.steps.size());
  for (size_t k = 0; k < one.steps.size(); ++k) EXPECT_EQ(one.steps[k].value_tau, other.steps[k].value_tau);
  EXPECT_EQ(one.steps.front().value_tau, 0);
  EXPECT_EQ(one.steps.back().value_tau, 1);
  EXPECT_EQ(one.steps.back().offloaded, 0u);
}

TEST(CertificateTest, BelowTauEachStratumCountsWithTheWorse) {
  // Values are the uncertainties; the fit half has them at 0.2, 0.4, 0.6, 0.8: strata up to 0, 0.4, 0.6, 0.8, above.
  const Curves curves = {
      {.metric = "", .model = "", .kind = "", .labels = 4, .points = {{0, 0}, {1, 1}}, .edge_wrong = 0.0}};
  std::vector<Label> fit, certify;
  for (const double at : {0.2, 0.4, 0.6, 0.8}) fit.push_back({.uncertainty = at});
  const auto add = [&](double at, bool device, bool edge) {
    certify.push_back({.uncertainty = at, .device_correct = device, .edge_correct = edge});
  };
  add(0.0, true, false);  // value 0: the edge is worse
  add(0.3, true, false);  // one stratum: device 2 right, edge 1
  add(0.35, true, true);
  add(0.5, false, true);                                            // the next one: device 0, edge 1
  add(0.7, false, true);                                            // above tau
  certify.push_back({.uncertainty = 0.7, .device_correct = true});  // says nothing of the edge: certifies nothing
  const Evidence evidence = Gather(curves, fit, certify);
  const auto at = [&](double tau) {
    for (const Step& step : evidence.steps) {
      if (step.value_tau == tau) return step;
    }
    ADD_FAILURE() << tau;
    return Step{};
  };
  const Step step = at(0.6);
  EXPECT_EQ(step.offloaded, 1u);
  EXPECT_EQ(step.right, 1u + 0 + 1 + 0);        // above; value 0; the worse of 2 and 1; the worse of 0 and 1
  EXPECT_EQ(step.local_right, 1u + 1 + 2 + 0);  // all device
  EXPECT_EQ(at(0).right, 3u);                   // all but value 0 at the edge
  EXPECT_EQ(at(0).local_right, 4u);
}

TEST(CertificateTest, StopsAtTheFirstFailure) {
  Evidence evidence{.labels = 100, .steps = {{0, 90, 90, 91}, {0.1, 80, 85, 90}, {0.2, 60, 70, 89}, {0.3, 50, 95, 95}}};
  const auto certificate = Certify(evidence, 0.75, 0.9);
  ASSERT_TRUE(certificate);
  EXPECT_EQ(certificate->value_tau, 0.1);
  EXPECT_EQ(certificate->share, 0.8);
  EXPECT_EQ(certificate->labels, 100u);
  EXPECT_NEAR(Tail(85, 100, certificate->bound), 0.1, 1e-9);
  EXPECT_EQ(Certify(evidence, 0.75, 0.9, Below::kLocal)->value_tau, 0.3);
  EXPECT_FALSE(Certify(evidence, 0.9, 0.9));
  EXPECT_FALSE(Certify({}, 0.5, 0.9));
}

// The promise itself, at its worst: a population whose true accuracy, worse of both, is just below the target at every
// tau. The curves play no part in it, so the answers do not depend on the uncertainty.
TEST(CertificateTest, ATargetThatIsMissedIsCertifiedInOneOfTenDrawsAtMost) {
  constexpr int kDraws = 2000;
  constexpr double kRight = 0.7499;
  int certified = 0;
  for (uint64_t seed = 1; seed <= kDraws; ++seed) {
    std::mt19937_64 random(seed);
    std::uniform_real_distribution<double> uniform(0, 1);
    std::vector<Label> labels;
    for (int k = 0; k < 300; ++k) {
      labels.push_back({.uncertainty = uniform(random),
                        .device_correct = uniform(random) < kRight,
                        .edge_correct = uniform(random) < kRight});
    }
    const Halves halves = SplitLabels(labels, kSplitSeed);
    certified += Certify(Gather(FitCurves(halves.fit), halves.fit, halves.certify), 0.75, 0.9) ? 1 : 0;
  }
  EXPECT_LE(certified, kDraws * 0.1 + 3 * std::sqrt(kDraws * 0.09));
  EXPECT_GT(certified, 0);  // else it asks nothing of the bound
}

TEST(ReliabilityTest, ErrorsByHand) {
  std::vector<Predicted> predicted;
  for (int k = 0; k < 10; ++k) predicted.push_back({k < 5 ? 0.1 : 0.8, k == 0 || k > 6});
  const auto bins = EqualCountBins(predicted, 2);
  ASSERT_EQ(bins.size(), 2u);
  EXPECT_NEAR(bins[0].wrong, 0.2, 1e-12);
  EXPECT_NEAR(CalibrationError(bins), 0.5 * 0.1 + 0.5 * 0.2, 1e-12);
  EXPECT_NEAR(CalibrationError(EqualWidthBins(predicted)), 0.15, 1e-12);
  EXPECT_EQ(EqualWidthBins({{1.0, true}}).size(), 1u);
  EXPECT_NEAR(*Auroc({{0.1, false}, {0.2, true}, {0.2, false}, {0.9, true}}), 3.5 / 4, 1e-12);
  EXPECT_FALSE(Auroc({{0.1, true}}));
  EXPECT_NEAR(
      AccuracyAt({{0.9, 0, false, true}, {0.1, 0, true, false}, {0.5, 0, false, false}, {0.5, 1, false, true}}, 0.5),
      0.75, 1e-12);
}

}  // namespace
}  // namespace goad::calibration
