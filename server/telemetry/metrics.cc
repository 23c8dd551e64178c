#include "server/telemetry/metrics.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <deque>
#include <set>

#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"
#include "server/telemetry/metrics_page.h"
#include "server/telemetry/prediction_metrics.h"
#include "server/telemetry/promise_watch.h"
#include "server/telemetry/tenant_metrics.h"

namespace goad::server {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;
using prometheus::Counter;
using prometheus::Gauge;
using prometheus::Histogram;
using prometheus::Registry;
using Buckets = Histogram::BucketBoundaries;

const Buckets kShortSeconds = {1e-5, 2.5e-5, 1e-4, 2.5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5};
const Buckets kLongSeconds = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300};
const Buckets kCandidates = {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000, 10000};
const Buckets kTenths = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0};

constexpr std::array<const char*, 4> kSnapshotParts = {"whole", "site", "candidate", "resident"};
constexpr std::array<const char*, 5> kFaults = {"prompt", "configuration", "backend", "busy", "loading"};
constexpr std::array<const char*, 5> kBackendStates = {"unknown", "up", "loading", "down", "half-open"};
constexpr size_t kBackendIsUp = 1;

Counter& OneCounter(Registry& r, const char* name, const char* help) {
  return BuildCounter().Name(name).Help(help).Register(r).Add({});
}
Gauge& OneGauge(Registry& r, const char* name, const char* help) {
  return BuildGauge().Name(name).Help(help).Register(r).Add({});
}
Histogram& OneHistogram(Registry& r, const char* name, const char* help, const Buckets& buckets) {
  return BuildHistogram().Name(name).Help(help).Register(r).Add({}, buckets);
}

// Which reasons a verdict can have: what cannot be is not exported.
bool Offloads(sched::Reason reason) {
  return reason == sched::Reason::kUncertain || reason == sched::Reason::kDelayGain || reason == sched::Reason::kPolicy;
}
bool IsLocal(sched::Reason reason) {
  return reason != sched::Reason::kUncertain && reason != sched::Reason::kDelayGain;
}

struct BackendSeries {
  std::string url;
  Gauge *up = nullptr, *slots = nullptr, *running = nullptr;
  std::array<Gauge*, kBackendStates.size()> states{};
  std::array<Counter*, kFaults.size()> failures{};
};
struct SiteSeries {
  std::string name;
  std::array<Counter*, sched::kReasonCount> offloaded{};
  Gauge *running = nullptr, *slots = nullptr;
  Counter* tokens = nullptr;
  PredictionMetrics::Site predictions;
  AnswerMetrics::Site answers;
  std::vector<BackendSeries> backends;
};

}  // namespace

struct Metrics::Families {
  std::shared_ptr<MetricsPage> page = std::make_shared<MetricsPage>();
  Registry& r = page->registry;
  std::array<std::atomic<const SiteSeries*>, 64> sites{};  // by place
  // That ever were: whoever records may still hold one. Grows by reloads that change sites.
  std::deque<SiteSeries> all_sites;
  const SiteSeries& At(sched::SiteIndex site) const {
    return *sites[sched::ToIndex(site)].load(std::memory_order_acquire);
  }
  Counter& Decisions(sched::Verdict verdict, sched::Reason reason, const std::string& site) {
    return decisions.Add({{"verdict", sched::ToString(verdict)}, {"reason", sched::ToString(reason)}, {"site", site}});
  }
  void Add(size_t place, const std::string& name, const std::vector<std::string>& urls);

  prometheus::Family<Counter>& decisions =
      BuildCounter().Name("goad_decisions_total").Help("Decisions sent, by verdict, reason and site.").Register(r);
  std::array<Counter*, sched::kReasonCount> local{};

  Counter& late_terminals =
      OneCounter(r, "goad_late_terminals_total", "Events for a query that already had its terminal event; dropped.");
  Counter& epochs = OneCounter(r, "goad_epochs_total", "Epochs that decided at least one candidate.");
  Histogram& epoch_duration =
      OneHistogram(r, "goad_epoch_duration_seconds", "Snapshot, solver and handing out decisions.", kShortSeconds);
  prometheus::Family<Histogram>& solver =
      BuildHistogram().Name("goad_solver_duration_seconds").Help("Time inside the policy.").Register(r);
  Histogram& epoch_candidates = OneHistogram(r, "goad_epoch_candidates", "Candidates per epoch.", kCandidates);
  prometheus::Family<Histogram>& uncertainties =
      BuildHistogram().Name("goad_uncertainty").Help("Uncertainty of submitted queries, by its metric.").Register(r);
  std::array<Histogram*, kUncertaintyMetrics> uncertainty{};
  Histogram& queue_wait = OneHistogram(r, "goad_queue_wait_seconds", "Query received to its decision.", kShortSeconds);
  Counter& tau_infeasible = OneCounter(
      r, "goad_tau_infeasible_total",
      "Forced queries left local, because no site was eligible within mandatory_wait; goad_decisions_total says why.");
  Counter& stale_links = OneCounter(r, "goad_stale_links_total",
                                    "Queries left local because the last link report was older than link_max_age.");
  Gauge& tau = OneGauge(r, "goad_tau", "Uncertainty above this is offloaded.");
  Histogram& link_age =
      OneHistogram(r, "goad_link_report_age_seconds", "Age of link measurements on arrival.", kLongSeconds);
  prometheus::Family<Counter>& snapshot_faults =
      BuildCounter()
          .Name("goad_snapshot_faults_total")
          .Help("Parts of snapshots left out because a number in them cannot be; a bug of goad.")
          .Register(r);
  Gauge& pending = OneGauge(r, "goad_pending_queries", "Queries waiting for a decision.");
  prometheus::Family<Gauge>& running_family =
      BuildGauge().Name("goad_running_queries").Help("Queries granted or running, by site: slots in use.").Register(r);
  prometheus::Family<Gauge>& site_slots =
      BuildGauge()
          .Name("goad_site_slots")
          .Help("Queries that a site may have granted or running at once now: max_queries, or its backends' slots.")
          .Register(r);

  AnswerMetrics answers{r};
  PredictionMetrics predictions{r};
  Gauge& uplink_devices = OneGauge(r, "goad_uplink_devices", "Devices that uploaded a prompt within the last minute.");
  Gauge& uplink_round_trip =
      OneGauge(r, "goad_uplink_round_trip_seconds", "Their median, as goad has seen it; in every predicted upload.");
  Gauge& uplink_rate = OneGauge(r, "goad_uplink_bytes_per_second", "Their median rate, as goad has seen it.");
  prometheus::Family<Counter>& tokens_family =
      BuildCounter().Name("goad_tokens_total").Help("Output tokens streamed, by site.").Register(r);
  Counter& deadline_missed = OneCounter(r, "goad_deadline_missed_total", "Answers completed after their deadline.");
  Histogram& local_outcome =
      OneHistogram(r, "goad_local_delay_seconds", "Local answer time as devices report it in Outcome.", kLongSeconds);

  prometheus::Family<Gauge>& backend_up_family =
      BuildGauge()
          .Name("goad_backend_up")
          .Help("1 when the backend answers its probes and its requests; 0 when down, loading or half-open.")
          .Register(r);
  prometheus::Family<Gauge>& backend_states =
      BuildGauge()
          .Name("goad_backend_state")
          .Help("1 for the state that a backend is in: unknown, up, loading, down or half-open.")
          .Register(r);
  prometheus::Family<Gauge>& backend_slots =
      BuildGauge()
          .Name("goad_backend_slots")
          .Help("Requests that a backend may run at once now; 0 when it is away or rests, 1 at most when half-open.")
          .Register(r);
  prometheus::Family<Gauge>& backend_running =
      BuildGauge().Name("goad_backend_running").Help("Requests of goad's that a backend has now.").Register(r);
  prometheus::Family<Counter>& backend_requests =
      BuildCounter()
          .Name("goad_backend_requests_total")
          .Help("Requests to backends by HTTP status, or by what went wrong before one.")
          .Register(r);
  prometheus::Family<Counter>& backend_failures =
      BuildCounter()
          .Name("goad_backend_failures_total")
          .Help("Requests that a backend did not answer whole, by whose fault it was.")
          .Register(r);
  Counter& failovers =
      OneCounter(r, "goad_backend_failovers_total", "Requests moved to another backend before their first token.");

  prometheus::Family<Gauge>& connections =
      BuildGauge().Name("goad_connections").Help("Open connections, by listener.").Register(r);
  prometheus::Family<Gauge>& heard =
      BuildGauge()
          .Name("goad_listener_up")
          .Help("1 when the port answered goad's last look at it from outside, by listener.")
          .Register(r);
  prometheus::Family<Counter>& connections_refused =
      BuildCounter()
          .Name("goad_connections_refused_total")
          .Help("Connections closed at once or cut off, by listener and reason.")
          .Register(r);
  Gauge& sessions = OneGauge(r, "goad_sessions", "Open streams.");
  Gauge& outbox_bytes = OneGauge(r, "goad_outbox_bytes", "Bytes waiting to be read by devices.");
  Counter& sent_away =
      OneCounter(r, "goad_sessions_sent_away_total", "Devices sent to the neighbour whose sites they hear.");
  Counter& slow_consumers =
      OneCounter(r, "goad_slow_consumers_total", "Answers given up because the device did not read.");
  prometheus::Family<Counter>& refused =
      BuildCounter().Name("goad_refused_total").Help("Frames and queries refused at the door, by reason.").Register(r);
  std::array<Counter*, kRefusalCount> refusals{};

  TenantMetrics tenants{r};
  PromiseWatch promise{r};

  prometheus::Family<Counter>& reloads =
      BuildCounter().Name("goad_config_reloads_total").Help("Configuration reloads by result.").Register(r);
  Counter& reload_ok = reloads.Add({{"result", "ok"}});
  Counter& reload_failed = reloads.Add({{"result", "failed"}});
  Gauge& reload_good = OneGauge(r, "goad_config_last_reload_successful",
                                "1 when the last reload came into force, or there was none since the start; 0 when it "
                                "was refused.");
  Gauge& reload_time = OneGauge(r, "goad_config_last_reload_success_timestamp_seconds",
                                "Unix time at which the configuration in force was loaded.");
  Counter& log_lost = OneCounter(
      r, "goad_decision_log_lost_total",
      "Lines of the decision log that could not be written, and whole epochs that the disk was too slow for.");
  Gauge& certificate_expires = OneGauge(r, "goad_certificate_expiry_timestamp_seconds",
                                        "Unix time at which the certificate of listen.tls expires; 0 = plaintext.");
  Gauge& config_version = OneGauge(r, "goad_config_version", "Version of the configuration in force, counted from 1.");
};

// Zero from the start, all of them.
void Metrics::Families::Add(size_t place, const std::string& name, const std::vector<std::string>& urls) {
  SiteSeries& series = all_sites.emplace_back();
  series.name = name;
  for (int k = 0; k < sched::kReasonCount; ++k) {
    const auto reason = static_cast<sched::Reason>(k);
    if (Offloads(reason)) series.offloaded[static_cast<size_t>(k)] = &Decisions(sched::Verdict::kOffload, reason, name);
  }
  series.running = &running_family.Add({{"site", name}});
  series.slots = &site_slots.Add({{"site", name}});
  series.answers = answers.AddSite(name);
  series.tokens = &tokens_family.Add({{"site", name}});
  series.predictions = predictions.AddSite(name);
  for (const std::string& url : urls) {
    BackendSeries& backend = series.backends.emplace_back();
    backend.url = url;
    backend.up = &backend_up_family.Add({{"site", name}, {"backend", url}});
    backend.running = &backend_running.Add({{"site", name}, {"backend", url}});
    backend.slots = &backend_slots.Add({{"site", name}, {"backend", url}});
    for (size_t k = 0; k < kBackendStates.size(); ++k) {
      backend.states[k] = &backend_states.Add({{"site", name}, {"backend", url}, {"state", kBackendStates[k]}});
    }
    backend.states[0]->Set(1);
    backend_requests.Add({{"site", name}, {"backend", url}, {"code", "200"}});
    for (size_t k = 0; k < kFaults.size(); ++k) {
      backend.failures[k] = &backend_failures.Add({{"site", name}, {"backend", url}, {"fault", kFaults[k]}});
    }
  }
  sites[place].store(&series, std::memory_order_release);
}

MetricsLabels MetricsLabels::Of(const Config& config) {
  MetricsLabels labels;
  for (const SiteConfig& site : config.sites) {
    labels.sites.push_back(site.presence.removed() ? "" : site.name);
    auto& urls = labels.backends.emplace_back();
    for (const BackendConfig& backend : site.backends) urls.push_back(backend.presence.removed() ? "" : backend.url);
  }
  return labels;
}

void Metrics::SetConfig(const Config& config) {
  SetLabels(MetricsLabels::Of(config));
  f_->promise.SetConfig(config.policy);
  f_->tenants.SetConfig(config.tenants);
  f_->config_version.Set(static_cast<double>(config.version));
  f_->certificate_expires.Set(absl::ToDoubleSeconds(config.listen.tls.expires - absl::UnixEpoch()));
}

void Metrics::SetLabels(const MetricsLabels& labels) {
  std::set<std::string> shown, backends_shown;
  for (size_t place = 0; place < labels.sites.size(); ++place) {
    const std::string& name = labels.sites[place];
    if (name.empty()) continue;  // whoever still records for it has its series
    shown.insert(name);
    const SiteSeries* now = f_->sites[place].load();
    std::vector<std::string> urls = labels.backends[place];
    bool same = now != nullptr && now->name == name && now->backends.size() == urls.size();
    for (size_t b = 0; b < urls.size(); ++b) {
      if (!urls[b].empty()) backends_shown.insert(name + " " + urls[b]);
      if (urls[b].empty() && now != nullptr && now->name == name && b < now->backends.size())
        urls[b] = now->backends[b].url;
      same = same && now->backends[b].url == urls[b];
    }
    if (!same) f_->Add(place, name, urls);
  }
  f_->page->Show(std::move(shown), std::move(backends_shown));
}

Metrics::Metrics(const MetricsLabels& labels) : f_(std::make_unique<Families>()) {
  SetLabels(labels);
  for (int k = 0; k < sched::kReasonCount; ++k) {
    const auto reason = static_cast<sched::Reason>(k);
    if (IsLocal(reason)) f_->local[static_cast<size_t>(k)] = &f_->Decisions(sched::Verdict::kLocal, reason, "");
  }
  for (size_t k = 0; k < f_->uncertainty.size(); ++k) {
    const char* const metric = ToString(static_cast<UncertaintyMetric>(k + 1));
    f_->uncertainty[k] = &f_->uncertainties.Add({{"metric", metric}}, kTenths);
  }
  for (const char* part : kSnapshotParts) f_->snapshot_faults.Add({{"part", part}});
  // Zero from the start, so that a rate over them is right from the first one on.
  for (int k = 0; k < kRefusalCount; ++k) {
    f_->refusals[static_cast<size_t>(k)] = &f_->refused.Add({{"reason", ToString(static_cast<Refusal>(k))}});
  }
  f_->reload_good.Set(1);
  f_->reload_time.SetToCurrentTime();
  BuildGauge()
      .Name("goad_build_info")
      .Help("Always 1; the version is a label.")
      .Register(f_->r)
      .Add({{"version", GOAD_VERSION}})
      .Set(1);
}
Metrics::~Metrics() = default;

std::shared_ptr<prometheus::Collectable> Metrics::page() const { return f_->page; }

void Metrics::Decision(sched::Verdict verdict, sched::Reason reason, sched::SiteIndex site) {
  const bool local = verdict == sched::Verdict::kLocal;
  Counter* counter = (local ? f_->local : f_->At(site).offloaded)[static_cast<size_t>(reason)];
  if (counter == nullptr)
    counter = &f_->Decisions(verdict, reason, local ? "" : f_->At(site).name);  // it can, after all
  counter->Increment();
}
void Metrics::TerminalEvent(Terminal terminal, sched::SiteIndex site, double duration_s) {
  const bool none = site == sched::SiteIndex::kNone || terminal == Terminal::kLocal;
  const AnswerMetrics::Site& answers = none ? f_->answers.nowhere : f_->At(site).answers;
  if (auto* duration = answers.duration[static_cast<size_t>(terminal)]) duration->Observe(duration_s);
}
void Metrics::LateTerminal() { f_->late_terminals.Increment(); }
void Metrics::Epoch(const std::string& policy, size_t candidates, double solver_s, double epoch_s) {
  f_->epochs.Increment();
  f_->epoch_candidates.Observe(static_cast<double>(candidates));
  f_->epoch_duration.Observe(epoch_s);
  f_->solver.Add({{"policy", policy}}, kShortSeconds).Observe(solver_s);  // once per epoch: the look-up does not matter
}
void Metrics::Uncertainty(UncertaintyMetric metric, double uncertainty) {
  f_->uncertainty[static_cast<size_t>(metric) - 1]->Observe(uncertainty);
}
void Metrics::QueueWait(double wait_s) { f_->queue_wait.Observe(wait_s); }
void Metrics::TauInfeasible() { f_->tau_infeasible.Increment(); }
void Metrics::StaleLink() { f_->stale_links.Increment(); }
void Metrics::Tau(double tau) { f_->tau.Set(tau); }
void Metrics::LinkReportAge(double age_s) { f_->link_age.Observe(age_s); }
void Metrics::SnapshotFault(sched::SnapshotFault::Part part) {
  f_->snapshot_faults.Add({{"part", kSnapshotParts[static_cast<size_t>(part)]}}).Increment();
}
void Metrics::Pending(size_t queries) { f_->pending.Set(static_cast<double>(queries)); }
void Metrics::Slots(sched::SiteIndex site, int queries, int most) {
  f_->At(site).running->Set(queries);
  f_->At(site).slots->Set(most);
}
void Metrics::Upload(sched::SiteIndex site, double measured_s, double predicted_s) {
  f_->At(site).answers.upload->Observe(measured_s);
  f_->predictions.Measured(f_->At(site).predictions, PredictedPart::kUpload, measured_s, predicted_s);
}
void Metrics::Compute(sched::SiteIndex site, double measured_s, double predicted_s) {
  f_->predictions.Measured(f_->At(site).predictions, PredictedPart::kCompute, measured_s, predicted_s);
}
void Metrics::Uplink(uint64_t devices, double round_trip_s, double bps) {
  f_->uplink_devices.Set(static_cast<double>(devices));
  f_->uplink_round_trip.Set(round_trip_s);
  f_->uplink_rate.Set(bps / 8);
}
void Metrics::ServiceTimes(sched::SiteIndex site, const sched::SiteState& state, uint64_t samples) {
  f_->predictions.ServiceTimes(f_->At(site).predictions, state, samples);
}
void Metrics::FirstToken(sched::SiteIndex site, double ttft_s) { f_->At(site).answers.ttft->Observe(ttft_s); }
void Metrics::TimePerOutputToken(sched::SiteIndex site, double tpot_s) { f_->At(site).answers.tpot->Observe(tpot_s); }
void Metrics::Tokens(sched::SiteIndex site, int tokens) { f_->At(site).tokens->Increment(tokens); }
void Metrics::DeadlineMissed() { f_->deadline_missed.Increment(); }
PromiseWatch& Metrics::promise() { return f_->promise; }
void Metrics::LocalOutcome(double measured_s) { f_->local_outcome.Observe(measured_s); }
void Metrics::Backend(sched::SiteIndex site, size_t backend, size_t state, int slots) {
  const BackendSeries& gauges = f_->At(site).backends[backend];
  gauges.up->Set(state == kBackendIsUp ? 1 : 0);
  gauges.slots->Set(slots);
  for (size_t k = 0; k < kBackendStates.size(); ++k) gauges.states[k]->Set(k == state ? 1 : 0);
}
void Metrics::BackendRunning(sched::SiteIndex site, size_t backend, int requests) {
  f_->At(site).backends[backend].running->Set(requests);
}
void Metrics::BackendRequest(sched::SiteIndex site, size_t backend, const std::string& code) {
  const SiteSeries& series = f_->At(site);
  f_->backend_requests.Add({{"site", series.name}, {"backend", series.backends[backend].url}, {"code", code}})
      .Increment();
}
void Metrics::TenantDecision(const std::string& tenant, double uncertainty, bool offloaded) {
  f_->tenants.Decision(tenant, uncertainty, offloaded);
}
void Metrics::TenantRefused(const std::string& tenant, TenantLimit limit) { f_->tenants.Refused(tenant, limit); }
void Metrics::BackendFailure(sched::SiteIndex site, size_t backend, size_t fault) {
  f_->At(site).backends[backend].failures[fault]->Increment();
}
void Metrics::BackendFailover() { f_->failovers.Increment(); }
ListenerMetrics Metrics::Listener(const std::string& listener, const std::vector<std::string>& reasons, bool watched) {
  ListenerMetrics metrics;
  metrics.connections_ = &f_->connections.Add({{"listener", listener}});
  if (watched) metrics.heard_ = &f_->heard.Add({{"listener", listener}});
  for (const std::string& reason : reasons) {
    Counter* refused = nullptr;
    if (!reason.empty()) refused = &f_->connections_refused.Add({{"listener", listener}, {"reason", reason}});
    metrics.refused_.push_back(refused);
  }
  return metrics;
}
void ListenerMetrics::Connections(size_t open) const { connections_->Set(static_cast<double>(open)); }
void ListenerMetrics::Refused(size_t reason) const {
  if (refused_[reason] != nullptr) refused_[reason]->Increment();
}
void ListenerMetrics::Heard(bool heard) const {
  if (heard_ != nullptr) heard_->Set(heard ? 1 : 0);
}
void Metrics::Sessions(size_t open) { f_->sessions.Set(static_cast<double>(open)); }
void Metrics::OutboxBytes(int64_t delta) { f_->outbox_bytes.Increment(static_cast<double>(delta)); }
void Metrics::SlowConsumer() { f_->slow_consumers.Increment(); }
void Metrics::SentAway() { f_->sent_away.Increment(); }
void Metrics::Refused(Refusal refusal) { f_->refusals[static_cast<size_t>(refusal)]->Increment(); }
void Metrics::ConfigReload(bool ok) {
  (ok ? f_->reload_ok : f_->reload_failed).Increment();
  f_->reload_good.Set(ok ? 1 : 0);
  if (ok) f_->reload_time.SetToCurrentTime();
}
void Metrics::DecisionLogLost(uint64_t lines) { f_->log_lost.Increment(static_cast<double>(lines)); }

}  // namespace goad::server
