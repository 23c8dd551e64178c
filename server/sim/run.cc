#include "server/sim/run.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "scheduler/delay_model.h"
#include "scheduler/policy.h"
#include "scheduler/sim/scenario.h"
#include "server/engine/engine.h"
#include "server/telemetry/outcome_json.h"
#include "server/telemetry/snapshot_json.h"

namespace goad::server {
namespace {

using sched::ToIndex;

// The devices and the sites of a simulated cell around one engine. Uploads and computations are flows whose rates
// change whenever one begins or ends.
class Cell final : public SessionSink, public DispatchPort {
 public:
  Cell(const RunOptions& options, sched::QuestionSource questions, std::ofstream* log)
      : options_(options), questions_(std::move(questions)), random_(options.seed) {
    sites_ = questions_.Make(random_, 1, options.sites, options.tau).snapshot.sites;
    auto config = std::make_shared<Config>();
    config->policy.name = options.policy;
    config->policy.tau = options.tau;
    config->policy.lambda_s = options.lambda_s;
    MetricsLabels labels;
    for (size_t j = 0; j < sites_.size(); ++j) {
      SiteConfig site;
      site.name = absl::StrCat("site-", j);
      site.uplink.model = sched::UplinkModel::kShannon;
      site.uplink.bandwidth_hz = sites_[j].bandwidth_hz;
      site.uplink.noise_density_dbm_hz = 10 * std::log10(sites_[j].noise_w / sites_[j].bandwidth_hz) + 30;
      site.compute.model = sched::ComputeModel::kEqualShare;
      site.compute.capacity_flops = sites_[j].compute_flops;
      site.compute.max_share_flops = sites_[j].max_share_flops;
      site.max_queries = options.max_queries;
      site.backends.resize(1);
      labels.sites.push_back(site.name);
      labels.backends.push_back({"simulated"});
      config->sites.push_back(site);
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
    };
    if (log != nullptr) ports.on_outcome = [log](const OutcomeRecord& record) { *log << ToJson(record) << "\n"; };
    engine_ = std::make_unique<Engine>(config, std::move(ports));
    for (size_t j = 0; j < sites_.size(); ++j)
      engine_->Handle(SiteHealth{sched::ToSite(j), 1, options.max_queries}, now_);
  }

  RunReport Run() {
    MonotonicTime next_question = now_ + Gap();
    const MonotonicTime last = now_ + absl::Seconds(options_.seconds);
    const MonotonicTime first = now_;
    double reported = 0;
    for (;;) {
      const MonotonicTime done = NextCompletion();
      const MonotonicTime question = next_question < last ? next_question : MonotonicTime::Infinite();
      const MonotonicTime next = std::min({engine_->NextWake(), done, question});
      if (next == MonotonicTime::Infinite()) break;
      Advance(std::max(now_, next));
      if (done <= now_) CompleteFlows();
      if (question <= now_) {
        Ask();
        next_question = now_ + Gap();
      }
      engine_->Tick(now_);
      const double share = SecondsBetween(first, now_) / options_.seconds;
      if (options_.progress && share > reported + 0.01) options_.progress(std::min(1.0, reported = share));
    }
    return std::move(report_);
  }

  // SessionSink and DispatchPort, called by the engine.
  Delivery Deliver(SessionId session, SessionEvent event) override {
    Query& query = queries_.at(session);
    if (const auto* decision = std::get_if<DecisionEvent>(&event)) {
      if (decision->verdict == sched::Verdict::kLocal) {
        ++report_.local[sched::ToString(decision->reason)];
        AnswerLocally(session);
        return Delivery::kAccepted;
      }
      ++report_.offloaded[sched::ToString(decision->reason)];
      query.site = ToIndex(decision->site);
      query.predicted_upload_s = decision->predicted_upload_s;
      query.predicted_compute_s = decision->predicted_compute_s;
      query.phase = Query::kUploading;
      query.since = now_;
      query.left = query.candidate.prompt_bits;
      flows_.push_back(session);
    } else if (const auto* failed = std::get_if<FailedEvent>(&event)) {
      ++report_.failed[failed->error.reason];
      flows_.erase(std::find(flows_.begin(), flows_.end(), session));
      AnswerLocally(session);
    }
    return Delivery::kAccepted;
  }
  void Start(DispatchRequest request) override {
    Query& query = queries_.at(request.session);
    query.phase = Query::kComputing;
    query.since = now_;
    query.left = sched::kMeasuredWork * query.candidate.edge_work_flop;
    flows_.push_back(request.session);
  }
  void Abort(QueryId) override {}  // nobody cancels here
  void Resume(SessionId) override {}

 private:
  struct Query {
    enum Phase { kWaiting, kUploading, kComputing };
    sched::Candidate candidate;
    std::vector<double> gain;
    double local_accuracy = 0, edge_accuracy = 0;
    MonotonicTime asked, since;  // since: of the phase
    Phase phase = kWaiting;
    size_t site = 0;
    double left = 0, rate = 0;  // bits and bit/s, or FLOP and FLOP/s
    double predicted_upload_s = 0, predicted_compute_s = 0;
  };

  absl::Duration Gap() { return absl::Seconds(std::exponential_distribution<double>(options_.rate)(random_)); }

  void Ask() {
    sched::Draw draw = questions_.Make(random_, 1, sites_.size(), options_.tau);
    const SessionId session{++last_id_};
    Query& query = queries_[session];
    query.candidate = draw.snapshot.candidates[0];
    query.gain = std::move(draw.snapshot.gain);
    query.local_accuracy = draw.local_accuracy[0];
    query.edge_accuracy = draw.edge_accuracy[0];
    query.asked = now_;
    ++report_.asked;
    report_.right_local += query.local_accuracy;
    report_.right_edge += query.edge_accuracy;
    LinkUpdate links{session};
    for (size_t j = 0; j < sites_.size(); ++j)
      links.links.push_back({sched::ToSite(j), query.gain[j], sched::kUnknown, now_});
    engine_->Handle(std::move(links), now_);
    SubmitQuery submit{session, sched::QueryId{last_id_}, absl::StrCat(last_id_)};
    submit.meta.uncertainty = query.candidate.uncertainty;
    submit.meta.prompt_bits = query.candidate.prompt_bits;
    submit.meta.local_delay_s = query.candidate.local_delay_s;
    submit.meta.edge_work_flop = query.candidate.edge_work_flop;
    submit.meta.tx_power_w = query.candidate.tx_power_w;
    submit.received = now_;
    engine_->Handle(std::move(submit), now_);
  }

  // Gives every flow its rate at this moment; the earliest end.
  MonotonicTime NextCompletion() {
    std::vector<int> uploads(sites_.size()), computing(sites_.size());
    std::vector<double> interference_w(sites_.size());
    for (const SessionId session : flows_) {
      const Query& query = queries_.at(session);
      if (query.phase == Query::kComputing) {
        ++computing[query.site];
        continue;
      }
      ++uploads[query.site];
      for (size_t j = 0; j < sites_.size(); ++j) {
        if (j != query.site) interference_w[j] += query.candidate.tx_power_w * query.gain[j];
      }
    }
    MonotonicTime earliest = MonotonicTime::Infinite();
    for (const SessionId session : flows_) {
      Query& query = queries_.at(session);
      const size_t j = query.site;
      const double whole =
          query.phase == Query::kUploading ? query.candidate.prompt_bits : query.candidate.edge_work_flop;
      const double seconds = query.phase == Query::kUploading
                                 ? sched::UploadSeconds(sites_[j], query.candidate, query.gain[j], sched::kUnknown,
                                                        interference_w[j], uploads[j])
                                 : sched::ComputeSeconds(sites_[j], query.candidate, computing[j]);
      query.rate = whole / seconds;
      earliest = std::min(earliest, now_ + absl::Seconds(query.left / query.rate) + absl::Nanoseconds(1));
    }
    return earliest;
  }

  void Advance(MonotonicTime to) {
    const double seconds = SecondsBetween(now_, to);
    for (const SessionId session : flows_) {
      Query& query = queries_.at(session);
      query.left -= query.rate * seconds;
    }
    report_.busy_queries_s += seconds * static_cast<double>(flows_.size());
    now_ = to;
  }

  void CompleteFlows() {
    std::vector<SessionId> done;
    for (const SessionId session : flows_) {
      if (queries_.at(session).left <= 0) done.push_back(session);
    }
    for (const SessionId session : done) {
      flows_.erase(std::find(flows_.begin(), flows_.end(), session));
      Query& query = queries_.at(session);
      const double took_s = SecondsBetween(query.since, now_);
      const sched::QueryId id{static_cast<uint64_t>(session)};
      if (query.phase == Query::kUploading) {
        report_.upload_error_s += std::abs(took_s - query.predicted_upload_s);
        engine_->Handle(PromptReady{id, std::make_shared<PromptBody>()}, now_);
        continue;
      }
      report_.compute_error_s += std::abs(took_s - query.predicted_compute_s);
      report_.edge_s.push_back(SecondsBetween(query.asked, now_));
      report_.right += query.edge_accuracy;
      engine_->Handle(QueryDone{id, DispatchOutcome::kCompleted, 1, std::nullopt, 0, took_s, took_s}, now_);
      Leave(session);
    }
  }

  void AnswerLocally(SessionId session) {
    const Query& query = queries_.at(session);
    report_.local_s.push_back(SecondsBetween(query.asked, now_) + query.candidate.local_delay_s);
    report_.right += query.local_accuracy;
    gone_.push_back(session);  // the engine is still at it; Ask and CompleteFlows never look at it again
  }

  void Leave(SessionId session) {
    engine_->Handle(SessionClosed{session}, now_);
    queries_.erase(session);
    for (const SessionId gone : std::exchange(gone_, {})) {
      engine_->Handle(SessionClosed{gone}, now_);
      queries_.erase(gone);
    }
  }

  const RunOptions& options_;
  const sched::QuestionSource questions_;
  std::mt19937_64 random_;
  std::vector<sched::SiteState> sites_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<Engine> engine_;
  MonotonicTime now_ = MonotonicTime::FromOrigin(absl::Seconds(1));
  uint64_t last_id_ = 0;
  std::unordered_map<SessionId, Query> queries_;
  std::vector<SessionId> flows_, gone_;
  RunReport report_;
};

double Mean(const std::vector<double>& values) {
  return values.empty() ? 0 : std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double Quantile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  const auto rank = static_cast<size_t>(std::max(0.0, std::ceil(share * static_cast<double>(values.size())) - 1));
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(rank), values.end());
  return values[rank];
}

size_t Sum(const std::map<std::string, size_t>& counts) {
  size_t sum = 0;
  for (const auto& [name, count] : counts) sum += count;
  return sum;
}

}  // namespace

absl::StatusOr<RunReport> SimulateRun(const RunOptions& options) {
  const auto bad = [](const auto&... what) { return absl::InvalidArgumentError(absl::StrCat(what...)); };
  const std::vector<std::string>& serving = sched::ServingPolicyNames();
  if (std::find(serving.begin(), serving.end(), options.policy) == serving.end()) {
    return bad("policy: \"", options.policy, "\" is not one that a daemon serves with; see goad-sim --help");
  }
  if (auto policy = sched::MakePolicy(options.policy, {.lambda_s = options.lambda_s}); !policy.ok())
    return policy.status();
  if (!(options.tau >= 0 && options.tau <= 1)) return bad("tau: ", options.tau, " is not in 0..1");
  if (!(options.rate > 0 && options.rate <= 1e6))
    return bad("rate: ", options.rate, " is not above 0 and up to 1e6 (a second)");
  if (!(options.seconds > 0 && options.seconds <= 86400))
    return bad("seconds: ", options.seconds, " is not above 0 and up to 86400");
  if (options.sites < 1 || options.sites > 64) return bad("sites: ", options.sites, " is not in 1..64");
  if (options.max_queries < 1 || options.max_queries > 4096)
    return bad("max_queries: ", options.max_queries, " is not in 1..4096");
  auto questions = sched::QuestionSource::Open(options.workload);
  if (!questions.ok()) return questions.status();
  std::ofstream log;
  if (!options.log.empty()) {
    log.open(options.log);
    if (!log) return bad("log: ", options.log, ": cannot be written");
  }
  RunReport report = Cell(options, *std::move(questions), options.log.empty() ? nullptr : &log).Run();
  if (!options.log.empty() && !log.flush())
    return absl::UnavailableError(absl::StrCat("log: ", options.log, ": cannot be written"));
  return report;
}

std::string FormatRun(const RunReport& report, const RunOptions& options) {
  const auto reasons = [](const std::map<std::string, size_t>& counts) {
    std::string text;
    for (const auto& [reason, count] : counts) absl::StrAppend(&text, text.empty() ? "" : ", ", reason, " ", count);
    return text;
  };
  std::string text = absl::StrFormat(
      "simulated: %g s of virtual time, %g questions a second (Poisson), %d sites, policy %s, tau %g\n\n",
      options.seconds, options.rate, options.sites, options.policy, options.tau);
  absl::StrAppendFormat(&text, "  %-20s %8d\n", "asked", report.asked);
  absl::StrAppendFormat(&text, "  %-20s %8d   %s\n", "answered locally", Sum(report.local), reasons(report.local));
  absl::StrAppendFormat(&text, "  %-20s %8d   %s\n", "offloaded", Sum(report.offloaded), reasons(report.offloaded));
  if (!report.failed.empty())
    absl::StrAppendFormat(&text, "  %-20s %8d   %s\n", "  of them failed", Sum(report.failed), reasons(report.failed));
  if (report.asked == 0) return text;
  const double n = static_cast<double>(report.asked);
  absl::StrAppendFormat(&text, "\n  accuracy %s\n  %-20s %7.1f %%\n  %-20s %7.1f %%\n  %-20s %7.1f %%\n",
                        options.workload.empty() ? "(modelled)" : "(recorded)", "goad", 100 * report.right / n,
                        "all-local", 100 * report.right_local / n, "all-edge", 100 * report.right_edge / n);
  std::vector<double> all = report.local_s;
  all.insert(all.end(), report.edge_s.begin(), report.edge_s.end());
  absl::StrAppendFormat(&text, "\n  %-20s %8s %8s %8s   %6s\n", "milliseconds", "mean", "p50", "p99", "count");
  for (const auto& [name, values] : {std::pair<const char*, const std::vector<double>&>{"delay, all", all},
                                     {"delay, local", report.local_s},
                                     {"delay, offloaded", report.edge_s}}) {
    absl::StrAppendFormat(&text, "  %-20s %8.1f %8.1f %8.1f   %6d\n", name, 1e3 * Mean(values),
                          1e3 * Quantile(values, 0.5), 1e3 * Quantile(values, 0.99), values.size());
  }
  const double edge = std::max<double>(1, static_cast<double>(report.edge_s.size()));
  absl::StrAppendFormat(&text, "  %-20s %8.2f\n  %-20s %8.2f   (8 predicted, 6.4 taken: the paper's)\n",
                        "|error| of upload", 1e3 * report.upload_error_s / edge, "|error| of compute",
                        1e3 * report.compute_error_s / edge);
  absl::StrAppendFormat(
      &text, "\n  %d epochs of %.1f candidates; %.1f queries at the sites on average\n", report.epochs,
      static_cast<double>(report.candidates) / std::max<double>(1, static_cast<double>(report.epochs)),
      report.busy_queries_s / options.seconds);
  return text;
}

}  // namespace goad::server
