#include "server/dispatch/backend_pool.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "server/dispatch/completion_json.h"
#include "server/dispatch/load_metrics.h"
#include "spdlog/spdlog.h"

namespace goad::server {
namespace {

constexpr absl::Duration kProbeTimeout = absl::Seconds(2);
constexpr absl::Duration kLongestRest = absl::Seconds(30);
constexpr size_t kMaxProbeBody = 1 << 20;

}  // namespace

BackendPool::BackendPool(std::shared_ptr<const Config> config, HttpTransport* transport, Metrics* metrics,
                         std::function<void(Event)> to_engine, std::function<void(size_t, MonotonicTime)> on_capacity)
    : transport_(transport), metrics_(metrics), to_engine_(std::move(to_engine)), on_capacity_(std::move(on_capacity)),
      first_config_(config), config_(std::move(config)) {
  for (const SiteConfig& site_config : first_config_->sites) {
    Site& site = sites_.emplace_back();
    for (const BackendConfig& backend : site_config.backends) {
      Backend& added = site.backends.emplace_back();
      added.config = &backend;
      added.slots = backend.slots;
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

std::string BackendPool::name(size_t site, int backend) const {
  return absl::StrCat(first_config_->sites[site].name, "/", backend);
}

void BackendPool::Failed(size_t site, int backend, Blame blame, const std::string& words, MonotonicTime now) {
  if (blame == Blame::kPrompt || blame == Blame::kBusy) return;
  spdlog::debug("request failed backend={} url={} {}", name(site, backend), config(site, backend).url, words);
  At(site, backend).health.Failed(config_->dispatch.failures_to_open);
  Report(now);
}

void BackendPool::Rest(size_t site, int backend, absl::Duration retry_after, MonotonicTime now) {
  At(site, backend).rests_until = now + std::min(retry_after, kLongestRest);
  Report(now);
}

// --- probes --------------------------------------------------------------------------------------------------------------

void BackendPool::StartProbe(size_t site, int backend, MonotonicTime now) {
  Backend& target = At(site, backend);
  target.probe = std::make_unique<Probe>(this, site, backend, target.in_flight, now);
  target.probe->call = transport_->Start({target.config, target.health.StartProbe(), "", config_->dispatch.connect, ""},
                                         target.probe.get());
}

void BackendPool::Probe::OnBody(std::string_view bytes, MonotonicTime) {
  if (body.size() + bytes.size() <= kMaxProbeBody) body += bytes;
}

void BackendPool::Probe::OnEnd(TransportEnd end, const std::string&, MonotonicTime now) {
  pool->ProbeEnded(site, backend, end == TransportEnd::kComplete, now);  // the end of this, too
}

void BackendPool::ProbeEnded(size_t site, int index, bool answered, MonotonicTime now) {
  Backend& backend = At(site, index);
  const std::unique_ptr<Probe> ended = std::move(backend.probe);
  const Probe& probe = *ended;
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
  on_capacity_(site, now);
}

void BackendPool::Tick(MonotonicTime now) {
  for (size_t s = 0; s < sites_.size(); ++s) {
    for (size_t b = 0; b < sites_[s].backends.size(); ++b) {
      Backend& backend = sites_[s].backends[b];
      if (backend.probe && backend.probe->started + kProbeTimeout <= now) {
        transport_->Abort(backend.probe->call);
        ProbeEnded(s, static_cast<int>(b), /*answered=*/false, now);
      }
      if (backend.health.next_probe() <= now) StartProbe(s, static_cast<int>(b), now);
      if (backend.rests_until == MonotonicTime() || backend.rests_until > now) continue;
      backend.rests_until = MonotonicTime();
      Report(now);
      on_capacity_(s, now);
    }
  }
}

MonotonicTime BackendPool::NextWake() const {
  MonotonicTime wake = MonotonicTime::Infinite();
  for (const Site& site : sites_) {
    for (const Backend& backend : site.backends) {
      if (backend.probe) wake = std::min(wake, backend.probe->started + kProbeTimeout);
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
