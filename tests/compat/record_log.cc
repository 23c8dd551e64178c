// Writes a decision log as the daemon writes it, for data/compat: every serving policy in turn over the real engine in
// virtual time, with both uplink and compute models, tenants with caps, chat, deadlines, queries that are carried
// over, and queries that end in every way; then random snapshots, for what an engine rarely sees (ties, lost links,
// full and drained sites). By hand, and only to add a file beside the old ones:
//
//   build/tests/compat_record_log FILE [SEED]
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <random>

#include "absl/strings/str_cat.h"
#include "scheduler/policy.h"
#include "server/engine/engine.h"
#include "server/telemetry/decision_log.h"
#include "server/telemetry/snapshot_json.h"
#include "tests/support/random_snapshots.h"

namespace goad::server {
namespace {

constexpr const char* kTenants[] = {"gold", "bronze", kDefaultTenant};

Config ThreeSites() {
  Config config;
  config.sites.resize(3);
  SiteConfig& shannon = config.sites[0];
  shannon.name = "shannon";
  shannon.uplink.model = sched::UplinkModel::kShannon;
  shannon.compute.model = sched::ComputeModel::kEqualShare;
  shannon.compute.capacity_flops = 1.5e16;
  shannon.compute.max_share_flops = 1.5e15;
  shannon.compute.parameters = 8e9;
  shannon.backends.resize(1);
  SiteConfig& batching = config.sites[1];
  batching.name = "batching";
  batching.backends.resize(2);
  for (BackendConfig& backend : batching.backends) backend.api = BackendApi::kChat;
  SiteConfig& alone = config.sites[2];
  alone.name = "alone";
  alone.uplink.shared = false;
  alone.compute.prefill_tokens_per_s = 20000;
  alone.max_queries = 4;
  alone.backends.resize(1);
  config.tenants.resize(3);
  for (size_t t = 0; t < 3; ++t) config.tenants[t].name = kTenants[t];
  config.tenants[0].weight = 3;
  config.tenants[0].max_queries = 8;
  config.tenants[1].max_queries = 2;
  config.limits.grant = absl::Milliseconds(60);
  return config;
}

// Devices that ask, upload and go, and LLM servers that take their time, before and behind one engine.
class Cell final : public SessionSink, public DispatchPort {
 public:
  Cell(uint64_t seed, EpochFeed* feed, DecisionLog* log) : random_(seed) {
    Engine::Ports ports;
    ports.sink = this;
    ports.dispatch = this;
    ports.metrics = &metrics_;
    ports.on_epoch = [this, feed](std::shared_ptr<const EpochRecord> record) {
      if (!record->snapshot.candidates.empty()) ++epochs_;
      if (!record->snapshot.residents.empty()) ++carried_;
      feed->Publish(record);
    };
    ports.on_outcome = [log](OutcomeRecord record) { log->Outcome(std::move(record)); };
    engine_ = std::make_unique<Engine>(std::make_shared<const Config>(ThreeSites()), std::move(ports));
    for (int j = 0; j < 3; ++j) engine_->Handle(SiteHealth{sched::SiteIndex{j}, j == 1 ? 2 : 1, j == 1 ? 12 : 8}, now_);
  }

  void Run(const std::string& policy, int epochs) {
    engine_->Handle(SetPolicy{policy}, now_);
    for (const int until = epochs_ + epochs; epochs_ < until;) {
      now_ = now_ + absl::Milliseconds(1);
      while (!agenda_.empty() && agenda_.begin()->first <= now_) {
        Event event = std::move(agenda_.begin()->second);
        agenda_.erase(agenda_.begin());
        engine_->Handle(std::move(event), now_);
      }
      if (Chance(0.07)) {
        for (uint64_t burst = 3 + random_() % 6; burst > 0; --burst) Ask();
      }
      engine_->Tick(now_);
    }
  }
  void Drain() { engine_->Handle(DrainExpired{}, now_ + absl::Milliseconds(1)), LetGo(); }
  int carried() const { return carried_; }

  Delivery Deliver(SessionId, SessionEvent event) override {
    const auto* decision = std::get_if<DecisionEvent>(&event);
    if (decision != nullptr && decision->verdict == sched::Verdict::kOffload && decision->upload_within_s > 0) {
      Later(Uniform(5, 70), PromptReady{decision->id, std::make_shared<PromptBody>()});
    }
    return Delivery::kAccepted;
  }
  void Start(DispatchRequest request) override {
    const double ms = Uniform(10, 60);
    QueryDone done{request.id, DispatchOutcome::kCompleted, 8, std::nullopt, 0, ms / 1e3, ms / 2e3};
    if (Chance(0.8)) done.served = {ms / 1e3, 100, 8};
    if (Chance(0.15)) done = {request.id, DispatchOutcome::kFailed};
    if (Chance(0.15)) Later(ms / 2, CancelQuery{request.id});
    Later(ms, done);
  }
  void Abort(QueryId id) override { Later(1, QueryDone{id, DispatchOutcome::kAborted, 0}); }
  void Resume(SessionId) override {}

 private:
  double Uniform(double low, double high) {
    return low + (high - low) * static_cast<double>(random_() >> 11) * 0x1p-53;
  }
  bool Chance(double p) { return Uniform(0, 1) < p; }
  void Later(double ms, Event event) { agenda_.emplace(now_ + absl::Milliseconds(ms), std::move(event)); }

  void LetGo() {  // of what was aborted
    for (; !agenda_.empty(); agenda_.erase(agenda_.begin())) {
      engine_->Handle(std::move(agenda_.begin()->second), std::max(now_, agenda_.begin()->first));
    }
  }

  void Ask() {
    const SessionId session{1 + random_() % 12};
    if (!Chance(0.15)) {  // else its last report, or none
      LinkUpdate links{session};
      const MonotonicTime at = Chance(0.1) ? now_ - absl::Seconds(3) : now_;
      if (!Chance(0.1)) {
        links.links.push_back({sched::SiteIndex{0}, std::pow(10, Uniform(-11, -8)), sched::kUnknown, at});
      }
      for (int j = 1; j < 3; ++j) {
        if (!Chance(0.1)) {
          links.links.push_back({sched::SiteIndex{j}, sched::kUnknown, std::pow(10, Uniform(5, 7.5)), at});
        }
      }
      engine_->Handle(std::move(links), now_);
    }
    SubmitQuery submit;
    submit.session = session;
    submit.id = QueryId{++last_id_};
    submit.query_id = absl::StrCat("q-", last_id_);
    submit.device = absl::StrCat("device ", static_cast<uint64_t>(session));
    submit.meta.uncertainty = Uniform(0, 1);
    submit.meta.prompt_bits = Chance(0.1) ? 0 : std::floor(Uniform(400, 20000));
    submit.meta.prompt_tokens = static_cast<int>(Uniform(10, 300));
    submit.meta.max_output_tokens = 64;
    if (Chance(0.7)) submit.meta.expected_output_tokens = static_cast<int>(Uniform(1, 20));
    submit.meta.local_delay_s = Uniform(0.01, 0.4);
    if (Chance(0.2)) submit.meta.deadline = absl::Milliseconds(Uniform(20, 400));
    submit.meta.must_offload = Chance(0.05);
    submit.meta.needs.chat = Chance(0.3);
    if (Chance(0.5)) submit.meta.edge_work_flop = Uniform(1e12, 1e14);
    submit.meta.tx_power_w = Uniform(0.05, 0.3);
    submit.meta.tenant = kTenants[random_() % 3];
    submit.received = now_;
    if (submit.meta.prompt_bits == 0) submit.inline_prompt = std::make_shared<PromptBody>();
    engine_->Handle(std::move(submit), now_);
  }

  std::mt19937_64 random_;
  MonotonicTime now_ = MonotonicTime::FromOrigin(absl::Seconds(100));
  Metrics metrics_{{{"shannon", "batching", "alone"}, {{"u"}, {"v", "w"}, {"x"}}}};
  std::unique_ptr<Engine> engine_;
  std::multimap<MonotonicTime, Event> agenda_;
  uint64_t last_id_ = 0;
  int epochs_ = 0, carried_ = 0;
};

int Record(const std::string& path, uint64_t seed) {
  Metrics metrics({{"shannon", "batching", "alone"}, {{"u"}, {"v", "w"}, {"x"}}});
  EpochFeed feed;
  DecisionLogConfig config;
  config.path = path;
  config.snapshot_every = 1;
  {
    auto log = DecisionLog::Open(config, &feed, &metrics);
    if (!log.ok()) {
      std::cerr << log.status() << "\n";
      return 2;
    }
    Cell cell(seed, &feed, log->get());
    for (const std::string& policy : sched::ServingPolicyNames()) cell.Run(policy, 4);
    cell.Drain();
    std::cout << cell.carried() << " epochs with queries carried over\n";
  }  // its destructor writes what is waiting
  std::ofstream out(path, std::ios::app);
  sched::SnapshotMaker maker(seed);
  for (int k = 0; k < 16; ++k) {
    const std::string policy = k % 2 == 0 ? "goa" : "goa-relocate";
    EpochRecord record;
    record.policy = policy;
    record.lambda_s = 0.05;
    record.snapshot = maker.Make(8, 3);
    if (k % 4 >= 2) {
      record.snapshot.sites[0].accepting = false;
      record.snapshot.sites[0].draining = true;
    }
    record.snapshot.epoch = 1000000 + static_cast<uint64_t>(k);
    record.result = (*sched::MakePolicy(policy, {.lambda_s = record.lambda_s}))->Decide(record.snapshot);
    out << ToJson(record).dump() << "\n";
  }
  return out.flush() ? 0 : 2;
}

}  // namespace
}  // namespace goad::server

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "which file?\n";
    return 2;
  }
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  return goad::server::Record(argv[1], seed);
}
