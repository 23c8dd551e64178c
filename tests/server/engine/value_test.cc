// What policies read: uncertainties, or with a calibration what offloading is worth; and the tau that it is compared
// with.
#include "server/calibration/value.h"

#include <functional>
#include <memory>

#include "gtest/gtest.h"
#include "server/engine/engine.h"
#include "server/telemetry/promise_watch.h"

namespace goad::server {
namespace {

using sched::Reason;
using sched::SiteIndex;
using sched::Verdict;

struct Sink final : SessionSink {
  Delivery Deliver(SessionId, SessionEvent event) override {
    if (const auto* decision = std::get_if<DecisionEvent>(&event)) decisions.push_back(*decision);
    return Delivery::kAccepted;
  }
  std::vector<DecisionEvent> decisions;
};

struct Dispatch final : DispatchPort {
  void Start(DispatchRequest request) override { started.push_back(request.id); }
  void Abort(QueryId) override {}
  void Resume(SessionId) override {}
  std::vector<QueryId> started;
};

LocalModelPtr Model(const std::string& name, UncertaintyMetric metric = UncertaintyMetric::kMargin) {
  return std::make_shared<const LocalModel>(LocalModel{name, {metric, 0, 0, "", ""}});
}

// Of metric MARGIN: nobody's model is wrong as often as it says and the edge in 1 of 5; of the kind "hard" always; of
// the model "sure" never.
std::shared_ptr<const calibration::Curves> Curves() {
  const auto curve = [](const char* model, const char* kind, double at_0, double at_1) {
    calibration::Curve made;
    made.metric = "MARGIN", made.model = model, made.kind = kind, made.labels = 1;
    made.points = {{0, at_0}, {1, at_1}};
    made.edge_wrong = 0.2;
    return made;
  };
  return std::make_shared<const calibration::Curves>(
      calibration::Curves{curve("", "", 0, 1), curve("", "hard", 1, 1), curve("sure", "", 0, 0)});
}

TEST(ValueTest, IsTheUncertaintyItselfWithoutCurves) {
  for (const double uncertainty : {0.0, 0.1, 1.0 / 3, 1.0}) {
    EXPECT_EQ(ValueOf(nullptr, nullptr, "hard", uncertainty), uncertainty);
    EXPECT_EQ(ToldTau(nullptr, nullptr, uncertainty), uncertainty);
  }
}

TEST(ValueTest, IsThatOfItsCurveAnd1WithoutOne) {
  const auto curves = Curves();
  EXPECT_DOUBLE_EQ(ValueOf(curves.get(), nullptr, "", 0.7), 0.5);
  EXPECT_DOUBLE_EQ(ValueOf(curves.get(), nullptr, "hard", 0.1), 0.8);
  EXPECT_DOUBLE_EQ(ValueOf(curves.get(), nullptr, "never seen", 0.7), 0.5);
  EXPECT_EQ(ValueOf(curves.get(), Model("sure"), "", 0.7), 0);
  EXPECT_EQ(ValueOf(curves.get(), Model("other"), "", 0), 1);
  EXPECT_EQ(ValueOf(curves.get(), Model("", UncertaintyMetric::kDeclared), "", 0), 1);
  EXPECT_NEAR(ToldTau(curves.get(), nullptr, 0.3), 0.5, 1e-12);
  EXPECT_EQ(ToldTau(curves.get(), Model("sure"), 0.3), 1);
  EXPECT_EQ(ToldTau(curves.get(), Model("other"), 0.3), 0) << "all of its queries are forced";
}

class ValueEngineTest : public testing::Test {
 protected:
  ValueEngineTest() {
    SiteConfig site;
    site.name = "a";
    site.backends.resize(1);
    config_.sites = {site};
    Start();
  }
  void Start() {
    Engine::Ports ports{&sink_,  &dispatch_, &metrics_, [this](auto record) { record_ = std::move(record); },
                        nullptr, nullptr};
    engine_ = std::make_unique<Engine>(std::make_shared<const Config>(config_), std::move(ports));
    metrics_.SetConfig(config_);
    engine_->Handle(SiteHealth{SiteIndex{0}, 1, slots_}, now_);
  }
  void Reload() {
    metrics_.SetConfig(config_);
    engine_->Handle(ApplyConfig{std::make_shared<const Config>(config_)}, now_);
  }
  // A local answer takes `local_s`, one of the edge about 15 ms.
  QueryId Submit(double uncertainty, double local_s, const std::string& kind = "", LocalModelPtr model = nullptr) {
    SubmitQuery submit;
    submit.session = SessionId{next_id_};
    submit.id = QueryId{next_id_++};
    submit.query_id = "q";
    submit.meta.uncertainty = uncertainty;
    submit.meta.model = std::move(model);
    submit.meta.kind = kind;
    submit.meta.prompt_tokens = 10;
    submit.meta.max_output_tokens = 4;
    submit.meta.local_delay_s = local_s;
    submit.received = now_;
    submit.inline_prompt = std::make_shared<PromptBody>();
    const QueryId id = submit.id;
    engine_->Handle(std::move(submit), now_);
    return id;
  }
  DecisionEvent Decided(double uncertainty, double local_s, const std::string& kind = "",
                        LocalModelPtr model = nullptr) {
    Submit(uncertainty, local_s, kind, std::move(model));
    Run(absl::Milliseconds(50));
    for (const QueryId id : std::exchange(dispatch_.started, {}))
      engine_->Handle(QueryDone{id, DispatchOutcome::kCompleted}, now_);
    return sink_.decisions.back();
  }
  void Run(absl::Duration by) {
    const MonotonicTime until = now_ + by;
    while (engine_->NextWake() <= until) {
      now_ = std::max(now_, engine_->NextWake());
      engine_->Tick(now_);
    }
    now_ = until;
  }

  Config config_;
  int slots_ = 2;
  MonotonicTime now_ = MonotonicTime::FromOrigin(absl::Seconds(100));
  Sink sink_;
  Dispatch dispatch_;
  Metrics metrics_{{{"a"}, {{"u"}}}};
  std::shared_ptr<const EpochRecord> record_;
  std::unique_ptr<Engine> engine_;
  uint64_t next_id_ = 1;
};

TEST_F(ValueEngineTest, PoliciesReadTheValueAndTheRecordHasBoth) {
  config_.policy.curves = Curves();
  config_.policy.value_tau = 0.3;
  Reload();
  EXPECT_EQ(Decided(0.6, 0).reason, Reason::kUncertain);
  EXPECT_DOUBLE_EQ(record_->snapshot.candidates[0].uncertainty, 0.4);
  EXPECT_EQ(record_->uncertainties[0], 0.6);
  EXPECT_EQ(record_->snapshot.tau, 0.3);
  EXPECT_TRUE(record_->HasValues());
  EXPECT_EQ(Decided(0.4, 0).reason, Reason::kNoGain);
  EXPECT_EQ(Decided(0.4, 1).reason, Reason::kDelayGain);
  EXPECT_EQ(Decided(0.1, 0, "hard").reason, Reason::kUncertain);
  EXPECT_EQ(Decided(0.1, 0, "", Model("no curve")).reason, Reason::kUncertain);
}

TEST_F(ValueEngineTest, AValueOf0IsNeverOffloadedForDelay) {
  EXPECT_EQ(Decided(0.2, 1).reason, Reason::kDelayGain);
  config_.policy.curves = Curves();
  config_.policy.value_tau = 0.3;
  Reload();
  EXPECT_EQ(Decided(0.2, 1).reason, Reason::kNoGain) << "the device is wrong in 1 of 5, and so is the edge";
  EXPECT_EQ(record_->snapshot.candidates[0].uncertainty, 0);
}

TEST_F(ValueEngineTest, WhoWaitsIsLookedAtAnewAfterAReload) {
  Submit(0.6, 0);
  config_.policy.curves = Curves();
  config_.policy.value_tau = 0.3;
  Reload();
  Run(absl::Milliseconds(50));
  EXPECT_EQ(sink_.decisions.back().reason, Reason::kUncertain) << "0.6 is below 0.8, and 0.4 above 0.3";
}

TEST_F(ValueEngineTest, AMetricHasItsOwnTauUntilOneIsSetByHand) {
  config_.policy.tau_per_metric = {{UncertaintyMetric::kMeanLogprob, 0.3}};
  Reload();
  const auto mean = Model("m", UncertaintyMetric::kMeanLogprob);
  EXPECT_EQ(Decided(0.4, 0, "", mean).reason, Reason::kUncertain);
  EXPECT_EQ(record_->snapshot.tau, 0.8);
  EXPECT_EQ(record_->snapshot.TauOf(0), 0.3);
  EXPECT_EQ(Decided(0.4, 0).reason, Reason::kNoGain);
  EXPECT_TRUE(std::isnan(record_->snapshot.candidates[0].tau));
  engine_->Handle(SetTau{0.5, "test"}, now_);
  EXPECT_EQ(Decided(0.4, 0, "", mean).reason, Reason::kNoGain);
  EXPECT_EQ(Decided(0.6, 0, "", mean).reason, Reason::kUncertain);
}

TEST_F(ValueEngineTest, ForcedQueriesThatDoNotGetTheEdgesAnswerAreCountedByWhatTheyAre) {
  config_.policy.curves = Curves();
  config_.policy.accuracy = 0.7;
  config_.policy.certificate = calibration::Certificate{0.7, 0.9, 0.3, 0.71, 100, 0.4};
  slots_ = 1;
  Start();
  const auto state = [&] { return metrics_.promise().State(); };
  Decided(0.6, 0);
  EXPECT_EQ(state().forced, 1u);
  EXPECT_EQ(state().forced_local, 0u);
  Submit(0.6, 0);  // takes the slot
  Run(absl::Milliseconds(50));
  Submit(0.6, 0);
  Run(absl::Seconds(1));
  EXPECT_EQ(sink_.decisions.back().reason, Reason::kTauInfeasible);
  EXPECT_EQ(state().forced_local, 1u);
  engine_->Handle(QueryDone{dispatch_.started.back(), DispatchOutcome::kFailed}, now_);
  EXPECT_EQ(state().forced_failed, 1u);
  Submit(0.4, 0);
  Submit(0.6, 0);
  engine_->Handle(Drain{}, now_);
  EXPECT_EQ(sink_.decisions.back().reason, Reason::kDraining);
  EXPECT_EQ(state().forced_local, 2u) << "whatever the reason";
  EXPECT_EQ(state().forced, 4u);
  EXPECT_EQ(state().decisions, 5u);
  EXPECT_EQ(state().offloaded, 2u);
}

}  // namespace
}  // namespace goad::server
