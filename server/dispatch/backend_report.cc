// What others see of the backends: the log, metrics, the engine, sessions and operators.
#include <algorithm>
#include <utility>

#include "server/dispatch/backend_pool.h"
#include "spdlog/spdlog.h"

namespace goad::server {

// Sessions hear of it.
void BackendPool::TellAbilities() {
  if (!std::exchange(abilities_changed_, false)) return;
  SiteAbilities sites;
  for (const Site& site : sites_) {
    std::vector<Abilities>& list = sites.emplace_back();
    for (const Backend& backend : site.backends) {
      if (backend.config->presence.removed()) continue;
      if (std::find(list.begin(), list.end(), backend.can) == list.end()) list.push_back(backend.can);
    }
  }
  on_abilities_(std::move(sites));
}

// One line for each change of a state, and one when a backend's slots change while it is up.
void BackendPool::Log(size_t site, int index) {
  Backend& backend = At(site, index);
  const BackendState state = backend.health.state();
  if (state == backend.logged && (state != BackendState::kUp || backend.slots() == backend.logged_slots)) return;
  ++changes_;
  backend.logged = state;
  backend.logged_slots = backend.slots();
  if (state == BackendState::kUp) {
    spdlog::info("backend={} url={} state=up slots={} ({})", name(site, index), backend.config->url, backend.slots(),
                 backend.slots_from());
  } else {
    spdlog::warn("backend={} url={} state={} cause=\"{}\"", name(site, index), backend.config->url, ToString(state),
                 backend.health.last_error());
  }
}

void BackendPool::Report(MonotonicTime now) {
  TellAbilities();
  for (size_t s = 0; s < sites_.size(); ++s) {
    Site& site = sites_[s];
    SiteHealth health{sched::ToSite(s), 0, 0, false};
    std::vector<Abilities> can, all, drained;
    for (size_t b = 0; b < site.backends.size(); ++b) {
      Backend& backend = site.backends[b];
      Log(s, static_cast<int>(b));
      backend.open_slots = OpenSlots(backend, now);
      if (!backend.config->presence.removed()) {  // else the place may be another's by now
        metrics_->Backend(health.site, b, static_cast<size_t>(backend.health.state()), backend.open_slots);
        metrics_->BackendRunning(health.site, b, backend.in_flight);
        all.push_back(backend.can);
        if (backend.config->presence.drained) drained.push_back(backend.can);
      }
      if (backend.open_slots == 0) continue;
      if (!backend.config->presence.leaving() || site.leaving) can.push_back(backend.can);
      health.draining |= backend.config->presence.drained;
      if (backend.config->presence.leaving()) continue;
      ++health.backends_up;
      health.slots += backend.open_slots;
    }
    health.draining &= health.backends_up == 0;
    health.all_contexts = ContextsOf(all);
    health.drained_contexts = ContextsOf(drained);
    health.contexts = can.empty() ? health.all_contexts : ContextsOf(can);
    if (site.reported == health) continue;
    site.reported = health;
    to_engine_(health);
  }
}

BackendRows BackendPool::Rows() const {
  BackendRows rows;
  for (const Site& site : sites_) {
    auto& backends = rows.emplace_back();
    for (const Backend& backend : site.backends) {
      BackendRow& row = backends.emplace_back();
      row.url = backend.config->url;
      row.removed = backend.config->presence.removed();
      row.drained = backend.config->presence.drained;
      row.state = backend.health.state();
      row.state_since = backend.health.state_since();
      row.last_error = backend.health.last_error();
      row.last_error_since = backend.health.last_error_since();
      row.slots = backend.slots();
      row.slots_from = backend.slots_from();
      row.configured_slots = backend.config->slots;
      row.reported_slots = backend.reported_slots;
      row.in_flight = backend.in_flight;
      row.abilities = backend.can;
      row.foreign = backend.foreign;
    }
  }
  return rows;
}

}  // namespace goad::server
