#include "server/sim/right_numbers.h"

#include <algorithm>

#include "scheduler/estimate/linear_estimate.h"
#include "server/sim/roofline_sites.h"

namespace goad::server {
namespace {

// All of them count nearly alike, so this is their least squares, with the weights of the daemon's own estimator.
ComputeConfig Fitted(const std::vector<ServiceSample>& samples, const ComputeConfig& otherwise) {
  constexpr double kKeep = 0.9999;
  constexpr double kLeastTokenSeconds = 1e-9;
  estimate::LinearEstimate estimate(kKeep);
  const estimate::Vector prior = {otherwise.overhead_s, 1 / otherwise.prefill_tokens_per_s, otherwise.token_time_s,
                                  otherwise.token_time_per_query_s};
  for (const ServiceSample& sample : samples) {
    estimate.Add({1, sample.prompt_tokens, sample.output_tokens, sample.output_tokens * sample.queries}, sample.seconds,
                 prior, 0);
  }
  const estimate::Vector fitted = estimate.At(prior, 0);
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
