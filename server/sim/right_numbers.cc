#include "server/sim/right_numbers.h"

#include <algorithm>

#include "scheduler/estimate/non_negative.h"
#include "server/sim/roofline_sites.h"

namespace goad::server {
namespace {

// The least squares of all of them, with the weights of the daemon's own estimator: by what was measured times what is
// predicted, so in a few rounds. `otherwise` counts as a thousandth of a sample, for what they do not tell apart.
ComputeConfig Fitted(const std::vector<ServiceSample>& samples, const ComputeConfig& otherwise) {
  constexpr double kLeastTokenSeconds = 1e-9;
  constexpr double kRidge = 1e-3;
  constexpr int kRounds = 5;
  const estimate::Vector prior = {otherwise.overhead_s, 1 / otherwise.prefill_tokens_per_s, otherwise.token_time_s,
                                  otherwise.token_time_per_query_s};
  estimate::Vector fitted = prior;
  for (int round = 0; round < kRounds; ++round) {
    estimate::Matrix a = {};
    estimate::Vector b = {};
    for (const ServiceSample& sample : samples) {
      const estimate::Vector features = {1, sample.prompt_tokens, sample.output_tokens,
                                         sample.output_tokens * sample.queries};
      const double predicted_s = std::max(estimate::Dot(fitted, features), sample.seconds / 10);
      const double weight = 1 / (sample.seconds * predicted_s);
      for (size_t k = 0; k < features.size(); ++k) {
        for (size_t l = 0; l < features.size(); ++l) a[k][l] += weight * features[k] * features[l];
        b[k] += weight * features[k] * sample.seconds;
      }
    }
    const auto n = static_cast<double>(std::max<size_t>(samples.size(), 1));
    for (size_t k = 0; k < b.size(); ++k) {
      const double ridge = kRidge * std::max(a[k][k] / n, 1e-12);
      a[k][k] += ridge;
      b[k] += ridge * prior[k];
    }
    fitted = estimate::SolveNonNegative(a, b);
  }
  ComputeConfig numbers = otherwise;
  numbers.overhead_s = fitted[0];
  numbers.prefill_tokens_per_s = 1 / std::max(fitted[1], kLeastTokenSeconds);
  numbers.token_time_s = fitted[2];
  numbers.token_time_per_query_s = fitted[3];
  return numbers;
}

}  // namespace

SiteNumbers NumbersInPeace(size_t sites) {
  SiteNumbers numbers(sites);
  for (size_t j = 0; j < sites; ++j) {
    for (const bool late : {false, true}) {
      std::vector<ServiceSample> samples;
      for (int queries = 1; queries <= kBatchLimit; ++queries) {
        for (const double prompt : {250, 500, 1000, 2000, 4000}) {
          for (const double output : {50, 100, 200, 400}) {
            const double seconds = prompt / kPrefillTokens_s + output * StepSeconds(queries);
            samples.push_back({prompt, output, static_cast<double>(queries), seconds * MeanSlowness(j, sites, late)});
          }
        }
      }
      numbers[j][late] = Fitted(samples, ComputeConfig());
    }
  }
  return numbers;
}

SiteNumbers NumbersOf(const ServiceSamples& samples, const SiteNumbers& otherwise) {
  SiteNumbers numbers = otherwise;
  for (size_t j = 0; j < numbers.size(); ++j) {
    for (const size_t late : {0, 1}) numbers[j][late] = Fitted(samples[j][late], otherwise[j][late]);
  }
  return numbers;
}

SiteNumbers Faster(SiteNumbers numbers, double factor) {
  for (auto& site : numbers) {
    for (ComputeConfig& compute : site) {
      compute.overhead_s /= factor;
      compute.prefill_tokens_per_s *= factor;
      compute.token_time_s /= factor;
      compute.token_time_per_query_s /= factor;
    }
  }
  return numbers;
}

}  // namespace goad::server
