#include "server/sim/roofline_sites.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace goad::server {
namespace {

// Lognormal, mean 1; the same for the same key.
double Noise(uint64_t seed, uint64_t what, uint64_t number) {
  std::seed_seq key{seed, seed >> 32, what, number, number >> 32};
  std::minstd_rand random(key);
  return std::lognormal_distribution<double>(-0.5 * kNoise * kNoise, kNoise)(random);
}

constexpr uint64_t kOfPrompts = 1u << 16;  // above every backend's number

}  // namespace

double StepSeconds(int batch) { return std::max(kStepFloor_s, kStepPerQuery_s * batch); }

double MeanSlowness(size_t site, size_t sites, bool late) {
  const double backends = site + 1 == sites ? (kBackendsPerSite - 1 + kSlowBackend) / kBackendsPerSite : 1;
  return backends * (late && site == 0 ? kSlowdown : 1);
}

RooflineSites::RooflineSites(size_t sites, uint64_t seed, MonotonicTime start, MonotonicTime change)
    : seed_(seed), start_(start), change_(change), backends_(sites * kBackendsPerSite) {}

double RooflineSites::Slowness(size_t backend, MonotonicTime now) const {
  return (backend + 1 == backends_.size() ? kSlowBackend : 1) *
         (backend < kBackendsPerSite && now >= change_ ? kSlowdown : 1);
}

void RooflineSites::Begin(const Question& question, MonotonicTime now) {
  const size_t first = question.site * kBackendsPerSite;
  size_t best = first;
  for (size_t k = first; k < first + kBackendsPerSite; ++k) {
    if (backends_[k].queries() < backends_[best].queries()) best = k;
  }
  backends_[best].waiting.push_back({&question, now});
  if (backends_[best].waiting.size() == 1) BeginPrefill(best, now);
}

void RooflineSites::Drop(sched::QueryId, MonotonicTime) {}  // nobody breaks an answer off

MonotonicTime RooflineSites::Next(MonotonicTime) {
  MonotonicTime next = MonotonicTime::Infinite();
  for (const Backend& backend : backends_) next = std::min({next, backend.prefilled, backend.step_ends});
  return next;
}

std::vector<Flows::End> RooflineSites::Ended(MonotonicTime now) {
  std::vector<End> ended;
  for (size_t k = 0; k < backends_.size(); ++k) {
    if (backends_[k].step_ends <= now) EndStep(k, now, &ended);
    if (backends_[k].prefilled <= now) EndPrefill(k, now, &ended);
  }
  return ended;
}

void RooflineSites::BeginPrefill(size_t k, MonotonicTime now) {
  Backend& backend = backends_[k];
  backend.prefilled = MonotonicTime::Infinite();
  if (backend.waiting.empty()) return;
  const Question& question = *backend.waiting.front().question;
  const double seconds = question.candidate.prompt_tokens / kPrefillTokens_s * Slowness(k, now) *
                         Noise(seed_, kOfPrompts, question.number);
  backend.prefilled = now + absl::Seconds(seconds) + absl::Nanoseconds(1);
}

void RooflineSites::EndPrefill(size_t k, MonotonicTime now, std::vector<End>* ended) {
  Backend& backend = backends_[k];
  Running query = backend.waiting.front();
  backend.waiting.pop_front();
  query.first_token_s = SecondsBetween(query.began, now);
  query.left = query.question->output_tokens - 1;
  if (query.left > 0) {
    backend.decoding.push_back(query);
  } else {
    ended->push_back({query.question->id, static_cast<int>(k % kBackendsPerSite), query.first_token_s});
  }
  BeginPrefill(k, now);
  if (backend.in_step == 0) BeginStep(k, now);
}

void RooflineSites::BeginStep(size_t k, MonotonicTime now) {
  Backend& backend = backends_[k];
  backend.in_step = backend.decoding.size();
  backend.step_ends = MonotonicTime::Infinite();
  if (backend.in_step == 0) return;
  const auto second = static_cast<uint64_t>(SecondsBetween(start_, now));
  const double seconds = StepSeconds(static_cast<int>(backend.in_step)) * Slowness(k, now) * Noise(seed_, k, second) *
                         (backend.waiting.empty() ? 1 : kPrefillDrag);
  backend.step_ends = now + absl::Seconds(seconds);
}

void RooflineSites::EndStep(size_t k, MonotonicTime now, std::vector<End>* ended) {
  Backend& backend = backends_[k];
  for (size_t i = 0; i < backend.in_step; ++i) {
    const Running& query = backend.decoding[i];
    if (--backend.decoding[i].left == 0)
      ended->push_back({query.question->id, static_cast<int>(k % kBackendsPerSite), query.first_token_s});
  }
  const auto through = [](const Running& query) { return query.left == 0; };
  backend.decoding.erase(std::remove_if(backend.decoding.begin(), backend.decoding.end(), through),
                         backend.decoding.end());
  BeginStep(k, now);
}

}  // namespace goad::server
