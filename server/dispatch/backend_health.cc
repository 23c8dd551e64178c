#include "server/dispatch/backend_health.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/dispatch/server_error.h"

namespace goad::server {
namespace {

constexpr std::array<const char*, 2> kPaths = {"/health", "/v1/models"};
constexpr absl::Duration kLongestPause = absl::Seconds(30);
constexpr absl::Duration kAwayPeriod = absl::Seconds(2);   // at most, between probes of a server that is not up
constexpr absl::Duration kModelsPause = absl::Seconds(2);  // then doubled
constexpr int kMostModelsAsked = 6;

size_t PathCount(const BackendHealth::Settings& settings) { return settings.path.empty() ? kPaths.size() : 1; }
std::string PathAt(const BackendHealth::Settings& settings, size_t k) {
  return settings.path.empty() ? kPaths[std::min(k, kPaths.size() - 1)] : settings.path;
}

// The server is there and this page is not, or not for us.
bool NotHere(int status) {
  return status == 401 || status == 403 || status == 404 || status == 405 || (status >= 300 && status < 400);
}

// Whether the page of its models has been answered for good; else it may be another time.
bool SaysAboutModels(int status) {
  return (status >= 200 && status < 300) || NotHere(status) || status == 410 || status == 501;
}

}  // namespace

int BackendHealth::usable_slots(int slots, MonotonicTime now) const {
  if (next_try() > now) return 0;
  return requests_ == BackendState::kUp ? slots : 1;
}

MonotonicTime BackendHealth::next_try() const {
  if (probes_ != BackendState::kUp) return MonotonicTime::Infinite();
  return requests_ == BackendState::kUp ? MonotonicTime() : next_try_;
}

std::string BackendHealth::StartProbe(const Settings& settings) {
  probing_ = true;
  switch (to_ask_.empty() ? Asked::kHealth : to_ask_.front()) {
    case Asked::kProps: return "/props";
    case Asked::kModels: return "/v1/models";
    case Asked::kMetrics: return "/metrics";
    case Asked::kHealth: break;
  }
  return PathAt(settings, path_);
}

BackendHealth::Asked BackendHealth::ProbeDone(const ProbeAnswer& answer, const Settings& settings, MonotonicTime now) {
  probing_ = false;
  next_probe_ = now + settings.period;
  if (!to_ask_.empty()) {
    const Asked asked = to_ask_.front();
    to_ask_.erase(to_ask_.begin());
    if (!to_ask_.empty()) next_probe_ = now;
    if (asked == Asked::kModels) {
      knows_models_ = SaysAboutModels(answer.status) || ++asked_models_ == kMostModelsAsked;
      next_models_ = now + kModelsPause * (1 << asked_models_) / 2;
    }
    return asked;
  }

  const std::string path = PathAt(settings, path_);
  if (NotHere(answer.status) && ++tried_ < PathCount(settings)) {
    path_ = (path_ + 1) % PathCount(settings);
    next_probe_ = now;
    return Asked::kHealth;
  }
  if (NotHere(answer.status)) path_ = 0;
  tried_ = 0;
  const bool good = (answer.status >= 200 && answer.status < 300) || answer.status == 429;
  if (!good && answer.late && answer.busy && state() == BackendState::kUp) return Asked::kHealth;
  ProbeAnswer told = answer;
  told.words = absl::StrCat("GET ", path, ": ", answer.words);
  RoundWas(good, told, settings, now);
  return Asked::kHealth;
}

void BackendHealth::RoundWas(bool good, const ProbeAnswer& answer, const Settings& settings, MonotonicTime now) {
  if (!good) {
    Note(answer.words, now);
    const bool loads = answer.status == 503 && SaysLoading(answer.words);
    if (loads || probes_ != BackendState::kUp) next_probe_ = now + std::min(settings.period, kAwayPeriod);
    if (loads) {
      bad_rounds_ = 0;
      Enter(BackendState::kLoading, requests_, now);
    } else if (++bad_rounds_ >= settings.failures_to_open || probes_ == BackendState::kUnknown ||
               probes_ == BackendState::kLoading) {
      Enter(BackendState::kDown, requests_, now);
    }
    return;
  }
  bad_rounds_ = 0;
  if (probes_ != BackendState::kUp) {
    wants_props_ = true;
    has_metrics_ = !settings.gateway;
    next_models_ = now;
    knows_models_ = false;
    asked_models_ = 0;
    failed_requests_ = told_of_loading_ = 0;
    next_try_ = now;  // it was away, and may be another server by now
  }
  if (std::exchange(wants_props_, false) && !settings.gateway) to_ask_.push_back(Asked::kProps);
  if (!knows_models_ && next_models_ <= now) to_ask_.push_back(Asked::kModels);
  if (has_metrics_ && !settings.gateway) to_ask_.push_back(Asked::kMetrics);
  if (!to_ask_.empty()) next_probe_ = now;
  if (requests_ == BackendState::kUp) in_error_ = false;
  Enter(BackendState::kUp, requests_, now);
}

void BackendHealth::RequestFailed(const std::string& words, const Settings& settings, MonotonicTime now) {
  Note(words, now);
  told_of_loading_ = 0;
  if (++failed_requests_ >= settings.failures_to_open || requests_ != BackendState::kUp) {
    Open(failed_requests_ >= settings.failures_to_open ? BackendState::kHalfOpen : requests_, settings, now);
  }
}

void BackendHealth::RequestToldOfLoading(const std::string& words, const Settings& settings, MonotonicTime now) {
  Note(words, now);
  failed_requests_ = 0;
  const int enough = settings.gateway ? settings.failures_to_open : 1;
  if (++told_of_loading_ >= enough || requests_ != BackendState::kUp) Open(BackendState::kLoading, settings, now);
}

void BackendHealth::RequestSucceeded(MonotonicTime now) {
  failed_requests_ = told_of_loading_ = bad_rounds_ = 0;
  if (probes_ == BackendState::kUp) in_error_ = false;
  Enter(probes_, BackendState::kUp, now);
}

void BackendHealth::Open(BackendState as, const Settings& settings, MonotonicTime now) {
  if (requests_ == BackendState::kUp) {
    pauses_ = 0;
    Pause(settings, now);
  } else if (next_try_ <= now) {
    Pause(settings, now);  // else it was sent before: no try has failed
  }
  Enter(probes_, as, now);
}

// The probe period, doubled with each pause up to the longest, give or take a quarter.
void BackendHealth::Pause(const Settings& settings, MonotonicTime now) {
  absl::Duration pause = settings.period;
  for (int k = 0; k < pauses_ && pause < kLongestPause; ++k) pause *= 2;
  pause = std::min(pause, kLongestPause);
  uint64_t mixed = (seed_ + static_cast<uint64_t>(++pauses_)) * 0x9e3779b97f4a7c15u;
  mixed ^= mixed >> 32;
  next_try_ = now + pause * (0.75 + 0.5 * static_cast<double>(mixed % 1024) / 1024);
}

void BackendHealth::Enter(BackendState probes, BackendState requests, MonotonicTime now) {
  const BackendState before = state();
  probes_ = probes;
  requests_ = requests;
  if (state() != before) state_since_ = now;
}

void BackendHealth::Note(const std::string& words, MonotonicTime now) {
  if (!in_error_) last_error_since_ = now;
  in_error_ = true;
  last_error_ = words;
}

}  // namespace goad::server
