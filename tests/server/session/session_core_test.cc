// What a device's frames mean: every refusal of the session's door by its reason, with a clock that the test turns. The
// engine is the test: it reads the inbox and delivers decisions, tokens and terminals.
#include "server/session/session_core.h"

#include <chrono>
#include <cmath>
#include <future>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "prometheus/collectable.h"
#include "prometheus/metric_family.h"

namespace goad::server {
namespace {

using testing::AllOf;
using testing::Ge;
using testing::HasSubstr;
using testing::Le;

struct FakeStream final : SessionStream {
  void Pump() override {}
  void End(const ErrorInfo& why) override { ended = why; }
  std::optional<ErrorInfo> ended;
};

Config OneSite() {
  Config config;
  config.sites.resize(1);
  config.sites[0].name = "a";
  config.sites[0].backends.resize(1);
  return config;
}

v1::DeviceFrame HelloFrame(const std::string& device_name = "d") {
  v1::DeviceFrame frame;
  frame.mutable_hello()->set_protocol_version(1);
  frame.mutable_hello()->set_device_name(device_name);
  return frame;
}

v1::DeviceFrame QueryFrame(const std::string& id, double uncertainty = 0.9) {
  v1::DeviceFrame frame;
  frame.mutable_query()->set_query_id(id);
  frame.mutable_query()->set_uncertainty(uncertainty);
  frame.mutable_query()->set_prompt_bits(800);
  frame.mutable_query()->set_local_delay_s(0.25);
  return frame;
}

v1::DeviceFrame InlineFrame(const std::string& id, const std::string& text) {
  v1::DeviceFrame frame = QueryFrame(id);
  frame.mutable_query()->clear_prompt_bits();
  frame.mutable_query()->mutable_inline_prompt()->set_text(text);
  return frame;
}

v1::DeviceFrame PromptFrame(const std::string& id, const std::string& text = "why?") {
  v1::DeviceFrame frame;
  frame.mutable_prompt()->set_query_id(id);
  frame.mutable_prompt()->set_text(text);
  return frame;
}

v1::DeviceFrame CancelFrame(const std::string& id) {
  v1::DeviceFrame frame;
  frame.mutable_cancel()->set_query_id(id);
  return frame;
}

v1::DeviceFrame LinkFrame(const std::string& site, double uplink_bps = 1e6) {
  v1::DeviceFrame frame;
  v1::SiteLink* link = frame.mutable_link_report()->add_links();
  link->set_site(site);
  link->set_uplink_bps(uplink_bps);
  return frame;
}

class SessionCoreTest : public testing::Test {
 protected:
  struct Open {  // one device's stream
    std::shared_ptr<Session> session;
    std::shared_ptr<FakeStream> stream;
    std::unique_ptr<SessionCore> core;
  };

  explicit SessionCoreTest(int inbox = 100, Config config = OneSite())
      : config_(std::move(config)),
        inbox_(inbox),
        registry_(
            config_.Current(), &metrics_, &memory_, [this] { return now_; }, [this](auto) { between_(); }) {
    device_ = Connect();
  }
  ~SessionCoreTest() override {
    for (const Open& open : connected_) registry_.Remove(open.session->id);
  }

  Open* Connect(const Caller& caller = Caller(), int64_t outbox_bytes = 1 << 20) {
    Open& open = connected_.emplace_back();
    open.session =
        std::make_shared<Session>(SessionId{connected_.size()}, "peer", outbox_bytes, &metrics_, &outboxes_, now_);
    open.stream = std::make_shared<FakeStream>();
    open.core = std::make_unique<SessionCore>(
        open.session, caller,
        SessionPorts{&config_, &inbox_, &registry_, &memory_, &metrics_, &next_query_id_, &inline_bytes_, &limiter_,
                     &outboxes_, [this](const LocalModelPtr&) { return between_(), 0.8; }});
    EXPECT_EQ(registry_.Add(open.session, open.stream, {"peer", caller.tenant, {}}, config_.Current()->limits),
              std::nullopt);
    return &open;
  }
  void Change(const std::function<void(Config&)>& change) {
    Config config = *config_.Current();
    change(config);
    config_.Publish(config);
  }

  bool Send(const v1::DeviceFrame& frame) { return Send(device_, frame); }
  bool Send(Open* open, const v1::DeviceFrame& frame) { return open->core->OnFrame(frame, now_); }
  // The next frame to this device; a default one when nothing waits.
  v1::ServerFrame Next() { return Next(device_); }
  v1::ServerFrame Next(Open* open) {
    const Outbox::Step step = open->session->outbox.Next();
    if (step.kind != Outbox::Step::kWrite) return {};
    open->session->outbox.WriteDone();
    return *step.frame;
  }
  void Greet() { Greet(device_); }
  void Greet(Open* open, const std::string& device_name = "d") {
    Send(open, HelloFrame(device_name));
    ASSERT_TRUE(Next(open).has_welcome());
  }
  // What the engine got since it last looked, of one kind.
  template <typename Kind>
  std::vector<Kind> Got() {
    for (Event& event : inbox_.Drain(MonotonicTime())) events_.push_back(std::move(event));
    std::vector<Kind> got;
    std::vector<Event> rest;
    for (Event& event : events_) {
      if (auto* kind = std::get_if<Kind>(&event)) {
        got.push_back(std::move(*kind));
      } else {
        rest.push_back(std::move(event));
      }
    }
    events_ = std::move(rest);
    return got;
  }
  // Asks and has the engine take it.
  QueryId Ask(const std::string& id) {
    Send(QueryFrame(id));
    const auto submitted = Got<SubmitQuery>();
    EXPECT_EQ(submitted.size(), 1u) << id << ": " << Next().ShortDebugString();
    return submitted.empty() ? QueryId{} : submitted[0].id;
  }
  void Offload(QueryId id, double upload_within_s = 5) {
    DecisionEvent offload{id, 1, sched::Verdict::kOffload, sched::Reason::kUncertain, sched::SiteIndex{0}};
    offload.upload_within_s = upload_within_s;
    EXPECT_EQ(registry_.Deliver(device_->session->id, offload), Delivery::kAccepted);
    EXPECT_EQ(Next().decision().verdict(), v1::VERDICT_OFFLOAD);
  }
  void Local(QueryId id) {
    registry_.Deliver(device_->session->id, DecisionEvent{id, 1, sched::Verdict::kLocal, sched::Reason::kNoGain});
  }

  // The next frame is this refusal of a frame, and nothing else waits.
  void ExpectError(const std::string& reason, v1::ErrorCode code, const std::string& field,
                   const std::string& query_id = "") {
    ExpectError(device_, reason, code, field, query_id);
  }
  void ExpectError(Open* open, const std::string& reason, v1::ErrorCode code, const std::string& field,
                   const std::string& query_id = "") {
    const v1::ServerFrame frame = Next(open);
    ASSERT_TRUE(frame.has_protocol_error()) << reason << ": " << frame.ShortDebugString();
    const v1::ProtocolError& error = frame.protocol_error();
    EXPECT_EQ(error.error().reason(), reason);
    EXPECT_EQ(error.error().code(), code) << reason;
    EXPECT_EQ(error.error().field(), field) << reason;
    EXPECT_FALSE(error.error().message().empty()) << reason;
    EXPECT_EQ(error.query_id(), query_id) << reason;
    EXPECT_EQ(Next(open).frame_case(), v1::ServerFrame::FRAME_NOT_SET) << reason;
    retry_after_s_ = error.error().retry_after_s();
  }
  // The next frame refuses this query for now.
  void ExpectRefused(const std::string& query_id, const std::string& counted, v1::Reason reason = v1::REASON_OVERLOAD) {
    const v1::ServerFrame frame = Next();
    ASSERT_TRUE(frame.has_decision()) << counted << ": " << frame.ShortDebugString();
    const v1::Decision& decision = frame.decision();
    EXPECT_EQ(decision.query_id(), query_id);
    EXPECT_EQ(decision.verdict(), v1::VERDICT_LOCAL);
    EXPECT_EQ(decision.reason(), reason);
    EXPECT_EQ(decision.epoch(), 0u);
    EXPECT_DOUBLE_EQ(decision.predicted_local_s(), 0.25);
    EXPECT_GE(decision.retry_after_s(), 1);
    retry_after_s_ = decision.retry_after_s();
    EXPECT_EQ(Refused(counted), 1) << counted;
    EXPECT_EQ(Got<SubmitQuery>().size(), 0u) << "the engine heard of it";
    EXPECT_EQ(Next().frame_case(), v1::ServerFrame::FRAME_NOT_SET);
  }
  double Refused(const std::string& reason) { return Metric("goad_refused_total", reason); }
  // A counter by its only label, or how many a histogram without labels has seen.
  double Metric(const std::string& name, const std::string& label) {
    for (const auto& family : metrics_.page()->Collect()) {
      if (family.name != name) continue;
      for (const auto& metric : family.metric) {
        if (metric.label.empty()) return static_cast<double>(metric.histogram.sample_count);
        if (metric.label[0].value == label) return metric.counter.value;
      }
    }
    return 0;
  }

  MonotonicTime now_ = MonotonicTime::FromOrigin(absl::Seconds(100));
  ConfigStore config_;
  Metrics metrics_{{{"a"}, {{"b"}}}};
  Inbox inbox_;
  QueryMemory memory_{100};
  TenantLimiter limiter_;
  OutboxBudget outboxes_;
  std::atomic<uint64_t> next_query_id_{1};
  std::atomic<int64_t> inline_bytes_{0};
  SessionRegistry registry_;
  std::deque<Open> connected_;  // destroyed before what it counts into
  Open* device_ = nullptr;
  std::vector<Event> events_;
  std::function<void()> between_ = [] {};  // called when somebody is woken, and while a welcome is made
  double retry_after_s_ = 0;
};

// --- the greeting

TEST_F(SessionCoreTest, WelcomeSaysWhatTheDeviceMustKnow) {
  EXPECT_FALSE(device_->core->greeted());
  Send(HelloFrame());
  EXPECT_TRUE(device_->core->greeted());
  const v1::Welcome welcome = Next().welcome();
  EXPECT_EQ(welcome.session_id(), "s-1");
  EXPECT_DOUBLE_EQ(welcome.tau(), 0.8);
  EXPECT_EQ(welcome.limits().queries_per_session(), 4u);
  ASSERT_EQ(welcome.sites_size(), 1);
  EXPECT_EQ(welcome.sites(0).name(), "a");
  EXPECT_EQ(welcome.sites(0).uplink(), v1::SiteInfo::UPLINK_MEASURED);
}

// A reload and a probe tell of the sites at once, from two threads, while a device is being greeted.
TEST_F(SessionCoreTest, NobodyIsLeftWithTheOlderListOfSites) {
  Open* const other = Connect();
  Greet();
  Greet(other);
  const auto can = [](int context) {
    Abilities abilities;
    abilities.context_tokens = context;
    return SiteAbilities{{abilities}};
  };
  // While `tell` is at it another thread tells of the newer list; it has its chance to overtake.
  const auto overtaken = [&](int newer, const std::function<void()>& tell) {
    std::atomic<bool> first{true};
    std::thread probe;
    between_ = [&] {
      if (!first.exchange(false)) return;
      std::promise<void> promise;
      const std::future<void> told = promise.get_future();
      probe = std::thread([&, promise = std::move(promise)]() mutable {
        registry_.SitesCan(can(newer));
        promise.set_value();
      });
      told.wait_for(std::chrono::milliseconds(100));
    };
    tell();
    probe.join();
    between_ = [] {};
  };
  const auto last = [&](Open* open) {
    uint32_t context = 0;
    for (v1::ServerFrame frame = Next(open); frame.has_sites() || frame.has_welcome(); frame = Next(open)) {
      const v1::SiteInfo& site = frame.has_sites() ? frame.sites().sites(0) : frame.welcome().sites(0);
      context = site.abilities(0).context_tokens();
    }
    return context;
  };
  overtaken(2, [&] { registry_.SitesCan(can(1)); });
  EXPECT_EQ(last(device_), 2u);
  EXPECT_EQ(last(other), 2u);
  Open* const third = Connect();
  overtaken(3, [&] { Send(third, HelloFrame()); });
  EXPECT_EQ(last(third), 3u);
}

TEST_F(SessionCoreTest, DevicesHearWhatSitesCanAndWhenThatChanges) {
  Abilities can{true, true, false, 4096, AbilityFrom::kAssumed, AbilityFrom::kServer, AbilityFrom::kConfigured};
  registry_.SitesCan({{can, {}}});
  Send(HelloFrame());
  const v1::SiteInfo site = Next().welcome().sites(0);
  ASSERT_EQ(site.abilities_size(), 2);
  EXPECT_EQ(site.abilities(0).ShortDebugString(),
            "chat: true tools: true tools_from: FROM_ASSUMED images_from: FROM_SERVER context_tokens: 4096 "
            "context_from: FROM_CONFIGURED");
  can.images = true;
  registry_.SitesCan({{can}});
  const v1::ServerFrame told = Next();
  ASSERT_EQ(told.sites().sites_size(), 1);
  EXPECT_TRUE(told.sites().sites(0).abilities(0).images());
  registry_.SitesCan({{can}});  // nothing new: nobody is told
  Config other = OneSite();
  other.sites[0].name = "b";
  registry_.SetConfig(std::make_shared<const Config>(other));
  const v1::ServerFrame moved = Next();
  EXPECT_EQ(moved.sites().sites(0).name(), "b");
  EXPECT_EQ(moved.sites().sites(0).abilities_size(), 0) << "what a could is not known of b";
}

TEST_F(SessionCoreTest, EveryFrameBeforeHelloIsRefusedAndTheSessionGoesOn) {
  v1::DeviceFrame outcome;
  outcome.mutable_outcome()->set_query_id("q");
  for (const v1::DeviceFrame& frame : {QueryFrame("q"), PromptFrame("q"), CancelFrame("q"), outcome}) {
    EXPECT_TRUE(Send(frame));
    ExpectError("HELLO_FIRST", v1::ERROR_CODE_FAILED_PRECONDITION, "hello", "q");
  }
  for (const v1::DeviceFrame& frame : {LinkFrame("a"), v1::DeviceFrame()}) {
    EXPECT_TRUE(Send(frame));
    ExpectError("HELLO_FIRST", v1::ERROR_CODE_FAILED_PRECONDITION, "hello");
  }
  EXPECT_EQ(Refused("BAD_FRAME"), 6);
  EXPECT_TRUE(inbox_.Drain(MonotonicTime()).empty());
  Greet();
  Ask("q");
}

TEST_F(SessionCoreTest, ASecondHelloIsRefusedAndChangesNothing) {
  Greet();
  v1::DeviceFrame again = HelloFrame("other");
  again.mutable_hello()->set_tx_power_dbm(-30);
  Send(again);
  ExpectError("HELLO_TWICE", v1::ERROR_CODE_FAILED_PRECONDITION, "hello");
  Send(QueryFrame("q"));
  const auto submitted = Got<SubmitQuery>();
  ASSERT_EQ(submitted.size(), 1u);
  EXPECT_NEAR(submitted[0].meta.tx_power_w, 0.2, 1e-12);
  EXPECT_EQ(registry_.List(10)[0].device_name, "d");
}

// After which its stream may wait for the decision before it reads on.
TEST_F(SessionCoreTest, AQueryAsksAloneWhenNoOtherOneIsLiveAndItsPromptIsToCome) {
  Greet();
  EXPECT_FALSE(device_->core->asks_alone());
  Send(InlineFrame("inline", "why?"));
  EXPECT_FALSE(device_->core->asks_alone());
  Send(QueryFrame("beside the other"));
  EXPECT_FALSE(device_->core->asks_alone());

  Open* other = Connect();
  Greet(other, "other");
  Send(other, QueryFrame("alone"));
  EXPECT_TRUE(other->core->asks_alone());
  Send(other, LinkFrame("a"));
  EXPECT_FALSE(other->core->asks_alone());
  Send(other, QueryFrame("second"));
  EXPECT_FALSE(other->core->asks_alone());
}

// What is learned of its uplink is found again by it: identity and device, whatever the connection.
TEST_F(SessionCoreTest, TheEngineHearsWhichDeviceAsks) {
  std::vector<std::string> devices;
  for (const auto& [identity, device] :
       std::vector<std::pair<std::string, std::string>>{{"one", "d"}, {"one", "d"}, {"one", "e"}, {"two", "d"}}) {
    Open* open = Connect(Caller{identity, "10.0.0.1"});
    Greet(open, device);
    Send(open, QueryFrame(absl::StrCat("q", devices.size())));
    devices.push_back(Got<SubmitQuery>().at(0).device);
  }
  EXPECT_EQ(devices[0], devices[1]);
  EXPECT_EQ(std::set<std::string>(devices.begin(), devices.end()).size(), 3u);
}

TEST_F(SessionCoreTest, ADecisionTellsHowLongItsQueryWaited) {
  Greet();
  DecisionEvent local{Ask("q"), 1, sched::Verdict::kLocal, sched::Reason::kNoGain};
  local.queue_s = 0.25;
  registry_.Deliver(device_->session->id, local);
  EXPECT_EQ(Next().decision().queue_s(), 0.25);
}

TEST_F(SessionCoreTest, ABadHelloIsRefusedAndMayBeSaidAgain) {
  v1::DeviceFrame hello = HelloFrame();
  hello.mutable_hello()->set_protocol_version(2);
  Send(hello);
  ExpectError("OUT_OF_RANGE", v1::ERROR_CODE_INVALID_ARGUMENT, "hello.protocol_version");
  EXPECT_FALSE(device_->core->greeted());
  Greet();
}

// The Hello says what a session's numbers are; queries, operators and logs go by it.
TEST_F(SessionCoreTest, TheMetricOfAHelloHoldsForItsSession) {
  v1::DeviceFrame hello = HelloFrame();
  hello.mutable_hello()->set_local_model("small-1b");
  hello.mutable_hello()->set_uncertainty_metric(v1::UNCERTAINTY_METRIC_MEAN_LOGPROB);
  Send(hello);
  ExpectError("OUT_OF_RANGE", v1::ERROR_CODE_INVALID_ARGUMENT, "hello.uncertainty_tokens");
  EXPECT_FALSE(device_->core->greeted());
  hello.mutable_hello()->set_uncertainty_tokens(16);
  Send(hello);
  ASSERT_TRUE(Next().has_welcome());
  v1::DeviceFrame query = QueryFrame("q");
  for (const char* token : {"a", "b"}) {
    v1::TokenProbability* top = query.mutable_query()->mutable_first_token()->add_top();
    top->set_token(token);
    top->set_probability(0.5);
  }
  Send(query);
  ExpectError("OUT_OF_RANGE", v1::ERROR_CODE_INVALID_ARGUMENT, "query.first_token", "q");
  Send(QueryFrame("q"));
  const std::vector<SubmitQuery> submitted = Got<SubmitQuery>();
  ASSERT_EQ(submitted.size(), 1u);
  const LocalModelPtr model = submitted[0].meta.model;
  ASSERT_NE(model, nullptr);
  EXPECT_EQ(MetricOf(model), UncertaintyMetric::kMeanLogprob);
  const std::vector<SessionRow> rows = registry_.List(10);
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].model, model) << "one copy of the strings per session";
  EXPECT_EQ(model->name, "small-1b");
  EXPECT_EQ(model->uncertainty.tokens, 16);
}

TEST_F(SessionCoreTest, AnEmptyFrameAndOneOfTheFutureAreRefusedAndTheSessionGoesOn) {
  Greet();
  Send(v1::DeviceFrame());
  ExpectError("EMPTY_FRAME", v1::ERROR_CODE_FAILED_PRECONDITION, "frame");
  v1::DeviceFrame future;
  ASSERT_TRUE(
      future.ParseFromString(std::string("\xC2\x3E\x03"
                                         "new",
                                         6)));  // field 1000, three bytes
  Send(future);
  const v1::ServerFrame answer = Next();
  EXPECT_EQ(answer.protocol_error().error().reason(), "EMPTY_FRAME");
  EXPECT_EQ(answer.protocol_error().frame(), 3u);
  Ask("q");
}

TEST_F(SessionCoreTest, ErrorsNumberTheFrames) {
  for (uint64_t k = 1; k <= 3; ++k) {
    Send(QueryFrame("q"));
    EXPECT_EQ(Next().protocol_error().frame(), k);
  }
}

// --- links

TEST_F(SessionCoreTest, WhatIsWrongInALinkReportIsSaidAndTheRestCounts) {
  Greet();
  v1::DeviceFrame frame = LinkFrame("gone");
  *frame.mutable_link_report()->add_links() = LinkFrame("a").link_report().links(0);
  Send(frame);
  ExpectError("UNKNOWN_SITE", v1::ERROR_CODE_NOT_FOUND, "link_report.links.site");
  auto updates = Got<LinkUpdate>();
  ASSERT_EQ(updates.size(), 1u);
  EXPECT_EQ(updates[0].links.size(), 1u);

  frame = LinkFrame("a");
  frame.mutable_link_report()->mutable_links(0)->set_gain_db(-80);  // the site predicts from rates
  Send(frame);
  ExpectError("MEASUREMENT_NOT_USED", v1::ERROR_CODE_INVALID_ARGUMENT, "link_report.links.measurement");
  Send(LinkFrame("a", std::nan("")));
  ExpectError("OUT_OF_RANGE", v1::ERROR_CODE_INVALID_ARGUMENT, "link_report.links.uplink_bps");
  EXPECT_TRUE(Got<LinkUpdate>().empty());
}

// --- queries

TEST_F(SessionCoreTest, AQueryOutOfRangeTakesNoSlot) {
  Greet();
  Send(QueryFrame("q", 1.5));
  ExpectError("OUT_OF_RANGE", v1::ERROR_CODE_INVALID_ARGUMENT, "query.uncertainty", "q");
  Send(QueryFrame(""));
  ExpectError("OUT_OF_RANGE", v1::ERROR_CODE_INVALID_ARGUMENT, "query.query_id");
  Send(QueryFrame("a\nb"));  // not quoted back as an id
  ExpectError("OUT_OF_RANGE", v1::ERROR_CODE_INVALID_ARGUMENT, "query.query_id");
  EXPECT_EQ(device_->session->outbox.live(), 0u);
  Ask("q");  // the id was not used up
}

TEST_F(SessionCoreTest, TheSameQueryAgainIsNotASecondOne) {
  Greet();
  const QueryId id = Ask("q");
  Send(QueryFrame("q"));  // not decided yet: nothing to say
  EXPECT_EQ(Next().frame_case(), v1::ServerFrame::FRAME_NOT_SET);
  Local(id);
  const v1::ServerFrame decision = Next();
  EXPECT_EQ(decision.decision().reason(), v1::REASON_NO_GAIN);
  Send(QueryFrame("q"));
  EXPECT_EQ(Next().SerializeAsString(), decision.SerializeAsString());
  EXPECT_TRUE(Got<SubmitQuery>().empty());
}

TEST_F(SessionCoreTest, AnIdMayNotBeReusedForAnotherQuery) {
  Greet();
  Ask("q");
  Send(QueryFrame("q", 0.5));
  ExpectError("ID_REUSED", v1::ERROR_CODE_INVALID_ARGUMENT, "query.query_id", "q");
  EXPECT_TRUE(Got<SubmitQuery>().empty());
  EXPECT_EQ(device_->session->outbox.live(), 1u);
}

TEST_F(SessionCoreTest, AQueryThatIsLiveOnAnotherStreamOfTheDeviceIsRefusedUntilThatEnds) {
  Greet();
  Ask("q");
  Open* second = Connect();
  Greet(second);
  Send(second, QueryFrame("q"));
  ExpectError(second, "LIVE_ELSEWHERE", v1::ERROR_CODE_FAILED_PRECONDITION, "query.query_id", "q");
  EXPECT_THAT(retry_after_s_, AllOf(Ge(1), Le(1.5)));
  EXPECT_TRUE(Got<SubmitQuery>().empty());

  device_->core->OnEnd(now_);
  Send(second, QueryFrame("q"));
  EXPECT_EQ(Got<SubmitQuery>().size(), 1u);
}

TEST_F(SessionCoreTest, QueryIdsOfOtherDevicesAndIdentitiesAreOtherQueries) {
  Greet();
  Ask("q");
  Open* other_device = Connect();
  Greet(other_device, "e");
  Send(other_device, QueryFrame("q", 0.5));
  Open* other_identity = Connect(Caller{"somebody", "default", ""});
  Greet(other_identity, "d");
  Send(other_identity, QueryFrame("q", 0.5));
  EXPECT_EQ(Got<SubmitQuery>().size(), 2u);
}

// --- refused at the door, for now

TEST_F(SessionCoreTest, QueriesPerSession) {
  Change([](Config& config) { config.limits.queries_per_session = 2; });
  Greet();
  const QueryId first = Ask("1");
  Ask("2");
  Send(QueryFrame("3"));
  ExpectRefused("3", "QUERIES_PER_SESSION");
  // Until the hint the same answer; from then on a question like any other.
  Local(first);
  Next();
  Send(QueryFrame("3"));
  EXPECT_EQ(Next().decision().reason(), v1::REASON_OVERLOAD);
  now_ = now_ + absl::Seconds(retry_after_s_) + absl::Nanoseconds(1);
  Send(QueryFrame("3"));
  EXPECT_EQ(Got<SubmitQuery>().size(), 1u);
}

TEST_F(SessionCoreTest, InlinePrompts) {
  Change([](Config& config) { config.limits.inline_prompt_bytes = 10; });
  Greet();
  Send(InlineFrame("1", "eight is"));
  auto submitted = Got<SubmitQuery>();
  ASSERT_EQ(submitted.size(), 1u);
  EXPECT_EQ(inline_bytes_, 8);
  Send(InlineFrame("2", "three"));
  ExpectRefused("2", "INLINE_PROMPTS");
  EXPECT_EQ(inline_bytes_, 8);
  submitted.clear();  // whoever held the first lets go
  EXPECT_EQ(inline_bytes_, 0);
  Send(InlineFrame("3", "three"));
  EXPECT_EQ(Got<SubmitQuery>().size(), 1u);
  EXPECT_EQ(inline_bytes_, 0);
}

TEST_F(SessionCoreTest, TenantRate) {
  Change([](Config& config) {
    config.tenants.resize(1);
    config.tenants[0].name = kDefaultTenant;
    config.tenants[0].queries_per_second = 0.25;
  });
  Greet();
  Ask("1");
  Send(QueryFrame("2"));
  ExpectRefused("2", "TENANT_RATE", v1::REASON_QUOTA);
  EXPECT_THAT(retry_after_s_, AllOf(Ge(4), Le(6.01)));  // when there is a token again, not retry_after
}

TEST_F(SessionCoreTest, TenantTokens) {
  Change([](Config& config) {
    config.tenants.resize(1);
    config.tenants[0].name = kDefaultTenant;
    config.tenants[0].prompt_tokens_per_minute = 100;
  });
  Greet();
  v1::DeviceFrame frame = QueryFrame("1");
  frame.mutable_query()->set_prompt_tokens(90);
  Send(frame);
  ASSERT_EQ(Got<SubmitQuery>().size(), 1u);
  frame.mutable_query()->set_query_id("2");
  Send(frame);
  ExpectRefused("2", "TENANT_RATE", v1::REASON_QUOTA);
  EXPECT_GE(retry_after_s_, 48);  // 80 of 100 a minute are missing
}

TEST_F(SessionCoreTest, Draining) {
  Greet();
  const QueryId before = Ask("1");
  registry_.StartDrain(absl::Seconds(1), now_);
  EXPECT_TRUE(Next().has_goodbye());
  Send(QueryFrame("2"));
  ExpectRefused("2", "DRAINING", v1::REASON_DRAINING);
  Local(before);  // what was live is answered
  EXPECT_EQ(Next().decision().reason(), v1::REASON_NO_GAIN);
}

TEST_F(SessionCoreTest, WhoHearsOnlyTheSitesOfANeighbourIsSentThere) {
  Change([](Config& config) { config.neighbours = {{"b.example:7443", {"b1", "b2"}}, {"c.example:7443", {"c1"}}}; });
  Send(HelloFrame());
  const v1::ServerFrame welcome = Next();
  ASSERT_EQ(welcome.welcome().neighbours_size(), 2);
  EXPECT_EQ(welcome.welcome().neighbours(0).address(), "b.example:7443");
  EXPECT_EQ(welcome.welcome().neighbours(0).sites(1), "b2");
  for (const char* site : {"a", "b1", "b2", "c1"}) Send(LinkFrame(site));
  EXPECT_EQ(Next().frame_case(), v1::ServerFrame::FRAME_NOT_SET) << "it still hears a site of this goad";
  const QueryId runs = Ask("runs");
  now_ = now_ + config_.Current()->limits.link_max_age + absl::Milliseconds(1);
  Send(LinkFrame("c1"));
  const v1::Goodbye goodbye = Next().goodbye();
  EXPECT_EQ(goodbye.neighbour(), "c.example:7443");
  EXPECT_TRUE(goodbye.moved());
  EXPECT_GE(goodbye.reconnect_after_s(), absl::ToDoubleSeconds(config_.Current()->limits.link_max_age));
  Send(LinkFrame("c1"));
  EXPECT_EQ(Next().frame_case(), v1::ServerFrame::FRAME_NOT_SET) << "said once";
  Send(QueryFrame("crossed"));
  const v1::Decision crossed = Next().decision();
  EXPECT_EQ(crossed.reason(), v1::REASON_NO_LINK);
  EXPECT_EQ(crossed.neighbour(), "c.example:7443");
  Offload(runs);
  EXPECT_TRUE(device_->session->outbox.leaving());
}

TEST_F(SessionCoreTest, WhoDrainsNamesTheNeighbourThatIsHeardElseAnyOfThem) {
  Change([](Config& config) {
    for (int k = 0; k < 4; ++k) {
      const std::string name = std::to_string(k);
      config.neighbours.push_back({"n" + name + ".example:7443", {"s" + name, "t" + name}});
    }
  });
  registry_.SetConfig(config_.Current());
  Greet();
  for (const char* site : {"a", "s1", "s2", "t2"}) Send(LinkFrame(site));
  std::vector<Open*> others;
  for (int k = 0; k < 40; ++k) {
    others.push_back(Connect());
    Greet(others.back(), "");
  }
  registry_.StartDrain(absl::Seconds(1), now_);
  const v1::Goodbye goodbye = Next().goodbye();
  EXPECT_EQ(goodbye.neighbour(), "n2.example:7443") << "two of its sites";
  EXPECT_FALSE(goodbye.moved());
  std::map<std::string, int> named;
  for (Open* other : others) ++named[Next(other).goodbye().neighbour()];
  EXPECT_EQ(named.size(), 4u);
  for (const auto& [address, count] : named) EXPECT_EQ(count, 10) << address;
}

TEST_F(SessionCoreTest, WhoHearsASiteOfThisGoadStaysWhateverItMeasuredOfIt) {
  Change([](Config& config) { config.neighbours = {{"b.example:7443", {"b1"}}}; });
  Greet();
  v1::DeviceFrame links = LinkFrame("b1");
  v1::SiteLink* own = links.mutable_link_report()->add_links();
  own->set_site("a");
  own->set_rsrp_dbm(-90);  // its uplink is measured by uplink_bps, or by what was uploaded
  Send(links);
  EXPECT_EQ(Next().protocol_error().error().reason(), "MEASUREMENT_NOT_USED");
  EXPECT_EQ(Next().frame_case(), v1::ServerFrame::FRAME_NOT_SET);
}

TEST_F(SessionCoreTest, NobodyIsSentToANeighbourThatAReloadTookAway) {
  Change([](Config& config) { config.neighbours = {{"b.example:7443", {"b1"}}, {"c.example:7443", {"c1"}}}; });
  Greet();
  for (const char* site : {"a", "b1"}) Send(LinkFrame(site));
  Change([](Config& config) { config.neighbours = {{"c.example:7443", {"c1"}}}; });
  registry_.SetConfig(config_.Current());
  while (Next().frame_case() != v1::ServerFrame::FRAME_NOT_SET) continue;  // Sites
  Open* other = Connect();
  Greet(other, "");
  Send(other, LinkFrame("c1"));
  EXPECT_EQ(Next(other).goodbye().neighbour(), "c.example:7443");
  registry_.StartDrain(absl::Seconds(1), now_);
  EXPECT_EQ(Next().goodbye().neighbour(), "c.example:7443") << "it was told of links to the other one";
}

// What it reported before a reload may be links to sites of a goad that is no neighbour any more.
TEST_F(SessionCoreTest, WhoHeardOnlyANeighbourThatAReloadTookAwayStays) {
  const auto change = [&](std::vector<NeighbourConfig> neighbours) {
    Change([&](Config& config) { config.neighbours = neighbours; });
    registry_.SetConfig(config_.Current());
  };
  const NeighbourConfig b = {"b.example:7443", {"b1", "b2"}}, c = {"c.example:7443", {"c1"}};
  change({b, c});
  Greet();
  Send(LinkFrame("a"));
  now_ = now_ + config_.Current()->limits.link_max_age;
  Send(LinkFrame("b1"));
  now_ = now_ + absl::Milliseconds(1);  // a is too old now
  change({c});
  EXPECT_TRUE(Next().has_sites());
  v1::DeviceFrame none;
  none.mutable_link_report();
  Send(none);
  EXPECT_FALSE(Next().has_goodbye());
  change({b, c});
  EXPECT_TRUE(Next().has_sites());
  Send(LinkFrame("a"));  // so that it hears b and stays
  change({});
  EXPECT_TRUE(Next().has_sites());
  registry_.StartDrain(absl::Seconds(1), now_);
  const v1::ServerFrame goodbye = Next();
  EXPECT_TRUE(goodbye.has_goodbye());
  EXPECT_EQ(goodbye.goodbye().neighbour(), "");
}

TEST_F(SessionCoreTest, OfEverMoreSitesThoseThatWereReportedLastCount) {
  Change([](Config& config) {
    config.neighbours = {{"b.example:7443", {}}, {"c.example:7443", {}}};
    for (int k = 0; k < 64; ++k) {
      config.neighbours[0].sites.push_back("b" + std::to_string(k));
      config.neighbours[1].sites.push_back("c" + std::to_string(k));
    }
  });
  registry_.SetConfig(config_.Current());
  Greet();
  Send(LinkFrame("a"));
  const auto config = config_.Current();
  for (const std::string& site : config->neighbours[0].sites) Send(LinkFrame(site));
  now_ = now_ + absl::Milliseconds(1);
  for (int k = 0; k < 33; ++k) Send(LinkFrame("c" + std::to_string(k)));
  EXPECT_EQ(Next().frame_case(), v1::ServerFrame::FRAME_NOT_SET) << "a is heard";
  registry_.StartDrain(absl::Seconds(1), now_);
  EXPECT_EQ(Next().goodbye().neighbour(), "c.example:7443") << "31 of b, 33 of c";
}

TEST_F(SessionCoreTest, AQueryMayBeWhatShowsThatADeviceHasMoved) {
  Change([](Config& config) { config.neighbours = {{"b.example:7443", {"b1"}}}; });
  Greet();
  Send(LinkFrame("a"));
  now_ = now_ + config_.Current()->limits.link_max_age - absl::Milliseconds(1);
  Send(LinkFrame("b1"));
  now_ = now_ + absl::Milliseconds(2);
  Send(QueryFrame("q"));
  EXPECT_EQ(Next().goodbye().neighbour(), "b.example:7443");
  ExpectRefused("q", "MOVED", v1::REASON_NO_LINK);
}

TEST_F(SessionCoreTest, DrainingComesBeforeEveryOtherReason) {
  Change([](Config& config) {
    config.limits.queries_per_session = 1;
    config.tenants.resize(1);
    config.tenants[0].name = kDefaultTenant;
    config.tenants[0].queries_per_second = 0.001;
  });
  Greet();
  Ask("1");
  registry_.StartDrain(absl::Seconds(1), now_);
  EXPECT_TRUE(Next().has_goodbye());
  Send(QueryFrame("2"));
  ExpectRefused("2", "DRAINING", v1::REASON_DRAINING);
}

class FullInboxTest : public SessionCoreTest {
 protected:
  FullInboxTest() : SessionCoreTest(/*inbox=*/1) {}
};

TEST_F(FullInboxTest, WaitingQueries) {
  Greet();
  Send(QueryFrame("1"));  // waits
  Send(QueryFrame("2"));
  const v1::ServerFrame frame = Next();
  EXPECT_EQ(frame.decision().query_id(), "2");
  EXPECT_EQ(frame.decision().reason(), v1::REASON_OVERLOAD);
  EXPECT_THAT(frame.decision().retry_after_s(), AllOf(Ge(1), Le(1.5)));
  EXPECT_EQ(Refused("WAITING_QUERIES"), 1);
  EXPECT_EQ(device_->session->outbox.live(), 1u);
  const auto submitted = Got<SubmitQuery>();
  ASSERT_EQ(submitted.size(), 1u);
  EXPECT_EQ(submitted[0].query_id, "1");
  Ask("3");  // there is room again
}

TEST_F(FullInboxTest, WhatEndsAQueryIsAlwaysTaken) {
  Greet();
  Send(QueryFrame("1"));
  Send(CancelFrame("1"));
  Send(LinkFrame("a"));
  device_->core->OnEnd(now_);
  EXPECT_EQ(Got<CancelQuery>().size(), 1u);
  EXPECT_EQ(Got<LinkUpdate>().size(), 1u);
  EXPECT_EQ(Got<SessionClosed>().size(), 1u);
}

TEST_F(SessionCoreTest, AnOutboxWithoutRoomForAnAnswerRefusesTheQuery) {
  Open* small = Connect(Caller(), Outbox::kSlotBytes + 100);
  Greet(small);
  Send(small, QueryFrame("1"));
  EXPECT_EQ(Got<SubmitQuery>().size(), 1u);
  Send(small, QueryFrame("2"));
  EXPECT_EQ(Refused("OUTBOX_FULL"), 1);
  EXPECT_TRUE(Got<SubmitQuery>().empty());
  EXPECT_EQ(small->session->outbox.live(), 1u);
  // Above half of its bound the refusal itself has no room: who reads nothing is told nothing.
  EXPECT_EQ(Next(small).frame_case(), v1::ServerFrame::FRAME_NOT_SET);
  Send(small, CancelFrame("1"));
  EXPECT_TRUE(Next(small).has_cancelled());
  Send(small, QueryFrame("2"));  // it was as if never asked
  EXPECT_EQ(Got<SubmitQuery>().size(), 1u);
}

TEST_F(SessionCoreTest, WhileAllOutboxesTogetherAreFullTheQueryIsToldSo) {
  Greet();
  // One answer that is not read: another slot is more than an outbox may hold while they are short.
  const QueryId id = Ask("1");
  Offload(id, 0);
  TokensEvent tokens{id, 0, std::string(Outbox::kFairBytes - 3000, 'x'), 1};
  ASSERT_EQ(registry_.Deliver(device_->session->id, tokens), Delivery::kAccepted);
  outboxes_.most = 1;
  Send(QueryFrame("2"));
  EXPECT_EQ(Refused("OUTBOX_FULL"), 1);
  EXPECT_TRUE(Got<SubmitQuery>().empty());
  EXPECT_EQ(Next().protocol_error().error().reason(), "OUTBOX_FULL");  // overtakes what is not read
  EXPECT_TRUE(Next().has_tokens());
}

TEST_F(SessionCoreTest, OutboxFullIsSaidWhenThatStillFits) {
  // Half of its bound is free for what a device causes at will, and a slot does not fit into the other half.
  Open* small = Connect(Caller(), Outbox::kSlotBytes - 1);
  Greet(small);
  Send(small, QueryFrame("1"));
  ExpectError(small, "OUTBOX_FULL", v1::ERROR_CODE_RESOURCE_EXHAUSTED, "query", "1");
  EXPECT_THAT(retry_after_s_, AllOf(Ge(1), Le(1.5)));
  EXPECT_EQ(Refused("OUTBOX_FULL"), 1);
}

// --- prompts

TEST_F(SessionCoreTest, APromptGoesToTheEngineOnce) {
  Greet();
  const QueryId id = Ask("q");
  Offload(id);
  Send(PromptFrame("q"));
  const auto ready = Got<PromptReady>();
  ASSERT_EQ(ready.size(), 1u);
  EXPECT_EQ(ready[0].id, id);
  EXPECT_EQ(ready[0].prompt->text, "why?");
  for (const std::string& text : {std::string("why?"), std::string(10000, 'x')}) {  // good or bad
    Send(PromptFrame("q", text));
    ExpectError("PROMPT_TWICE", v1::ERROR_CODE_FAILED_PRECONDITION, "prompt.query_id", "q");
  }
  EXPECT_TRUE(Got<PromptReady>().empty());
  EXPECT_EQ(device_->session->outbox.live(), 1u) << "the answer that runs goes on";
}

TEST_F(SessionCoreTest, AnInlinePromptIsTheOnlyOne) {
  Greet();
  Send(InlineFrame("q", "why?"));
  const auto submitted = Got<SubmitQuery>();
  ASSERT_EQ(submitted.size(), 1u);
  Send(PromptFrame("q"));
  ExpectError("NOT_GRANTED", v1::ERROR_CODE_FAILED_PRECONDITION, "prompt.query_id", "q");
  Offload(submitted[0].id, 0);
  Send(PromptFrame("q"));
  ExpectError("PROMPT_TWICE", v1::ERROR_CODE_FAILED_PRECONDITION, "prompt.query_id", "q");
}

TEST_F(SessionCoreTest, APromptBeforeItsDecisionIsRefusedAndMayComeAgain) {
  Greet();
  const QueryId id = Ask("q");
  Send(PromptFrame("q"));
  ExpectError("NOT_GRANTED", v1::ERROR_CODE_FAILED_PRECONDITION, "prompt.query_id", "q");
  EXPECT_TRUE(Got<PromptReady>().empty());
  Offload(id);
  Send(PromptFrame("q"));
  EXPECT_EQ(Got<PromptReady>().size(), 1u);
}

TEST_F(SessionCoreTest, ALatePromptHasNoQuery) {
  Greet();
  const QueryId id = Ask("q");
  Offload(id);
  FailedEvent expired{id};
  expired.error.code = ErrorCode::kGrantExpired;
  expired.error.reason = "GRANT_EXPIRED";
  registry_.Deliver(device_->session->id, expired);
  EXPECT_EQ(Next().failed().error().reason(), "GRANT_EXPIRED");
  Send(PromptFrame("q"));
  ExpectError("NO_SUCH_QUERY", v1::ERROR_CODE_NOT_FOUND, "prompt.query_id", "q");
  EXPECT_EQ(Refused("LATE_PROMPT"), 1);
  EXPECT_TRUE(Got<PromptReady>().empty());
  Send(PromptFrame(""));
  ExpectError("OUT_OF_RANGE", v1::ERROR_CODE_INVALID_ARGUMENT, "prompt.query_id");
}

TEST_F(SessionCoreTest, ABadPromptFailsItsQuery) {
  Greet();
  const QueryId id = Ask("q");
  Offload(id);
  Send(PromptFrame("q", std::string(101, 'x')));  // asked for 100 bytes
  const v1::ServerFrame frame = Next();
  EXPECT_EQ(frame.failed().error().reason(), "OUT_OF_RANGE");
  EXPECT_EQ(frame.failed().error().field(), "prompt.text");
  EXPECT_EQ(Refused("BAD_PROMPT"), 1);
  const auto cancelled = Got<CancelQuery>();
  ASSERT_EQ(cancelled.size(), 1u);
  EXPECT_EQ(cancelled[0].id, id);
  EXPECT_TRUE(cancelled[0].answered);
}

// --- cancel, outcome, the end

TEST_F(SessionCoreTest, ACancelIsAnsweredAtOnceAndOfAnUnknownQueryNotAtAll) {
  Greet();
  const QueryId id = Ask("q");
  Send(CancelFrame("q"));
  EXPECT_EQ(Next().cancelled().query_id(), "q");
  EXPECT_EQ(Got<CancelQuery>().size(), 1u);
  EXPECT_EQ(registry_.Deliver(device_->session->id, DecisionEvent{id, 1}), Delivery::kDropped);
  Send(CancelFrame("q"));
  Send(CancelFrame("never"));
  EXPECT_EQ(Next().frame_case(), v1::ServerFrame::FRAME_NOT_SET);
  EXPECT_TRUE(Got<CancelQuery>().empty());
}

TEST_F(SessionCoreTest, AnOutcomeOutOfRangeIsRefused) {
  Greet();
  v1::DeviceFrame frame;
  frame.mutable_outcome()->set_query_id("q");
  frame.mutable_outcome()->set_local_delay_s(-1);
  Send(frame);
  ExpectError("OUT_OF_RANGE", v1::ERROR_CODE_INVALID_ARGUMENT, "outcome.local_delay_s", "q");
  frame.mutable_outcome()->set_local_delay_s(1);
  Send(frame);
  EXPECT_EQ(Next().frame_case(), v1::ServerFrame::FRAME_NOT_SET);
}

v1::DeviceFrame QualityFrame(const std::string& id, double quality) {
  v1::DeviceFrame frame;
  frame.mutable_outcome()->set_query_id(id);
  frame.mutable_outcome()->set_quality(quality);
  return frame;
}

TEST_F(SessionCoreTest, AnAnswerIsRatedOnceByWhoeverGaveItAndOnlyWhenItIsOver) {
  Greet();
  const auto rated = [&](const char* by) { return Metric("goad_rated_answers_total", by); };
  const QueryId local = Ask("local"), edge = Ask("edge");
  Send(QualityFrame("local", 0.25));
  EXPECT_EQ(rated("unknown"), 1) << "it has no answer yet";
  Local(local);
  Next();
  Send(QualityFrame("local", 0.25));
  EXPECT_EQ(rated("device"), 1);
  EXPECT_EQ(Metric("goad_rated_error_total", "device"), 0.75);
  Send(QualityFrame("local", 0));
  EXPECT_EQ(rated("device"), 1) << "twice";
  Offload(edge);
  Send(PromptFrame("edge"));
  Send(QualityFrame("edge", 1));
  EXPECT_EQ(rated("edge"), 0) << "its answer is on its way";
  CompletedEvent completed;
  completed.id = edge;
  completed.site = sched::SiteIndex{0};
  registry_.Deliver(device_->session->id, std::move(completed));
  Next();
  Send(QualityFrame("edge", 1));
  EXPECT_EQ(rated("edge"), 1);
  Send(QualityFrame("never asked", 1));
  EXPECT_EQ(rated("unknown"), 4);
  EXPECT_EQ(Metric("goad_local_delay_seconds", ""), 0) << "none of these says how long a local answer took";
  Send(QualityFrame("edge", 1.5));
  ExpectError("OUT_OF_RANGE", v1::ERROR_CODE_INVALID_ARGUMENT, "outcome.quality", "edge");
}

TEST_F(SessionCoreTest, ARatingIsTakenFor60Seconds) {
  Greet();
  Local(Ask("soon"));
  Local(Ask("late"));
  now_ = now_ + absl::Seconds(59);
  Send(QualityFrame("soon", 1));
  now_ = now_ + absl::Seconds(2);
  Send(QualityFrame("late", 1));
  EXPECT_EQ(Metric("goad_rated_answers_total", "device"), 1);
  EXPECT_EQ(Metric("goad_rated_answers_total", "unknown"), 1);
}

TEST_F(SessionCoreTest, ForcedQueriesThatAreTurnedAwayAreCounted) {
  Change([](Config& config) { config.limits.queries_per_session = 1; });
  Greet();
  Ask("1");
  Send(QueryFrame("2", /*uncertainty=*/0.9));
  Send(QueryFrame("3", /*uncertainty=*/0.7));
  EXPECT_EQ(Metric("goad_forced_queries_total", "local"), 1) << "0.9 is above tau, 0.7 is not";
}

TEST_F(SessionCoreTest, TooManyFramesASecondEndTheSessionAndItsQueries) {
  Change([](Config& config) { config.limits.frames_per_second = 5; });
  Greet();
  Ask("q");
  for (int k = 0; k < 3; ++k) EXPECT_TRUE(Send(CancelFrame("x")));
  EXPECT_FALSE(Send(CancelFrame("x")));
  EXPECT_EQ(Refused("FRAMES_PER_SECOND"), 1);
  const Outbox::Step step = device_->session->outbox.Next();
  ASSERT_EQ(step.kind, Outbox::Step::kFinish);
  ASSERT_TRUE(step.error);
  EXPECT_EQ(step.error->reason, "FRAMES_PER_SECOND");
  EXPECT_EQ(step.error->code, ErrorCode::kResourceExhausted);
  EXPECT_THAT(step.error->retry_after_s, AllOf(Ge(1), Le(1.5)));
  EXPECT_EQ(Got<SessionClosed>().size(), 1u);
}

TEST_F(SessionCoreTest, AsManyFramesASecondAsAllowedGoOnForever) {
  Change([](Config& config) { config.limits.frames_per_second = 5; });
  Greet();
  for (int k = 0; k < 100; ++k) {
    now_ = now_ + absl::Milliseconds(200);
    EXPECT_TRUE(Send(CancelFrame("x")));
  }
}

TEST_F(SessionCoreTest, TheEndIsToldOnceAndLateAnswersAreDropped) {
  Greet();
  const QueryId id = Ask("q");
  device_->core->OnEnd(now_);
  device_->core->OnEnd(now_);
  EXPECT_EQ(Got<SessionClosed>().size(), 1u);
  EXPECT_EQ(registry_.Deliver(device_->session->id, DecisionEvent{id, 1}), Delivery::kDropped);
  EXPECT_EQ(Next().frame_case(), v1::ServerFrame::FRAME_NOT_SET);
}

TEST_F(SessionCoreTest, AQueryThatCrossesTheEndLeavesNothingBehind) {
  Greet();
  device_->core->OnEnd(now_);
  Got<SessionClosed>();
  Send(QueryFrame("q"));
  EXPECT_TRUE(Got<SubmitQuery>().empty());
  EXPECT_EQ(Got<SessionClosed>().size(), 1u);
  Open* next = Connect();
  Greet(next);
  Send(next, QueryFrame("q"));  // may be asked again
  EXPECT_EQ(Got<SubmitQuery>().size(), 1u);
}

TEST_F(SessionCoreTest, AHalfClosedStreamFinishesWhenItsLastQueryIsAnswered) {
  Greet();
  const QueryId id = Ask("q");
  device_->core->OnHalfClose();
  EXPECT_EQ(device_->session->outbox.Next().kind, Outbox::Step::kNothing);
  Local(id);
  EXPECT_TRUE(Next().has_decision());
  const Outbox::Step step = device_->session->outbox.Next();
  EXPECT_EQ(step.kind, Outbox::Step::kFinish);
  EXPECT_EQ(step.error, std::nullopt);
}

// --- by the clock

TEST_F(SessionCoreTest, WhoDoesNotGreetOrReadIsEnded) {
  Open* silent = Connect();
  Open* deaf = Connect();
  Send(deaf, HelloFrame());  // its Welcome is never read
  Greet();
  now_ = now_ + absl::Milliseconds(5001);
  registry_.Watch(*config_.Current(), now_);
  ASSERT_TRUE(silent->stream->ended);
  EXPECT_EQ(silent->stream->ended->reason, "HELLO_FIRST");
  EXPECT_FALSE(deaf->stream->ended);
  now_ = now_ + absl::Seconds(10) + absl::Milliseconds(1);
  registry_.Watch(*config_.Current(), now_);
  ASSERT_TRUE(deaf->stream->ended);
  EXPECT_EQ(deaf->stream->ended->reason, "SLOW_CONSUMER");
  EXPECT_FALSE(device_->stream->ended);
}

TEST_F(SessionCoreTest, WhoIsKickedIsToldSo) {
  Greet();
  EXPECT_TRUE(registry_.Kick("s-1"));
  ASSERT_TRUE(device_->stream->ended);
  EXPECT_EQ(device_->stream->ended->reason, "KICKED");
  EXPECT_FALSE(registry_.Kick("s-9"));
}

TEST_F(SessionCoreTest, WhoMayNotOpenAnotherSession) {
  const auto refused = [&](LimitsConfig limits) {
    auto session = std::make_shared<Session>(SessionId{50}, "peer", 1 << 20, &metrics_, &outboxes_, now_);
    const auto error = registry_.Add(session, std::make_shared<FakeStream>(), {"peer", kDefaultTenant, {}}, limits);
    registry_.Remove(SessionId{50});
    return error ? error->reason : "";
  };
  LimitsConfig limits;
  EXPECT_EQ(refused(limits), "");
  limits.sessions_per_identity = 1;
  EXPECT_EQ(refused(limits), "SESSIONS_PER_IDENTITY");
  limits.sessions = 1;
  EXPECT_EQ(refused(limits), "SESSIONS");
  registry_.StartDrain(absl::Seconds(1), now_);
  EXPECT_EQ(refused(limits), "DRAINING");
}

// --- Ask

TEST_F(SessionCoreTest, AskNeedsItsPrompt) {
  v1::AskRequest request;
  *request.mutable_query() = QueryFrame("q").query();
  const auto error = device_->core->OnAsk(request, now_);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->reason, "NO_PROMPT");
  EXPECT_EQ(error->code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(error->field, "query.inline_prompt");
  EXPECT_TRUE(Got<SubmitQuery>().empty());
}

TEST_F(SessionCoreTest, AskWithoutIdAndUncertaintyIsForcedAndItsBadLinksAreSaid) {
  v1::AskRequest request;
  request.mutable_query()->mutable_inline_prompt()->set_text("why?");
  *request.add_links() = LinkFrame("gone").link_report().links(0);
  *request.add_links() = LinkFrame("a").link_report().links(0);
  EXPECT_EQ(device_->core->OnAsk(request, now_), std::nullopt);
  EXPECT_EQ(Next().protocol_error().error().reason(), "UNKNOWN_SITE");
  EXPECT_EQ(Got<LinkUpdate>().size(), 1u);
  const auto submitted = Got<SubmitQuery>();
  ASSERT_EQ(submitted.size(), 1u);
  EXPECT_EQ(submitted[0].query_id, "s-1");
  EXPECT_TRUE(submitted[0].meta.must_offload);
  Local(submitted[0].id);
  EXPECT_TRUE(Next().has_decision());
  EXPECT_EQ(device_->session->outbox.Next().kind, Outbox::Step::kFinish);
}

TEST_F(SessionCoreTest, AskOutOfRangeSaysWhatIsWrong) {
  v1::AskRequest request;
  request.mutable_query()->mutable_inline_prompt()->set_text("why?");
  request.mutable_query()->set_uncertainty(-1);
  const auto error = device_->core->OnAsk(request, now_);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->reason, "OUT_OF_RANGE");
  EXPECT_EQ(error->field, "query.uncertainty");
}

}  // namespace
}  // namespace goad::server
