#include "server/dispatch/backend_pool.h"

#include <algorithm>

#include "server/dispatch/completion_json.h"
#include "server/dispatch/load_metrics.h"
#include "spdlog/spdlog.h"

namespace goad::server {
namespace {

constexpr absl::Duration kProbeTimeout = absl::Seconds(2);
constexpr absl::Duration kLongestRest = absl::Seconds(30);
constexpr size_t kMaxProbeBody = 1 << 20;
constexpr uint64_t kProbeBit = uint64_t{1} << 63;

}  // namespace

BackendPool::BackendPool(std::shared_ptr<const Config> config, HttpTransport* transport, Metrics* metrics,
                         std::function<void(Event)> to_engine, std::function<void(size_t)> on_capacity)
    : transport_(transport), metrics_(metrics), to_engine_(std::move(to_engine)), on_capacity_(std::move(on_capacity)),
      first_config_(config), config_(std::move(config)) {
  for (const SiteConfig& site_config : first_config_->sites) {
    Site& site = sites_.emplace_back();
    for (const BackendConfig& backend : site_config.backends) {
      site.backends.push_back({&backend, BackendHealth(), backend.slots});
    }
  }
}

int BackendPool::Pick(size_t site, bool chat, const std::vector<bool>& tried, MonotonicTime now, bool* all_tried) const {
  const std::vector<Backend>& backends = sites_[site].backends;
  int best = -1;
  double best_load = 0;
  *all_tried = true;
  for (size_t b = 0; b < backends.size(); ++b) {
    const Backend& backend = backends[b];
    if (!Usable(backend, now) || tried[b]) continue;
    if (chat && backend.config->api != BackendApi::kChat) continue;
    *all_tried = false;
    if (backend.in_flight >= backend.slots) continue;
    const double load = (backend.in_flight + backend.foreign) / backend.slots;
    if (best >= 0 && load >= best_load) continue;
    best = static_cast<int>(b);
    best_load = load;
  }
  return best;
}

void BackendPool::Failed(size_t site, int backend, MonotonicTime now) {
  At(site, backend).health.Failed(config_->dispatch.failures_to_open);
  Report(now);
}

void BackendPool::Rest(size_t site, int backend, absl::Duration retry_after, MonotonicTime now) {
  At(site, backend).rests_until = now + std::min(retry_after, kLongestRest);
  Report(now);
}

// --- probes --------------------------------------------------------------------------------------------------------------

bool BackendPool::IsProbe(CallId id) { return (static_cast<uint64_t>(id) & kProbeBit) != 0; }

void BackendPool::StartProbe(size_t site, int backend, MonotonicTime now) {
  Backend& target = At(site, backend);
  const CallId id{kProbeBit | next_probe_id_++};
  probes_[id] = {site, backend, 0, target.in_flight, "", now};
  transport_->Start(id, {target.config, target.health.StartProbe(), "", config_->dispatch.connect, ""});
}

void BackendPool::OnHead(CallId id, int http_status) {
  if (const auto probe = probes_.find(id); probe != probes_.end()) probe->second.http_status = http_status;
}

void BackendPool::OnBody(CallId id, std::string_view bytes) {
  const auto probe = probes_.find(id);
  if (probe != probes_.end() && probe->second.body.size() + bytes.size() <= kMaxProbeBody) probe->second.body += bytes;
}

void BackendPool::OnEnd(CallId id, bool answered, MonotonicTime now) {
  const auto found = probes_.find(id);
  if (found == probes_.end()) return;
  const Probe probe = std::move(found->second);
  probes_.erase(found);
  Backend& backend = At(probe.site, probe.backend);
  switch (backend.health.ProbeDone(answered ? probe.http_status : 0, config_->dispatch.failures_to_open, now,
                                   config_->dispatch.probe_period)) {
    case BackendHealth::Answer::kHealth:
      break;
    case BackendHealth::Answer::kProps:
      if (probe.http_status == 200) backend.slots = ParseSlots(probe.body).value_or(backend.config->slots);
      break;
    case BackendHealth::Answer::kMetrics: {
      // What began or ended of ours between the server's count and here must not pass for somebody else's.
      const std::optional<double> load = probe.http_status == 200 ? ParseServerLoad(probe.body) : std::nullopt;
      backend.foreign = std::max(0.0, load.value_or(0) - std::max(probe.in_flight, backend.in_flight));
      if (answered && !load) backend.health.NoMetrics();
      break;
    }
  }
  Report(now);
  on_capacity_(probe.site);
}

void BackendPool::Tick(MonotonicTime now) {
  std::vector<CallId> late;
  for (const auto& [id, probe] : probes_) {
    if (probe.started + kProbeTimeout <= now) late.push_back(id);
  }
  for (const CallId id : late) {
    transport_->Abort(id);
    OnEnd(id, /*answered=*/false, now);
  }
  for (size_t s = 0; s < sites_.size(); ++s) {
    for (size_t b = 0; b < sites_[s].backends.size(); ++b) {
      Backend& backend = sites_[s].backends[b];
      if (backend.health.next_probe() <= now) StartProbe(s, static_cast<int>(b), now);
      if (backend.rests_until == MonotonicTime() || backend.rests_until > now) continue;
      backend.rests_until = MonotonicTime();
      Report(now);
      on_capacity_(s);
    }
  }
}

MonotonicTime BackendPool::NextWake() const {
  MonotonicTime wake = MonotonicTime::Infinite();
  for (const auto& [id, probe] : probes_) wake = std::min(wake, probe.started + kProbeTimeout);
  for (const Site& site : sites_) {
    for (const Backend& backend : site.backends) {
      wake = std::min(wake, backend.health.next_probe());
      if (backend.rests_until != MonotonicTime()) wake = std::min(wake, backend.rests_until);
    }
  }
  return wake;
}

// --- what others see -----------------------------------------------------------------------------------------------------

void BackendPool::Report(MonotonicTime now) {
  for (size_t s = 0; s < sites_.size(); ++s) {
    Site& site = sites_[s];
    SiteHealth health{sched::ToSite(s), 0, 0};
    for (size_t b = 0; b < site.backends.size(); ++b) {
      Backend& backend = site.backends[b];
      if (backend.reported_up != backend.health.up()) {
        backend.reported_up = backend.health.up();
        spdlog::info("backend site={} url={} up={} slots={}", first_config_->sites[s].name, backend.config->url,
                     backend.reported_up, backend.slots);
      }
      metrics_->BackendUp(health.site, b, backend.health.up());
      if (!Usable(backend, now)) continue;
      ++health.backends_up;
      health.slots += backend.slots;
    }
    if (health.backends_up == site.reported_up && health.slots == site.reported_slots) continue;
    site.reported_up = health.backends_up;
    site.reported_slots = health.slots;
    to_engine_(health);
  }
}

std::vector<std::vector<BackendPool::View>> BackendPool::Views() const {
  std::vector<std::vector<View>> views;
  for (const Site& site : sites_) {
    auto& row = views.emplace_back();
    for (const Backend& backend : site.backends) {
      row.push_back({backend.config->url, backend.health.up(), backend.slots, backend.in_flight, backend.foreign});
    }
  }
  return views;
}

}  // namespace goad::server
