// What it costs to learn from an answer: a sample and a prediction, a site's service times, a line of the decision log.
// Prints, asserts nothing.
#include <chrono>
#include <cstdio>
#include <random>
#include <vector>

#include "scheduler/estimate/linear_estimate.h"
#include "server/engine/service_times.h"
#include "server/telemetry/outcome_json.h"

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

// What the engine does per answer and, for a prediction, per site and epoch.
double ServiceNanosecondsEach(const std::vector<Sample>& samples) {
  goad::server::ServiceEstimate estimate;
  const goad::server::ComputeConfig compute;
  auto now = goad::server::MonotonicTime::FromOrigin(absl::Seconds(1));
  double sum = 0;
  const auto start = std::chrono::steady_clock::now();
  for (const Sample& sample : samples) {
    sum += estimate.At(compute, now).token_time_s;
    const goad::server::ServedSample served{sample.seconds, static_cast<int>(sample.features[1]),
                                            static_cast<int>(sample.features[2])};
    estimate.Add(compute, served, served.prompt_tokens, sample.features[3] / sample.features[2],
                 now = now + absl::Milliseconds(1));
  }
  const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
  if (sum < 0) std::puts("never");
  return took.count() / static_cast<double>(samples.size());
}

// Its text; on the decision log's own thread.
double OutcomeNanosecondsEach(int count) {
  goad::server::OutcomeRecord record;
  record.query_id = "0123456789abcdef-1";
  record.device = "127.0.0.1/device loadgen-17";
  record.site = "cell-a";
  record.backend = "cell-a/0";
  record.upload_s = record.compute_s = 0.123456789;
  record.configured = goad::server::ComputeConfig();
  size_t bytes = 0;
  const auto start = std::chrono::steady_clock::now();
  for (int k = 0; k < count; ++k) bytes += goad::server::ToJson(record).dump().size();
  const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
  if (bytes == 0) std::puts("never");
  return took.count() / count;
}

void Print(const char* name, double each_ns) {
  std::printf("%-26s %6.0f ns: %.2f %% of a core at 5,000 answers/s\n", name, each_ns, each_ns * 5000 / 1e7);
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
  Print("all coefficients above 0", NanosecondsEach(answers, prior));
  Print("most coefficients 0", NanosecondsEach(bounded, prior));
  Print("a site's service times", ServiceNanosecondsEach(answers));
  Print("a line of the log", OutcomeNanosecondsEach(20000));
}
