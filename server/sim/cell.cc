#include "server/sim/cell.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/sim/paper_flows.h"
#include "server/sim/roofline_sites.h"
#include "server/telemetry/outcome_json.h"
#include "server/telemetry/snapshot_json.h"

namespace goad::server {

using sched::ToIndex;

namespace {

std::string SiteName(size_t site) { return absl::StrCat("site-", site); }

}  // namespace

Cell::Cell(const RunOptions& options, const RunInputs& inputs, const SiteNumbers& numbers, std::ofstream* log,
           ServiceSamples* samples)
    : options_(options),
      inputs_(inputs),
      numbers_(numbers),
      random_(options.seed),
      last_(now_ + absl::Seconds(inputs.seconds)),
      change_(now_ + absl::Seconds(inputs.seconds / 2)),
      at_site_(options.sites) {
  sites_ = inputs.questions.Make(random_, 1, options.sites, options.tau).snapshot.sites;
  report_.seconds = inputs.seconds;
  report_.sites.resize(options.sites);
  if (traced()) {
    computations_ = std::make_unique<RooflineSites>(options.sites, options.seed, first_, change_);
  } else {
    computations_ = std::make_unique<EqualShareSites>(sites_);
  }
  if (inputs.uplinks.empty()) {
    uploads_ = std::make_unique<RadioUplinks>(sites_);
  } else {
    auto uplinks = std::make_unique<TracedUplinks>(inputs.uplinks, options.devices, options.seed, first_);
    traced_uplinks_ = uplinks.get();
    uploads_ = std::move(uplinks);
    std::mt19937_64 random(options.seed + 1);
    for (size_t i = 0; i < options.devices; ++i)
      speeds_.push_back(std::uniform_real_distribution<double>(0.5, 1.5)(random));
  }
  const std::shared_ptr<const Config> config = MakeConfig(/*late=*/false);
  MetricsLabels labels;
  for (const SiteConfig& site : config->sites) {
    labels.sites.push_back(site.name);
    labels.backends.emplace_back();
    for (size_t k = 0; k < site.backends.size(); ++k) labels.backends.back().push_back(absl::StrCat("simulated-", k));
  }
  metrics_ = std::make_unique<Metrics>(labels);
  Engine::Ports ports;
  ports.sink = this;
  ports.dispatch = this;
  ports.metrics = metrics_.get();
  ports.on_epoch = [this, log](std::shared_ptr<const EpochRecord> record) {
    if (record->snapshot.candidates.empty()) return;
    ++report_.epochs;
    report_.candidates += record->snapshot.candidates.size();
    if (log != nullptr) *log << ToJson(*record) << "\n";
    record_ = std::move(record);
  };
  if (log != nullptr || samples != nullptr) {
    ports.on_outcome = [this, log, samples](const OutcomeRecord& record) {
      if (log != nullptr) *log << ToJson(record) << "\n";
      if (samples != nullptr && record.compute_s) Sample(record, samples);
    };
  }
  engine_ = std::make_unique<Engine>(config, std::move(ports));
  for (size_t j = 0; j < options.sites; ++j) {
    const int backends = static_cast<int>(config->sites[j].backends.size());
    const int slots = traced() ? kBatchLimit * backends : options.max_queries;
    report_.sites[j].slots = std::min(slots, options.max_queries);
    SiteHealth health{sched::ToSite(j), backends, slots};
    if (!options.contexts.empty()) health.contexts.fill(options.contexts[j]);
    engine_->Handle(health, now_);
  }
}

void Cell::Sample(const OutcomeRecord& record, ServiceSamples* samples) const {
  size_t site = 0;
  while (record.site != SiteName(site)) ++site;
  const bool late = record.at_s - *record.compute_s >= SecondsBetween(MonotonicTime(), change_);
  (*samples)[site][late].push_back({static_cast<double>(record.prompt_tokens),
                                    static_cast<double>(*record.output_tokens), *record.queries, *record.compute_s});
}

std::shared_ptr<const Config> Cell::MakeConfig(bool late) const {
  auto config = std::make_shared<Config>();
  config->policy.name = options_.policy;
  config->policy.tau = options_.tau;
  config->policy.lambda_s = options_.lambda_s;
  for (size_t j = 0; j < sites_.size(); ++j) {
    SiteConfig site;
    site.name = SiteName(j);
    if (traced_uplinks_ != nullptr) {
      site.uplink.model = sched::UplinkModel::kMeasured;
      site.uplink.shared = false;
    } else {
      site.uplink.model = sched::UplinkModel::kShannon;
      site.uplink.bandwidth_hz = sites_[j].bandwidth_hz;
      site.uplink.noise_density_dbm_hz = 10 * std::log10(sites_[j].noise_w / sites_[j].bandwidth_hz) + 30;
    }
    if (traced()) {
      site.compute = numbers_[j][late];
      site.compute.learn = options_.learn == Learn::kOn;
    } else {
      site.compute.model = sched::ComputeModel::kEqualShare;
      site.compute.capacity_flops = sites_[j].compute_flops;
      site.compute.max_share_flops = sites_[j].max_share_flops;
    }
    site.max_queries = options_.max_queries;
    site.backends.resize(traced() ? kBackendsPerSite : 1);
    config->sites.push_back(site);
  }
  return config;
}

RunReport Cell::Run() {
  MonotonicTime next_question = NextQuestion();
  MonotonicTime change =
      traced() && options_.learn == Learn::kTrue ? change_ : MonotonicTime::Infinite();  // the engine is told of it
  double reported = 0;
  for (;;) {
    const MonotonicTime ends = std::min(uploads_->Next(now_), computations_->Next(now_));
    MonotonicTime next = std::min({engine_->NextWake(), ends, next_question});
    if (next == MonotonicTime::Infinite()) break;
    Advance(std::max(now_, std::min(next, change)));
    if (change <= now_) {
      engine_->Handle(ApplyConfig{MakeConfig(/*late=*/true), true}, now_);
      change = MonotonicTime::Infinite();
    }
    if (ends <= now_) EndFlows();
    if (next_question <= now_) {
      Ask();
      next_question = NextQuestion();
    }
    engine_->Tick(now_);
    ForgetGone();
    const double share = SecondsBetween(first_, now_) / inputs_.seconds;
    if (options_.progress && share > reported + 0.01) options_.progress(std::min(1.0, reported = share));
  }
  return std::move(report_);
}

MonotonicTime Cell::NextQuestion() {
  if (traced()) {
    return report_.asked < inputs_.arrivals.size() ? first_ + absl::Seconds(inputs_.arrivals[report_.asked].time_s)
                                                   : MonotonicTime::Infinite();
  }
  const MonotonicTime next = now_ + absl::Seconds(std::exponential_distribution<double>(inputs_.rate)(random_));
  return next < last_ ? next : MonotonicTime::Infinite();
}

SessionId Cell::SessionOf(const Question& question) const {
  return traced_uplinks_ != nullptr ? SessionId{question.device + 1} : SessionId{static_cast<uint64_t>(question.id)};
}

void Cell::Ask() {
  sched::Draw draw = inputs_.questions.Make(random_, 1, sites_.size(), options_.tau);
  const QueryId id{report_.asked + 1};
  Question& question = questions_[id];
  question.id = id;
  question.number = report_.asked;
  sched::Candidate& needs = question.candidate = draw.snapshot.candidates[0];
  question.gain = std::move(draw.snapshot.gain);
  question.local_accuracy = draw.local_accuracy[0];
  question.edge_accuracy = draw.edge_accuracy[0];
  question.local_s = needs.local_delay_s;
  question.asked = now_;
  SubmitQuery submit;
  if (traced()) {
    const sched::Arrival& arrival = inputs_.arrivals[question.number];
    double speed = needs.edge_work_flop / (8 * needs.local_delay_s) / sched::kReferenceFlops;  // C_i, as drawn
    if (traced_uplinks_ != nullptr) speed = speeds_[question.device = random_() % speeds_.size()];
    const auto local_s = [&](double output_tokens) {
      return (arrival.prompt_tokens * kDevicePrefill_s + output_tokens * kDeviceToken_s) / speed;
    };
    question.local_s = local_s(arrival.output_tokens);
    question.output_tokens = std::max(1, arrival.output_tokens);
    needs.local_delay_s = local_s(inputs_.mean_output_tokens);
    needs.prompt_tokens = arrival.prompt_tokens;
    needs.prompt_bits = kBitsPerToken * std::max(1, arrival.prompt_tokens);
    submit.meta.prompt_tokens = arrival.prompt_tokens;
    submit.meta.max_output_tokens = inputs_.max_output_tokens;
    submit.meta.needs.context_tokens = arrival.prompt_tokens + inputs_.max_output_tokens;
  } else {
    submit.meta.edge_work_flop = needs.edge_work_flop;
  }
  ++report_.asked;
  report_.delay_s.push_back(0);
  report_.right_local += question.local_accuracy;
  report_.right_edge += question.edge_accuracy;
  ReportLinks(question);
  submit.session = SessionOf(question);
  submit.id = id;
  submit.query_id = absl::StrCat(static_cast<uint64_t>(id));
  if (traced_uplinks_ != nullptr) submit.device = absl::StrCat("device-", question.device);
  submit.meta.uncertainty = needs.uncertainty;
  submit.meta.prompt_bits = needs.prompt_bits;
  submit.meta.local_delay_s = needs.local_delay_s;
  submit.meta.tx_power_w = needs.tx_power_w;
  submit.received = now_;
  engine_->Handle(std::move(submit), now_);
}

void Cell::ReportLinks(const Question& question) {
  LinkUpdate links{SessionOf(question)};
  double bps = sched::kUnknown;
  if (traced_uplinks_ != nullptr) {
    if (options_.learn == Learn::kOn) return;
    bps = traced_uplinks_->MeanBps(question.device);
    if (options_.learn == Learn::kOff) bps *= options_.configured_error;
  }
  for (size_t j = 0; j < sites_.size(); ++j)
    links.links.push_back({sched::ToSite(j), traced_uplinks_ ? sched::kUnknown : question.gain[j], bps, now_});
  engine_->Handle(std::move(links), now_);
}

void Cell::Advance(MonotonicTime to) {
  uploads_->Advance(now_, to);
  computations_->Advance(now_, to);
  report_.busy_queries_s += SecondsBetween(now_, to) * static_cast<double>(flows_);
  const double counted_s = std::max(0.0, SecondsBetween(now_, std::min(to, last_)));
  for (size_t j = 0; j < at_site_.size(); ++j) report_.sites[j].busy_s += counted_s * at_site_[j];
  now_ = to;
}

void Cell::EndFlows() {
  const std::vector<Flows::End> uploaded = uploads_->Ended(now_), computed = computations_->Ended(now_);
  flows_ -= uploaded.size() + computed.size();
  for (const Flows::End& end : uploaded) {
    const Question& question = questions_.at(end.id);
    const double took_s = SecondsBetween(question.since, now_);
    report_.upload_error_s += std::abs(took_s - question.predicted_upload_s);
    report_.upload.push_back((question.predicted_upload_s - took_s) / took_s);
    engine_->Handle(PromptReady{end.id, std::make_shared<PromptBody>()}, now_);
  }
  for (const Flows::End& end : computed) AtEdge(questions_.at(end.id), end);
}

// Its answer is there.
void Cell::AtEdge(const Question& question, const Flows::End& end) {
  const double took_s = SecondsBetween(question.since, now_);
  report_.compute_error_s += std::abs(took_s - question.predicted_compute_s);
  report_.edge_s.push_back(SecondsBetween(question.asked, now_));
  report_.right += question.edge_accuracy;
  report_.delay_s[question.number] = report_.edge_s.back();
  --at_site_[question.site];
  QueryDone done{question.id, DispatchOutcome::kCompleted, 1, std::nullopt, end.backend, took_s, took_s};
  if (traced()) {
    report_.compute_assumed.push_back((question.predicted_compute_s - took_s) / took_s);
    report_.sites[question.site].compute[question.late].push_back((question.predicted_knowing_s - took_s) / took_s);
    done.output_tokens = question.output_tokens;
    done.served = ServedSample{took_s, static_cast<int>(question.candidate.prompt_tokens), question.output_tokens};
    done.first_token_s = end.first_token_s;
  }
  engine_->Handle(std::move(done), now_);
  gone_.push_back(question.id);
}

Delivery Cell::Deliver(SessionId, SessionEvent event) {
  if (const auto* decision = std::get_if<DecisionEvent>(&event)) {
    Question& question = questions_.at(decision->id);
    const bool local = decision->verdict == sched::Verdict::kLocal;
    ++(local ? report_.local : report_.offloaded)[sched::ToString(decision->reason)];
    local ? AnswerLocally(question) : Offload(question, *decision);
  } else if (const auto* failed = std::get_if<FailedEvent>(&event)) {  // its prompt was too slow
    Question& question = questions_.at(failed->id);
    ++report_.failed[failed->error.reason];
    uploads_->Drop(failed->id, now_);
    --flows_;
    --at_site_[question.site];
    AnswerLocally(question);
  }
  return Delivery::kAccepted;
}

void Cell::Offload(Question& question, const DecisionEvent& decision) {
  question.site = ToIndex(decision.site);
  question.since = now_;
  question.late = now_ >= change_;
  question.predicted_upload_s = decision.predicted_upload_s;
  question.predicted_compute_s = question.predicted_knowing_s = decision.predicted_compute_s;
  if (traced()) {  // the decision's own epoch is the latest one
    const sched::EpochSnapshot& snapshot = record_->snapshot;
    const sched::SiteState& site = snapshot.sites[question.site];
    const auto asked = std::find_if(snapshot.candidates.begin(), snapshot.candidates.end(),
                                    [&](const sched::Candidate& candidate) { return candidate.id == question.id; });
    const double begun_s = site.overhead_s + asked->prompt_tokens / site.prefill_tokens_per_s;
    if (asked->expected_output_tokens > 0) {
      question.predicted_knowing_s =
          begun_s + (decision.predicted_compute_s - begun_s) * question.output_tokens / asked->expected_output_tokens;
    }
  }
  ++at_site_[question.site];
  ++flows_;
  uploads_->Begin(question, now_);
}

void Cell::Start(DispatchRequest request) {
  Question& question = questions_.at(request.id);
  question.since = now_;
  ++flows_;
  computations_->Begin(question, now_);
}

void Cell::AnswerLocally(Question& question) {
  report_.local_s.push_back(SecondsBetween(question.asked, now_) + question.local_s);
  report_.right += question.local_accuracy;
  report_.delay_s[question.number] = report_.local_s.back();
  gone_.push_back(question.id);
}

void Cell::ForgetGone() {
  for (const QueryId id : std::exchange(gone_, {})) {
    if (traced_uplinks_ == nullptr) engine_->Handle(SessionClosed{SessionOf(questions_.at(id))}, now_);
    questions_.erase(id);
  }
}

}  // namespace goad::server
