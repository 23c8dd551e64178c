// What a sample and a prediction cost. Prints, asserts nothing.
#include <chrono>
#include <cstdio>
#include <random>
#include <vector>

#include "scheduler/estimate/linear_estimate.h"

namespace {

using goad::estimate::Dot;
using goad::estimate::LinearEstimate;
using goad::estimate::Vector;

struct Sample {
  Vector features;
  double seconds = 0;
};

double NanosecondsEach(std::vector<Sample>& samples, const Vector& prior) {
  LinearEstimate estimate(0.93);
  double now_s = 0, sum = 0;
  const auto start = std::chrono::steady_clock::now();
  for (int round = 0; round < 100; ++round) {
    for (const Sample& sample : samples) {
      sum += Dot(estimate.At(prior, now_s), sample.features);
      estimate.Add(sample.features, sample.seconds, prior, now_s += 1e-3);
    }
  }
  const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
  if (sum < 0) std::puts("never");  // so that nothing is left out as unused
  return took.count() / (100.0 * static_cast<double>(samples.size()));
}

}  // namespace

int main() {
  std::mt19937_64 random(1);
  std::normal_distribution<double> normal;
  const Vector truth = {0.05, 1 / 3000.0, 0.008, 0.001}, prior = {0, 1 / 5000.0, 0.005, 0.001};
  std::vector<Sample> answers, bounded;
  for (int k = 0; k < 10000; ++k) {
    const double output = 1 + static_cast<double>(random() % 300);
    const Vector features = {1, static_cast<double>(random() % 3000), output,
                             output * static_cast<double>(1 + random() % 8)};
    answers.push_back({features, Dot(truth, features) * std::exp(0.1 * normal(random))});
    bounded.push_back({features, 0.001 * features[1] * std::exp(0.3 * normal(random))});  // most coefficients are 0
  }
  for (auto& [name, samples] : {std::pair("all coefficients above 0", &answers), {"most coefficients 0", &bounded}}) {
    const double each_ns = NanosecondsEach(*samples, prior);
    std::printf("%-26s %6.0f ns per sample and prediction: %.2f %% of a core at 5,000 answers/s\n", name, each_ns,
                each_ns * 5000 / 1e7);
  }
}
