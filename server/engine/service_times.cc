#include "server/engine/service_times.h"

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace goad::server {
namespace {

constexpr double kLeastTokenSeconds = 1e-9;  // of prefill: its rate stays finite

// In the order of the features: 1, prompt tokens, output tokens, output tokens x queries.
estimate::Vector Prior(const ComputeConfig& compute) {
  return {compute.overhead_s, 1 / compute.prefill_tokens_per_s, compute.token_time_s, compute.token_time_per_query_s};
}

double Seconds(MonotonicTime now) { return SecondsBetween(MonotonicTime(), now); }

bool Learns(const ComputeConfig& compute) { return compute.model == sched::ComputeModel::kBatching && compute.learn; }

}  // namespace

void ServiceEstimate::Add(const ComputeConfig& compute, const ServedSample& sample, int declared, double queries,
                          MonotonicTime now) {
  if (!Learns(compute)) return;
  const double keep = estimate_.SamplesAt(Seconds(now)) > 0 ? kKeep : 0;
  declared_ = keep * declared_ + declared;
  computed_ = keep * computed_ + sample.prompt_tokens;
  const double output = sample.output_tokens;
  const estimate::Vector features = {1, static_cast<double>(sample.prompt_tokens), output, output * queries};
  const estimate::Vector start = Start(compute);
  estimate_.Add(features, sample.compute_s, start, Seconds(now));
  Remember(features, estimate_.At(start, Seconds(now)));
}

void ServiceEstimate::Remember(const estimate::Vector& features, const estimate::Vector& learned) {
  ++answers_;
  const double newest = std::max(1.0 / static_cast<double>(answers_), 1.0 / (kEvery * kRemembered));
  for (size_t k = 0; k < features.size(); ++k) mean_question_[k] += newest * (features[k] - mean_question_[k]);
  if (answers_ % kEvery != 0) return;
  const uint64_t times = answers_ / kEvery;
  remembered_[(times - 1) % kRemembered] = learned;
  auto sorted = remembered_;
  const auto quarter = sorted.begin() + static_cast<std::ptrdiff_t>(std::min<uint64_t>(times, kRemembered) / 4);
  std::nth_element(sorted.begin(), quarter,
                   sorted.begin() + static_cast<std::ptrdiff_t>(std::min<uint64_t>(times, kRemembered)),
                   [this](const estimate::Vector& a, const estimate::Vector& b) {
                     return estimate::Dot(a, mean_question_) < estimate::Dot(b, mean_question_);
                   });
  usual_ = *quarter;
}

estimate::Vector ServiceEstimate::Start(const ComputeConfig& compute) const {
  const estimate::Vector configured = Prior(compute);
  if (answers_ < kEvery) return configured;
  return estimate::Dot(usual_, mean_question_) < estimate::Dot(configured, mean_question_) ? usual_ : configured;
}

double ServiceEstimate::ComputedPerDeclared() const {
  constexpr double kMostApart = 10;  // more is no way of counting
  return declared_ > 0 ? std::clamp(computed_ / declared_, 1 / kMostApart, kMostApart) : 1;
}

ServiceTimes ServiceEstimate::At(const ComputeConfig& compute, MonotonicTime now) const {
  ServiceTimes times{compute.overhead_s, compute.prefill_tokens_per_s, compute.token_time_s,
                     compute.token_time_per_query_s};
  if (!Learns(compute)) return times;
  const estimate::Vector start = Start(compute);
  times.samples = estimate_.SamplesAt(Seconds(now));
  if (times.samples == 0) {
    if (start == Prior(compute)) return times;  // to the last bit
    times.samples = answers_;
  }
  const estimate::Vector learned = estimate_.At(start, Seconds(now));
  times.overhead_s = learned[0];
  times.prefill_tokens_per_s = 1 / std::max(learned[1] * ComputedPerDeclared(), kLeastTokenSeconds);
  times.token_time_s = learned[2];
  times.token_time_per_query_s = learned[3];
  return times;
}

bool BeginsAnew(const SiteConfig& before, const SiteConfig& now) {
  const auto servers = [](const SiteConfig& site) {
    std::vector<std::pair<std::string, std::string>> list;
    for (const BackendConfig& backend : site.backends) {
      if (!backend.presence.removed()) list.emplace_back(backend.url, backend.model);
    }
    std::sort(list.begin(), list.end());
    return list;
  };
  const auto start = [](const SiteConfig& site) {
    const ComputeConfig& c = site.compute;
    return std::tuple(c.model, c.learn, Prior(c));
  };
  return before.name != now.name || servers(before) != servers(now) || start(before) != start(now);
}

}  // namespace goad::server
