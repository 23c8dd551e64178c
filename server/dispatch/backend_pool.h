// Which backends can take a request: probes, circuit, rests, free slots, load. Pure: no thread, no clock, no socket.
#ifndef GOAD_SERVER_DISPATCH_BACKEND_POOL_H_
#define GOAD_SERVER_DISPATCH_BACKEND_POOL_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client_sdk/openai/request.h"
#include "server/dispatch/abilities.h"
#include "server/dispatch/backend_health.h"
#include "server/dispatch/http_transport.h"
#include "server/dispatch/server_error.h"
#include "server/engine/events.h"
#include "server/telemetry/metrics.h"

namespace goad::server {

// Thread-compatible; lives on the dispatch thread. Tells the engine of a site's slots whenever they change
// (SiteHealth).
//
// The least loaded backend is the one with the least (our requests + those of others) per slot. Those of others are
// what the server's own /metrics reports beyond ours, read with each probe where the server has it; they choose among
// backends and never take slots away, for they are up to a probe period old.
class BackendPool final {
 public:
  // `on_capacity(site)`: a backend of the site may take requests again; called from Tick and from its probes.
  // `on_abilities`: what the sites can has changed; called from there, too, from here and from SetConfig.
  BackendPool(std::shared_ptr<const Config> config, HttpTransport* transport, Metrics* metrics,
              std::function<void(Event)> to_engine, std::function<void(size_t site, MonotonicTime now)> on_capacity,
              std::function<void(SiteAbilities)> on_abilities);
  // REQUIRES: sites and backends in their places (server/config/place.h). One that is new is asked at once; one that
  // was removed is not asked any more.
  void SetConfig(std::shared_ptr<const Config> config, MonotonicTime now);

  // A backend of `site` that is up and has a free slot, among those that can what is needed and are not in `tried`, a
  // bit each; else nothing, and *all_tried says that waiting cannot help. One that is drained or removed gets what was
  // admitted before, where the site has no other. `preferred`, if it is one of those, goes before the least loaded: it
  // has read the beginning of this conversation.
  std::optional<int> Pick(size_t site, const sched::Needs& needs, uint64_t tried, std::optional<int> preferred,
                          MonotonicTime now, bool* all_tried) const;
  bool AnyCan(size_t site, const sched::Needs& needs) const;  // up or not
  void Take(size_t site, int backend) { InFlightBy(+1, site, backend); }
  void Release(size_t site, int backend) { InFlightBy(-1, site, backend); }

  void Succeeded(size_t site, int backend, MonotonicTime now);
  // `words` are for operators. Neither the query's own fault nor a busy backend is a failure, nor what is in doubt.
  void Failed(size_t site, int backend, const ServerError& error, const std::string& words, MonotonicTime now);
  void Rest(size_t site, int backend, absl::Duration retry_after,
            MonotonicTime now);  // by its own Retry-After; at most 30 s

  size_t backends(size_t site) const { return sites_[site].backends.size(); }
  const BackendConfig& config(size_t site, int backend) const {
    return *sites_[site].backends[static_cast<size_t>(backend)].config;
  }

  // What it is known to want of every request. Learn: it has taken that of `prompt` as `taken`.
  const openai::RequestDialect& dialect(size_t site, int backend) { return At(site, backend).dialect; }
  void Learn(size_t site, int backend, const openai::RequestDialect& taken, const PromptBody& prompt);

  void Heard(size_t site, int backend, MonotonicTime now) {
    At(site, backend).heard = now;
  }  // something of an answer came
  absl::Duration first_byte(size_t site, int backend) const;

  // "cell-a/0": a backend's name for devices and for messages that they may read.
  std::string name(size_t site, int backend) const;

  void Tick(MonotonicTime now);
  MonotonicTime NextWake() const;

  BackendRows Rows() const;
  uint64_t changes() const { return changes_; }  // grows whenever a state or slots change

 private:
  // One request of a round, over the same transport as the queries.
  struct Probe final : HttpListener {
    Probe(BackendPool* of_pool, size_t of_site, int of_backend, int ours, MonotonicTime now)
        : pool(of_pool), site(of_site), backend(of_backend), in_flight(ours), started(now) {}
    void OnHead(const HttpHead& head, MonotonicTime) override {
      http_status = head.status;
      location = head.location;
    }
    void OnBody(std::string_view bytes, MonotonicTime now) override;
    void OnEnd(TransportEnd end, const std::string& detail, MonotonicTime now) override;

    std::string Words() const;  // what it was answered, in short

    BackendPool* const pool;
    const size_t site;
    const int backend;
    const int in_flight;  // when it was sent
    const MonotonicTime started;
    CallId call{};
    int http_status = 0;
    std::string location, body;
  };
  struct Backend {
    explicit Backend(uint64_t seed) : health(seed) {}

    const BackendConfig* config = nullptr;  // null until SetConfig
    BackendHealth health;
    std::unique_ptr<Probe> probe;  // under way
    int reported_slots = 0;
    SaidAbilities said;
    std::optional<int> listed_context;  // by /v1/models, where /props does not tell
    Abilities can;                      // as it was last told
    int open_slots = 0;                 // as the engine was told
    int in_flight = 0;
    int refusals = 0;             // requests in a row that it did not answer, without a fault of its own
    int turned_away = 0;          // those of them that were no prompt's fault
    MonotonicTime refuses_until;  // by which it is asked last
    double foreign = 0;
    MonotonicTime heard;  // when it last answered a probe, or sent something of an answer
    BackendState logged = BackendState::kUnknown;
    int logged_slots = 0;
    MonotonicTime rests_until;
    openai::RequestDialect dialect;
    std::string models_problem;  // as it was told

    Abilities Now() const;
    int slots() const;
    const char* slots_from() const;
  };
  struct Site {
    std::vector<Backend> backends;
    std::optional<SiteHealth> reported;
    bool leaving = false;  // all of its backends are
  };

  void InFlightBy(int change, size_t site, int backend);
  Backend& At(size_t site, int backend) { return sites_[site].backends[static_cast<size_t>(backend)]; }
  static int OpenSlots(const Backend& backend, MonotonicTime now) {
    return backend.rests_until <= now ? backend.health.usable_slots(backend.slots(), now) : 0;
  }
  BackendHealth::Settings Settings(const Backend& backend) const;
  void DropProbe(Backend& backend);
  void StartProbe(size_t site, int backend, MonotonicTime now);
  MonotonicTime ProbeLimit(const Backend& backend) const;
  void ProbeEnded(size_t site, int backend, const std::string& failure, bool late, MonotonicTime now);
  void TakeProps(size_t site, int backend, const Probe& probe);
  void LearnAbilities(size_t site, int backend);
  void TellAbilities();
  void TakeModels(size_t site, int backend, const BackendHealth::ProbeAnswer& answer, const Probe& probe);
  void Log(size_t site, int backend);
  void Report(MonotonicTime now);

  // Constant after construction.
  HttpTransport* const transport_;  // not owned, nor is the next
  Metrics* const metrics_;
  const std::function<void(Event)> to_engine_;
  const std::function<void(size_t, MonotonicTime)> on_capacity_;
  const std::function<void(SiteAbilities)> on_abilities_;

  std::shared_ptr<const Config> config_;  // keeps the BackendConfigs alive
  uint64_t changes_ = 0;
  std::vector<Site> sites_;
  bool abilities_changed_ = false;  // since on_abilities heard of them
  uint64_t next_seed_ = 0;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_DISPATCH_BACKEND_POOL_H_
