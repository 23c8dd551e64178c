// Which backends can take a request: probes, circuit, rests, free slots, load. Pure: no thread, no clock, no socket.
#ifndef GOAD_SERVER_DISPATCH_BACKEND_POOL_H_
#define GOAD_SERVER_DISPATCH_BACKEND_POOL_H_

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "server/dispatch/backend_health.h"
#include "server/dispatch/llm_backend.h"
#include "server/engine/events.h"
#include "server/telemetry/metrics.h"

namespace goad::server {

// Thread-compatible; lives on the dispatch thread. Tells the engine of a site's slots whenever they change (SiteHealth).
//
// The least loaded backend is the one with the least (our requests + those of others) per slot. Those of others are what the
// server's own /metrics reports beyond ours, read with each probe where the server has it; they choose among backends and
// never take slots away, for they are up to a probe period old.
class BackendPool final {
 public:
  // `on_capacity(site)`: a backend of the site may take requests again; called from Tick and OnEnd.
  BackendPool(std::shared_ptr<const Config> config, HttpTransport* transport, Metrics* metrics,
              std::function<void(Event)> to_engine, std::function<void(size_t site)> on_capacity);
  void SetConfig(std::shared_ptr<const Config> config) { config_ = std::move(config); }

  // A backend of `site` that is up and has a free slot, among those not in `tried` (and, if `chat`, that speak chat); -1 when
  // there is none, and then *all_tried says that waiting cannot help.
  int Pick(size_t site, bool chat, const std::vector<bool>& tried, MonotonicTime now, bool* all_tried) const;
  void Take(size_t site, int backend) { ++At(site, backend).in_flight; }
  void Release(size_t site, int backend) { --At(site, backend).in_flight; }

  void Succeeded(size_t site, int backend) { At(site, backend).health.Succeeded(); }
  void Failed(size_t site, int backend, MonotonicTime now);
  void Rest(size_t site, int backend, absl::Duration retry_after, MonotonicTime now);  // by its own Retry-After; at most 30 s

  size_t backends(size_t site) const { return sites_[site].backends.size(); }
  const BackendConfig& config(size_t site, int backend) const { return *sites_[site].backends[static_cast<size_t>(backend)].config; }

  // Probes go over the same transport; their ids have a bit of their own.
  static bool IsProbe(CallId id);
  void OnHead(CallId id, int http_status);
  void OnBody(CallId id, std::string_view bytes);
  void OnEnd(CallId id, bool answered, MonotonicTime now);

  void Tick(MonotonicTime now);
  MonotonicTime NextWake() const;

  struct View {
    std::string url;
    bool up = false;
    int slots = 0;
    int in_flight = 0;     // our requests
    double foreign = 0;    // requests of others, by the backend's own metrics; 0 where it has none
  };
  std::vector<std::vector<View>> Views() const;

 private:
  struct Backend {
    const BackendConfig* config = nullptr;
    BackendHealth health;
    int slots = 1;
    int in_flight = 0;
    double foreign = 0;
    bool reported_up = false;
    MonotonicTime rests_until;
  };
  struct Site {
    std::vector<Backend> backends;
    int reported_up = -1, reported_slots = -1;
  };
  struct Probe {
    size_t site = 0;
    int backend = 0;
    int http_status = 0;
    int in_flight = 0;     // when it was sent
    std::string body;
    MonotonicTime started;
  };

  Backend& At(size_t site, int backend) { return sites_[site].backends[static_cast<size_t>(backend)]; }
  static bool Usable(const Backend& backend, MonotonicTime now) { return backend.health.up() && backend.rests_until <= now; }
  void StartProbe(size_t site, int backend, MonotonicTime now);
  void Report(MonotonicTime now);

  // Constant after construction.
  HttpTransport* const transport_;  // not owned, nor is the next
  Metrics* const metrics_;
  const std::function<void(Event)> to_engine_;
  const std::function<void(size_t)> on_capacity_;
  const std::shared_ptr<const Config> first_config_;  // keeps BackendConfigs alive

  std::shared_ptr<const Config> config_;
  std::vector<Site> sites_;
  std::unordered_map<CallId, Probe> probes_;
  uint64_t next_probe_id_ = 0;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_DISPATCH_BACKEND_POOL_H_
