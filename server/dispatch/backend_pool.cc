#include "server/dispatch/backend_pool.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "server/dispatch/load_metrics.h"
#include "server/dispatch/probe_answers.h"
#include "spdlog/spdlog.h"

namespace goad::server {
namespace {

constexpr absl::Duration kLongestRest = absl::Seconds(30);
constexpr absl::Duration kTurnsAway = absl::Seconds(5);  // that one is asked last after its last "busy"
constexpr size_t kMaxProbeBody = 1 << 20;
constexpr int kAssumedSlots = 4;  // of a server that does not say, where nothing is configured

}  // namespace

Abilities BackendPool::Backend::Now() const {
  SaidAbilities spoken = said;
  if (!spoken.context_tokens) spoken.context_tokens = listed_context;
  return AbilitiesOf(*config, spoken);
}

int BackendPool::Backend::slots() const {
  if (config->slots > 0) return reported_slots > 0 ? std::min(config->slots, reported_slots) : config->slots;
  return reported_slots > 0 ? reported_slots : kAssumedSlots;
}
const char* BackendPool::Backend::slots_from() const {
  if (config->slots > 0 && (reported_slots == 0 || config->slots <= reported_slots)) return "configured";
  return reported_slots > 0 ? "props" : "assumed";
}

BackendPool::BackendPool(std::shared_ptr<const Config> config, HttpTransport* transport, Metrics* metrics,
                         std::function<void(Event)> to_engine, std::function<void(size_t, MonotonicTime)> on_capacity,
                         std::function<void(SiteAbilities)> on_abilities)
    : transport_(transport),
      metrics_(metrics),
      to_engine_(std::move(to_engine)),
      on_capacity_(std::move(on_capacity)),
      on_abilities_(std::move(on_abilities)) {
  SetConfig(std::move(config), MonotonicTime());
}

void BackendPool::SetConfig(std::shared_ptr<const Config> config, MonotonicTime now) {
  const std::shared_ptr<const Config> before = std::exchange(config_, std::move(config));
  sites_.resize(config_->sites.size());
  for (size_t s = 0; s < sites_.size(); ++s) {
    const SiteConfig& site = config_->sites[s];
    std::vector<Backend>& backends = sites_[s].backends;
    if (!backends.empty() && before->sites[s].name != site.name) {  // another's place: nothing runs there
      for (Backend& backend : backends) DropProbe(backend);
      sites_[s] = Site();
    }
    for (size_t b = 0; b < site.backends.size(); ++b) {
      if (b == backends.size()) backends.emplace_back(++next_seed_ << 32);
      const BackendConfig& next = site.backends[b];
      const BackendConfig* last = std::exchange(backends[b].config, &next);
      if (last != nullptr && last->model != next.model) backends[b].listed_context.reset();
      if (next.presence.removed()) DropProbe(backends[b]);
      if (last == nullptr || (last->presence.removed() == next.presence.removed() && last->url == next.url)) {
        continue;
      }
      if (next.presence.removed()) continue;
      // Another server, or one that is back: what is known of it is old.
      DropProbe(backends[b]);
      Backend fresh(++next_seed_ << 32);
      fresh.config = &next;
      fresh.in_flight = backends[b].in_flight;
      backends[b] = std::move(fresh);
    }
    sites_[s].leaving = std::all_of(site.backends.begin(), site.backends.end(),
                                    [](const BackendConfig& backend) { return backend.presence.leaving(); });
  }
  abilities_changed_ = true;
  for (Site& site : sites_) {
    for (Backend& backend : site.backends) backend.can = backend.Now();
  }
  if (before == nullptr) return TellAbilities();
  ++changes_;
  Report(now);
  for (size_t s = 0; s < sites_.size(); ++s) on_capacity_(s, now);
}

void BackendPool::DropProbe(Backend& backend) {
  if (!backend.probe) return;
  transport_->Abort(backend.probe->call);
  backend.probe.reset();
}

std::optional<int> BackendPool::Pick(size_t site, const sched::Needs& needs, uint64_t tried,
                                     std::optional<int> preferred, MonotonicTime now, bool* all_tried) const {
  const std::vector<Backend>& backends = sites_[site].backends;
  std::optional<int> best;
  double best_load = 0;
  *all_tried = true;
  for (size_t b = 0; b < backends.size(); ++b) {
    const Backend& backend = backends[b];
    const int slots = OpenSlots(backend, now);
    if (slots == 0 || (tried >> b & 1) != 0) continue;
    if (backend.config->presence.leaving() && !sites_[site].leaving) continue;
    if (!Can(backend.can, needs)) continue;
    *all_tried = false;
    if (backend.in_flight >= slots) continue;
    // One that turns everybody away is idle for that very reason: the others first.
    const bool refuses = now < backend.refuses_until;
    if (static_cast<int>(b) == preferred && !refuses) return preferred;
    const double load = (backend.in_flight + backend.foreign) / slots + (refuses ? 1e9 : 0);
    if (best && load >= best_load) continue;
    best = static_cast<int>(b);
    best_load = load;
  }
  return best;
}

bool BackendPool::AnyCan(size_t site, const sched::Needs& needs) const {
  const std::vector<Backend>& backends = sites_[site].backends;
  return std::any_of(backends.begin(), backends.end(), [&](const Backend& backend) {
    return !backend.config->presence.removed() && Can(backend.can, needs);
  });
}

std::string BackendPool::name(size_t site, int backend) const {
  return absl::StrCat(config_->sites[site].name, "/", backend);
}

absl::Duration BackendPool::first_byte(size_t site, int backend) const {
  const absl::Duration own = config(site, backend).first_byte;
  return own > absl::ZeroDuration() ? own : config_->dispatch.first_byte;
}

BackendHealth::Settings BackendPool::Settings(const Backend& backend) const {
  return {config_->dispatch.failures_to_open, config_->dispatch.probe_period, backend.config->gateway,
          backend.config->probe.path};
}

void BackendPool::Succeeded(size_t site, int backend, MonotonicTime now) {
  At(site, backend).refusals = At(site, backend).turned_away = 0;
  At(site, backend).refuses_until = MonotonicTime();
  At(site, backend).health.RequestSucceeded(now);
  Report(now);
}

void BackendPool::Failed(size_t site, int backend, const ServerError& error, const std::string& words,
                         MonotonicTime now) {
  metrics_->BackendFailure(sched::ToSite(site), static_cast<size_t>(backend), static_cast<size_t>(error.blame));
  Backend& target = At(site, backend);
  if (error.blame == Blame::kPrompt || error.blame == Blame::kBusy || error.doubtful) {
    // What prompts are refused for says nothing of it: one device's would move everybody's load.
    if (error.blame != Blame::kPrompt && ++target.turned_away >= config_->dispatch.failures_to_open) {
      target.refuses_until = now + kTurnsAway;
    }
    // Not its fault; but when it answers nobody, an operator wants to know.
    if (++target.refusals == config_->dispatch.failures_to_open) {
      target.health.Refused(absl::StrCat("POST ", words), now);
      spdlog::warn("backend={} url={} refused {} requests in a row and answered none since, cause=\"{}\"",
                   name(site, backend), config(site, backend).url, target.refusals, words);
    }
    return;
  }
  spdlog::debug("request failed backend={} url={} {}", name(site, backend), config(site, backend).url, words);
  if (error.blame == Blame::kLoading) {
    target.health.RequestToldOfLoading(absl::StrCat("POST ", words), Settings(target), now);
  } else {
    target.health.RequestFailed(absl::StrCat("POST ", words), Settings(target), now);
  }
  Report(now);
}

// A seed, or a temperature out of range, is the query's own; so is what a prompt may have put into a server's mouth.
void BackendPool::Learn(size_t site, int backend, const openai::RequestDialect& taken, const PromptBody& prompt) {
  openai::RequestDialect& known = At(site, backend).dialect;
  known.stream_options &= taken.stream_options;
  known.max_completion_tokens |= taken.max_completion_tokens;
  const bool is_common = prompt.temperature <= 1;  // what every server takes that takes any
  if (taken.temperature > known.temperature && is_common && !Repeats(prompt, "temperature")) {
    known.temperature = taken.temperature;
  }
  if (taken.logprobs_below < known.logprobs_below && !Repeats(prompt, "logprobs")) {
    known.logprobs_below = taken.logprobs_below;
  }
}

void BackendPool::Rest(size_t site, int backend, absl::Duration retry_after, MonotonicTime now) {
  At(site, backend).rests_until = now + std::min(retry_after, kLongestRest);
  Report(now);
}

// --- probes --------------------------------------------------------------------------------------------------

void BackendPool::StartProbe(size_t site, int backend, MonotonicTime now) {
  Backend& target = At(site, backend);
  target.probe = std::make_unique<Probe>(this, site, backend, target.in_flight, now);
  target.probe->call =
      transport_->Start({target.config, target.health.StartProbe(Settings(target)), "", config_->dispatch.connect, ""},
                        target.probe.get());
}

MonotonicTime BackendPool::ProbeLimit(const Backend& backend) const {
  return backend.probe->started + backend.config->probe.timeout;
}

void BackendPool::Probe::OnBody(std::string_view bytes, MonotonicTime now) {
  body += bytes.substr(0, kMaxProbeBody - body.size());
  if (body.size() < kMaxProbeBody) return;
  pool->transport_->Abort(call);                    // more than any answer to a probe: what is here must do
  pool->ProbeEnded(site, backend, "", false, now);  // ends this, too
}

void BackendPool::Probe::OnEnd(TransportEnd end, const std::string& detail, MonotonicTime now) {
  pool->ProbeEnded(site, backend,
                   end == TransportEnd::kComplete ? ""
                   : detail.empty()               ? "no answer"
                                                  : FirstWords(detail),
                   false, now);  // ends this, too
}

std::string BackendPool::Probe::Words() const {
  const bool leads_on = http_status >= 300 && http_status < 400 && !location.empty();
  const std::string words = leads_on ? absl::StrCat("to ", ShownLocation(location)) : FirstWords(body);
  const std::string status = absl::StrCat(http_status);
  if (words.compare(0, 3, status) == 0) return absl::StrCat("HTTP ", words);  // nginx's titles begin with it
  return absl::StrCat("HTTP ", status, words.empty() ? "" : " ", words);
}

void BackendPool::ProbeEnded(size_t site, int index, const std::string& failure, bool late, MonotonicTime now) {
  Backend& backend = At(site, index);
  const std::unique_ptr<Probe> ended = std::move(backend.probe);
  const Probe& probe = *ended;
  const bool answered = failure.empty();
  BackendHealth::ProbeAnswer answer;
  answer.status = answered ? probe.http_status : 0;
  answer.late = late;
  if (answered) backend.heard = now;
  answer.busy =
      backend.in_flight > 0 && now - backend.heard < first_byte(site, index);  // else it is no excuse any more
  answer.words = answered ? probe.Words() : failure;
  switch (backend.health.ProbeDone(answer, Settings(backend), now)) {
    case BackendHealth::Asked::kHealth: break;
    case BackendHealth::Asked::kProps: TakeProps(site, index, probe); break;
    case BackendHealth::Asked::kModels: TakeModels(site, index, answer, probe); break;
    case BackendHealth::Asked::kMetrics: {
      // What began or ended of ours between the server's count and here must not pass for somebody else's.
      const std::optional<double> load = answer.status == 200 ? ParseServerLoad(probe.body) : std::nullopt;
      backend.foreign = std::max(0.0, load.value_or(0) - std::max(probe.in_flight, backend.in_flight));
      if (answered && !load) backend.health.NoMetrics();
      break;
    }
  }
  Report(now);
  on_capacity_(site, now);
}

void BackendPool::TakeProps(size_t site, int index, const Probe& probe) {
  Backend& backend = At(site, index);
  const int before = backend.reported_slots;
  if (probe.http_status == 0 || probe.http_status >= 500) return backend.health.AskPropsAgain();  // it has not said
  const Props props = probe.http_status == 200 ? ParseProps(probe.body) : Props();
  backend.reported_slots = props.slots.value_or(0);
  backend.said = props.can;
  LearnAbilities(site, index);
  if (backend.reported_slots == before) return;
  if (probe.http_status == 200 && backend.reported_slots != 0 && backend.config->slots > 0 &&
      backend.config->slots != backend.reported_slots) {
    spdlog::warn("backend={} url={} slots={} are configured and the server has {} (/props): {} are in force",
                 name(site, index), backend.config->url, backend.config->slots, backend.reported_slots,
                 backend.slots());
  }
}

void BackendPool::TakeModels(size_t site, int index, const BackendHealth::ProbeAnswer& answer, const Probe& probe) {
  Backend& backend = At(site, index);
  std::string problem =
      ModelsProblem(answer.status, answer.words, probe.body, probe.body.size() >= kMaxProbeBody, backend.config->model);
  if (!problem.empty() && problem != backend.models_problem) {
    spdlog::warn("backend={} url={} {}", name(site, index), backend.config->url, problem);
  }
  backend.models_problem = std::move(problem);
  if (answer.status != 200) return;
  backend.listed_context = ParseContext(probe.body, backend.config->model);
  LearnAbilities(site, index);
}

void BackendPool::LearnAbilities(size_t site, int index) {
  Backend& backend = At(site, index);
  const Abilities can = backend.Now();
  if (can == backend.can) return;
  backend.can = can;
  abilities_changed_ = true;
  ++changes_;
  spdlog::info("backend={} url={} can=\"{}\"", name(site, index), backend.config->url, ToText(can));
  const int said = backend.said.context_tokens.value_or(backend.listed_context.value_or(0));
  if (said > 0 && backend.config->context > said) {
    spdlog::warn("backend={} url={} context={} is configured and the server has {}: what is longer it will refuse",
                 name(site, index), backend.config->url, backend.config->context, said);
  }
}

void BackendPool::Tick(MonotonicTime now) {
  for (size_t s = 0; s < sites_.size(); ++s) {
    for (size_t b = 0; b < sites_[s].backends.size(); ++b) {
      Backend& backend = sites_[s].backends[b];
      if (backend.config->presence.removed()) continue;
      if (backend.probe && ProbeLimit(backend) <= now) {
        transport_->Abort(backend.probe->call);
        ProbeEnded(s, static_cast<int>(b),
                   absl::StrCat("no answer within ", absl::FormatDuration(backend.config->probe.timeout)), true, now);
      }
      if (backend.health.next_probe() <= now) StartProbe(s, static_cast<int>(b), now);
      if (backend.open_slots != 0 || OpenSlots(backend, now) == 0) continue;  // a rest or a pause is over
      Report(now);
      on_capacity_(s, now);
    }
  }
}

MonotonicTime BackendPool::NextWake() const {
  MonotonicTime wake = MonotonicTime::Infinite();
  for (const Site& site : sites_) {
    for (const Backend& backend : site.backends) {
      if (backend.config->presence.removed()) continue;
      if (backend.probe) wake = std::min(wake, ProbeLimit(backend));
      wake = std::min(wake, backend.health.next_probe());
      if (backend.open_slots == 0) wake = std::min(wake, std::max(backend.health.next_try(), backend.rests_until));
    }
  }
  return wake;
}

void BackendPool::InFlightBy(int change, size_t site, int index) {
  Backend& backend = At(site, index);
  backend.in_flight += change;
  if (!backend.config->presence.removed()) {
    metrics_->BackendRunning(sched::ToSite(site), static_cast<size_t>(index), backend.in_flight);
  }
}

}  // namespace goad::server
