// Every metric family of the daemon, with one typed recording method per event. No device, session or query label.
#ifndef GOAD_SERVER_TELEMETRY_METRICS_H_
#define GOAD_SERVER_TELEMETRY_METRICS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "scheduler/snapshot_check.h"
#include "scheduler/types.h"
#include "server/base/local_model.h"
#include "server/base/refusal.h"
#include "server/config/config.h"
#include "server/telemetry/answer_metrics.h"

namespace prometheus {
class Collectable;
class Counter;
class Gauge;
}  // namespace prometheus

namespace goad::server {

class PromiseWatch;  // promise_watch.h

// Names of sites and URLs of their backends, in their places. Empty = removed: its series are not exported.
struct MetricsLabels {
  std::vector<std::string> sites;                  // at most 64
  std::vector<std::vector<std::string>> backends;  // per site, at most 64

  static MetricsLabels Of(const Config& config);
};

// What one listener counts. A value of pointers into Metrics, which outlives it. Thread-safe.
class ListenerMetrics {
 public:
  void Connections(size_t open) const;
  void Refused(size_t reason) const;  // an index into the reasons it was made with
  void Heard(bool heard) const;       // whether the port answered the last look from outside

 private:
  friend class Metrics;
  prometheus::Gauge *connections_ = nullptr, *heard_ = nullptr;
  std::vector<prometheus::Counter*> refused_;
};

// Thread-safe. Label sets are resolved to series beforehand, so recording never looks anything up, with the exception
// of backend_requests_total, whose codes are what backends answer, of the tenants, which a reload may add to, of the
// policy's time, once an epoch, and of snapshot faults, which are bugs.
class Metrics {
 public:
  explicit Metrics(const MetricsLabels& labels);
  ~Metrics();

  // Its labels, version and certificate. Before anybody records for a site or backend that is new in it; series of what
  // is removed go on counting, unseen.
  void SetConfig(const Config& config);
  void SetLabels(const MetricsLabels& labels);  // these alone

  // What is scraped. Thread-safe.
  std::shared_ptr<prometheus::Collectable> page() const;

  // Decisions and epochs. Counted where an answer is accepted into a session's outbox, so that they add up to what the
  // clients were sent.
  void Decision(sched::Verdict verdict, sched::Reason reason, sched::SiteIndex site);
  void TerminalEvent(Terminal terminal, sched::SiteIndex site, double duration_s);  // kNone: sent to no site
  void QueryLostWithStream(sched::SiteIndex site, double age_s) { TerminalEvent(Terminal::kLost, site, age_s); }
  void LateTerminal();
  void Epoch(const std::string& policy, size_t candidates, double solver_s, double epoch_s);
  void Uncertainty(UncertaintyMetric metric, double uncertainty);
  void QueueWait(double wait_s);
  void TauInfeasible();
  void TenantDecision(const std::string& tenant, double uncertainty, bool offloaded);  // engine thread only
  void TenantRefused(const std::string& tenant, TenantLimit limit);
  void StaleLink();
  void Tau(double tau);
  void LinkReportAge(double age_s);
  void Pending(size_t queries);
  void SnapshotFault(sched::SnapshotFault::Part part);
  void Slots(sched::SiteIndex site, int queries, int most);  // in use, and to be had

  // Uploads and answers; `predicted` beside measured.
  void Upload(sched::SiteIndex site, double measured_s, double predicted_s);
  void Compute(sched::SiteIndex site, double measured_s, double predicted_s);
  // What a batching site's compute is predicted from, and how many answers that was learned from (0 = as configured).
  void Uplink(uint64_t devices, double round_trip_s, double bps);  // the median of those that were seen lately
  void ServiceTimes(sched::SiteIndex site, const sched::SiteState& state, uint64_t samples);
  void FirstToken(sched::SiteIndex site, double ttft_s);
  void TimePerOutputToken(sched::SiteIndex site, double tpot_s);
  void Tokens(sched::SiteIndex site, int tokens);
  void DeadlineMissed();
  void LocalOutcome(double measured_s);

  // Backends.
  void Backend(sched::SiteIndex site, size_t backend, size_t state, int slots);  // state: a BackendState, in its order
  void BackendRunning(sched::SiteIndex site, size_t backend, int requests);
  void BackendRequest(sched::SiteIndex site, size_t backend, const std::string& code);
  void BackendFailure(sched::SiteIndex site, size_t backend, size_t fault);  // a Blame, in its order
  void BackendFailover();

  // `listener` and `reasons`: closed sets; an empty reason cannot be. `watched`: somebody says whether it is Heard.
  ListenerMetrics Listener(const std::string& listener, const std::vector<std::string>& reasons, bool watched);

  // Sessions.
  void Sessions(size_t open);
  void OutboxBytes(int64_t delta);
  void SlowConsumer();
  void SentAway();  // a session, to a neighbour
  void Refused(Refusal refusal);

  PromiseWatch& promise();  // follows SetConfig

  // Configuration.
  void ConfigReload(bool ok);

  void DecisionLogLost(uint64_t lines);

 private:
  struct Families;
  std::unique_ptr<Families> f_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_TELEMETRY_METRICS_H_
