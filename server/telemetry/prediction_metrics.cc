#include "server/telemetry/prediction_metrics.h"

namespace goad::server {
namespace {

using prometheus::BuildGauge;
using prometheus::BuildHistogram;
using Buckets = prometheus::Histogram::BucketBoundaries;

const Buckets kErrorSeconds = {-10, -1, -0.25, -0.1, -0.05, -0.01, 0, 0.01, 0.05, 0.1, 0.25, 1, 10};
const Buckets kShares = {-10, -4, -2, -1, -0.5, -0.25, -0.1, 0, 0.1, 0.25, 0.5, 0.75, 0.9};

constexpr std::array<const char*, 2> kParts = {"upload", "compute"};
constexpr std::array<const char*, 4> kServiceParts = {"query", "prompt_token", "output_token",
                                                      "output_token_and_query"};

}  // namespace

PredictionMetrics::PredictionMetrics(prometheus::Registry& registry)
    : errors_(BuildHistogram()
                  .Name("goad_prediction_error_seconds")
                  .Help("Measured minus predicted delay, by site and part.")
                  .Register(registry)),
      relative_errors_(BuildHistogram()
                           .Name("goad_prediction_relative_error")
                           .Help("Measured minus predicted delay, divided by the measured one, by site and part.")
                           .Register(registry)),
      service_(BuildGauge()
                   .Name("goad_service_seconds")
                   .Help("What the last epoch took for a site's compute: seconds a query, a prompt token, an output "
                         "token, and an output token for each query beside it.")
                   .Register(registry)),
      samples_(BuildGauge()
                   .Name("goad_service_samples")
                   .Help("Answers that goad_service_seconds was learned from; 0 = as configured.")
                   .Register(registry)) {}

PredictionMetrics::Site PredictionMetrics::AddSite(const std::string& name) {
  Site site;
  for (size_t part = 0; part < kParts.size(); ++part) {
    site.error[part] = &errors_.Add({{"site", name}, {"part", kParts[part]}}, kErrorSeconds);
    site.relative_error[part] = &relative_errors_.Add({{"site", name}, {"part", kParts[part]}}, kShares);
  }
  for (size_t part = 0; part < kServiceParts.size(); ++part) {
    site.service[part] = &service_.Add({{"site", name}, {"part", kServiceParts[part]}});
  }
  site.samples = &samples_.Add({{"site", name}});
  return site;
}

void PredictionMetrics::Measured(const Site& site, PredictedPart part, double measured_s, double predicted_s) const {
  site.error[static_cast<size_t>(part)]->Observe(measured_s - predicted_s);
  if (measured_s <= 0) return;  // of nothing there is no share
  site.relative_error[static_cast<size_t>(part)]->Observe((measured_s - predicted_s) / measured_s);
}

void PredictionMetrics::ServiceTimes(const Site& site, const sched::SiteState& state, uint64_t samples) const {
  const double seconds[kServiceParts.size()] = {state.overhead_s, 1 / state.prefill_tokens_per_s, state.token_time_s,
                                                state.token_time_per_query_s};
  for (size_t part = 0; part < kServiceParts.size(); ++part) site.service[part]->Set(seconds[part]);
  site.samples->Set(static_cast<double>(samples));
}

}  // namespace goad::server
