#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "scheduler/estimate/linear_estimate.h"

namespace goad::estimate {
namespace {

constexpr double kKeep = 0.93;  // as for sites

uint64_t FirstSeed() {
  const char* from_environment = std::getenv("GOAD_TEST_SEED");
  return from_environment != nullptr ? std::strtoull(from_environment, nullptr, 10) : 1;
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

double Objective(const Matrix& a, const Vector& b, const Vector& x) {
  double value = 0;
  for (size_t k = 0; k < kFeatures; ++k) value += x[k] * (Dot(a[k], x) / 2 - b[k]);
  return value;
}

Matrix Diagonal(double d) {
  Matrix a = {};
  for (size_t k = 0; k < kFeatures; ++k) a[k][k] = d;
  return a;
}

TEST(SolveNonNegative, HandWorked) {
  EXPECT_EQ(SolveNonNegative(Diagonal(4), {4, 8, 12, 16}), (Vector{1, 2, 3, 4}));
  EXPECT_EQ(SolveNonNegative(Diagonal(4), {4, -8, 12, 0}), (Vector{1, 0, 3, 0}));
  EXPECT_EQ(SolveNonNegative(Diagonal(4), {-1, -1, -1, -1}), (Vector{}));
  // x0 + x1 = 2 and x0 = 3 alike: without the bound (3, -1), with it (2.5, 0) and not (3, 0).
  Matrix a = Diagonal(1);
  a[0][0] = 2, a[0][1] = a[1][0] = a[1][1] = 1;
  const Vector x = SolveNonNegative(a, {5, 2, 0, 0});
  EXPECT_DOUBLE_EQ(x[0], 2.5);
  EXPECT_EQ(x[1], 0);
}

// At the least no step that is allowed goes down: the slope is 0 where x > 0, and not below 0 where x = 0.
TEST(SolveNonNegative, NoAllowedStepGoesDown) {
  int bound = 0;
  for (uint64_t seed = FirstSeed(); seed < FirstSeed() + 2000; ++seed) {
    SCOPED_TRACE(testing::Message() << "GOAD_TEST_SEED=" << seed);
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    const double scale[] = {1, 1e3, 1e-3, 1e2};  // features differ by that much
    Matrix a = {};
    for (int row = 0; row < 6; ++row) {
      Vector v;
      for (size_t k = 0; k < kFeatures; ++k) v[k] = scale[k] * normal(random);
      for (size_t k = 0; k < kFeatures; ++k) {
        for (size_t l = 0; l < kFeatures; ++l) a[k][l] += v[k] * v[l];
      }
    }
    Vector b;
    for (size_t k = 0; k < kFeatures; ++k) b[k] = scale[k] * normal(random);
    const Vector x = SolveNonNegative(a, b);
    for (size_t k = 0; k < kFeatures; ++k) {
      const double slope = (Dot(a[k], x) - b[k]) / scale[k];
      ASSERT_GE(x[k], 0);
      ASSERT_TRUE(x[k] > 0 ? std::abs(slope) < 1e-6 : slope > -1e-6) << "coefficient " << k << ": " << slope;
      bound += x[k] == 0;
      Vector other = x;
      other[k] = std::max(0.0, x[k] + normal(random) / scale[k]);
      ASSERT_GE(Objective(a, b, other), Objective(a, b, x) - 1e-9);
    }
  }
  EXPECT_GT(bound, 1000);
}

TEST(LinearEstimate, FirstSampleByHand) {
  const Vector prior = {2, 0, 0, 0};
  LinearEstimate same(kKeep), more(kKeep), wild(kKeep);
  EXPECT_EQ(same.At(prior, 5), prior);
  same.Add({1}, 2, prior, 5);
  EXPECT_DOUBLE_EQ(same.At(prior, 5)[0], 2);
  EXPECT_EQ(same.SamplesAt(5), 1u);
  more.Add({1}, 4, prior, 5);  // a sample against a ridge of 0.3 samples
  EXPECT_DOUBLE_EQ(more.At(prior, 5)[0], (4 + 0.3 * 2) / 1.3);
  wild.Add({1}, 1e9, prior, 5);  // counts as 3 x 2
  EXPECT_DOUBLE_EQ(wild.At(prior, 5)[0], (6 + 0.3 * 2) / 1.3);
  // Of two features that one sample cannot tell apart each takes the same seconds of what is more.
  LinearEstimate split(kKeep);
  split.Add({1, 4}, 4, {1, 0.25}, 5);
  const Vector learned = split.At({1, 0.25}, 5);
  EXPECT_NEAR(learned[0] - 1, 4 * (learned[1] - 0.25), 1e-12);
  EXPECT_NEAR(learned[0] + 4 * learned[1], 2 + 2 * 2 / 2.3, 1e-12);
}

TEST(LinearEstimate, ReturnsToThePriorWithinAMinute) {
  const Vector prior = {1, 0.01, 0, 0};
  LinearEstimate estimate{kKeep};
  double now_s = 1e6;
  for (int k = 0; k < 100; ++k) estimate.Add({1, 100.0 + k % 7}, 20, prior, now_s += 0.1);
  const auto seconds = [&](double later_s) { return Dot(estimate.At(prior, now_s + later_s), {1, 100}); };
  EXPECT_NEAR(seconds(0), 20, 1);
  EXPECT_NEAR(seconds(30), 0.75 * seconds(0) + 0.25 * 2, 1e-9);
  double last = seconds(0);
  for (double later_s = 1; later_s <= 60; ++later_s) {
    EXPECT_LT(seconds(later_s), last);
    last = seconds(later_s);
  }
  EXPECT_EQ(estimate.At(prior, now_s + 60), prior);
  EXPECT_EQ(estimate.SamplesAt(now_s + 59), 100u);
  EXPECT_EQ(estimate.SamplesAt(now_s + 60), 0u);
  // Nothing of what was slow is left then: it is as if there had been nothing.
  LinearEstimate anew(kKeep);
  for (LinearEstimate* one : {&estimate, &anew}) one->Add({1, 100}, 1, prior, now_s + 60);
  EXPECT_EQ(estimate.At(prior, now_s + 60), anew.At(prior, now_s + 60));
  EXPECT_EQ(estimate.SamplesAt(now_s + 60), 1u);
}

// A server as DESIGN has it: overhead, prompt tokens, output tokens, output tokens x queries.
class Server {
 public:
  explicit Server(uint64_t seed) : random_(seed) {}

  Vector truth = {0.05, 1 / 3000.0, 0.008, 0.001};
  double noise = 0.1;       // of the logarithm
  double wild_share = 0;    // of the answers, which then take 20 times as long
  bool two_tokens = false;  // prompts of one size, and answers of two tokens
  Vector prior = {0, 1 / 5000.0, 0.005, 0.001};
  LinearEstimate estimate{kKeep};

  struct Answer {
    double error = 0;         // of the prediction before it, relative to what it should have taken
    double signed_error = 0;  // relative to what it took
  };
  Answer Next() {
    const Vector features = Draw();
    const double should_s = Dot(truth, features), predicted_s = Dot(estimate.At(prior, now_s_), features);
    double took_s = should_s * std::exp(noise * normal_(random_));
    if (Uniform() < wild_share) took_s *= 20;
    estimate.Add(features, took_s, prior, now_s_ += 0.1);
    for (const double coefficient : estimate.At(prior, now_s_)) {
      EXPECT_TRUE(std::isfinite(coefficient) && coefficient >= 0) << coefficient;
    }
    return {std::abs(predicted_s / should_s - 1), predicted_s / took_s - 1};
  }
  std::vector<double> Errors(int answers) {
    std::vector<double> errors;
    for (int k = 0; k < answers; ++k) errors.push_back(Next().error);
    return errors;
  }
  void Slower(double factor) {
    for (double& coefficient : truth) coefficient *= factor;
  }
  void ScalePrior(double factor) {
    for (double& coefficient : prior) coefficient *= factor;
  }
  Vector Draw() {
    const double queries = 1 + static_cast<double>(random_() % 8);
    const double prompt = two_tokens ? 120 : std::floor(1000 * std::exp(normal_(random_)));
    const double output = two_tokens ? 2 : 1 + std::floor(-129 * std::log(1 - Uniform()));
    return {1, prompt, output, output * queries};
  }

 private:
  double Uniform() { return static_cast<double>(random_() >> 11) * 0x1p-53; }
  std::mt19937_64 random_;
  std::normal_distribution<double> normal_;
  double now_s_ = 100;
};

// The errors of `count` answers of each of 40 seeds, once `before` has had its way with each server.
template <typename Before>
std::vector<double> ErrorsOverSeeds(int count, const Before& before) {
  std::vector<double> all;
  for (uint64_t seed = FirstSeed(); seed < FirstSeed() + 40; ++seed) {
    SCOPED_TRACE(testing::Message() << "GOAD_TEST_SEED=" << seed);
    Server server(seed);
    before(server);
    const std::vector<double> errors = server.Errors(count);
    all.insert(all.end(), errors.begin(), errors.end());
  }
  return all;
}

TEST(LinearEstimate, LearnsWhateverThePriorIs) {
  for (const double off : {0.1, 0.5, 1.0, 2.0, 10.0}) {
    const auto errors = ErrorsOverSeeds(50, [&](Server& server) {
      server.ScalePrior(off);
      server.noise = 0.3;
      server.Errors(100);
    });
    EXPECT_LT(Median(errors), 0.1) << "prior x " << off;
  }
}

TEST(LinearEstimate, IsNotBiased) {
  std::vector<double> errors;
  double sum = 0;
  for (uint64_t seed = FirstSeed(); seed < FirstSeed() + 40; ++seed) {
    Server server(seed);
    server.noise = 0.3;
    server.Errors(100);
    for (int k = 0; k < 100; ++k) sum += errors.emplace_back(server.Next().signed_error);
  }
  EXPECT_LT(std::abs(Median(errors)), 0.1);
  EXPECT_LT(std::abs(sum / static_cast<double>(errors.size())), 0.1);
}

TEST(LinearEstimate, WhatHasDoubledIsRightAgainWithinFiftyAnswers) {
  for (const bool two_tokens : {false, true}) {
    for (const double factor : {2.0, 0.5}) {
      const auto errors = ErrorsOverSeeds(20, [&](Server& server) {
        server.two_tokens = two_tokens;
        server.Errors(200);
        server.Slower(factor);
        server.Errors(40);
      });
      EXPECT_LT(Median(errors), 0.15) << "two tokens " << two_tokens << ", x " << factor;
    }
    // Only its output tokens.
    const auto errors = ErrorsOverSeeds(20, [&](Server& server) {
      server.two_tokens = two_tokens;
      server.Errors(200);
      server.truth[2] *= 2, server.truth[3] *= 2;
      server.Errors(40);
    });
    EXPECT_LT(Median(errors), 0.15) << "two tokens " << two_tokens;
  }
}

TEST(LinearEstimate, WhatIsTenTimesAsSlowOrFastIsNoticedAfterTwentyAnswers) {
  for (const double factor : {10.0, 0.1}) {
    const auto errors = ErrorsOverSeeds(10, [&](Server& server) {
      server.Errors(200);
      server.Slower(factor);
      server.Errors(20);
    });
    EXPECT_LT(Median(errors), 0.25) << "x " << factor;
  }
}

TEST(LinearEstimate, AWildSampleMovesLittle) {
  std::vector<double> rises;
  for (uint64_t seed = FirstSeed(); seed < FirstSeed() + 40; ++seed) {
    SCOPED_TRACE(testing::Message() << "GOAD_TEST_SEED=" << seed);
    Server server(seed);
    server.Errors(200);
    const Vector features = server.Draw();
    const double before_s = Dot(server.estimate.At(server.prior, 120), features);
    server.estimate.Add(features, 1e6, server.prior, 120);
    rises.push_back(Dot(server.estimate.At(server.prior, 120), features) / before_s - 1);
    EXPECT_LT(Median(server.Errors(20)), 0.15);
  }
  EXPECT_LT(Median(rises), 0.25);
  const auto errors = ErrorsOverSeeds(50, [](Server& server) {
    server.wild_share = 0.03;
    server.Errors(100);
  });
  EXPECT_LT(Median(errors), 0.1);
}

// Answers of two tokens to prompts of one size: the sum is right and the prior splits it.
TEST(LinearEstimate, WhatCannotBeToldApartIsSplitByThePrior) {
  for (const double off : {0.2, 5.0}) {
    const auto errors = ErrorsOverSeeds(50, [&](Server& server) {
      server.two_tokens = true;
      server.prior = server.truth;
      server.ScalePrior(off);
      server.Errors(100);
    });
    EXPECT_LT(Median(errors), 0.05) << "prior x " << off;
  }
  Server right(1);  // a prior that is right stays as it is, whatever the samples do not tell
  right.prior = right.truth;
  right.noise = 0;
  right.two_tokens = true;
  right.Errors(1000);
  for (size_t k = 0; k < kFeatures; ++k) EXPECT_NEAR(right.estimate.At(right.prior, 200)[k], right.truth[k], 1e-9);
}

// Ten thousand two-token answers do not make it forget what it had learned of long ones.
TEST(LinearEstimate, ForgetsOnlyAlongWhatItSees) {
  const auto errors = ErrorsOverSeeds(1, [](Server& server) {
    server.noise = 0.02;
    server.Errors(300);
    server.two_tokens = true;
    server.Errors(10000);
    server.two_tokens = false;
  });
  EXPECT_LT(Median(errors), 0.1);
}

// Nothing drifts away: not with one kind of sample for ever, nor with features of every size, nor at the extremes.
TEST(LinearEstimate, StaysFiniteOverALongTime) {
  for (uint64_t seed = FirstSeed(); seed < FirstSeed() + 3; ++seed) {
    SCOPED_TRACE(testing::Message() << "GOAD_TEST_SEED=" << seed);
    std::mt19937_64 random(seed);
    const Vector prior = {0, 1e-9, 1, 1e-6};
    LinearEstimate estimate{kKeep};
    double now_s = 0;
    for (int k = 0; k < 200000; ++k) {
      Vector features = {1, 0, 0, 0};
      for (size_t l = 1; l < kFeatures; ++l) {
        if (random() % 3 == 0) features[l] = std::pow(10, static_cast<double>(random() % 9));
      }
      const double seconds = random() % 50 == 0 ? 0 : std::pow(10, static_cast<double>(random() % 12) - 6);
      estimate.Add(features, seconds, prior, now_s += random() % 1000 == 0 ? 50 : 1e-3);
      const Vector learned = estimate.At(prior, now_s);
      for (const double coefficient : learned) ASSERT_TRUE(std::isfinite(coefficient) && coefficient >= 0) << k;
    }
  }
}

}  // namespace
}  // namespace goad::estimate
