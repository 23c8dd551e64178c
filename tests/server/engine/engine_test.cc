#include "server/engine/engine.h"

#include <cmath>
#include <deque>
#include <functional>
#include <map>
#include <random>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "scheduler/snapshot_check.h"
#include "server/engine/inbox.h"
#include "server/engine/output_lengths.h"
#include "server/engine/snapshot_builder.h"
#include "server/engine/uplink_table.h"

namespace goad::server {
namespace {

using sched::Reason;
using sched::SiteIndex;
using sched::Verdict;

constexpr absl::Duration kMs = absl::Milliseconds(1);

struct RecordingSink final : SessionSink {
  Delivery Deliver(SessionId session, SessionEvent event) override {
    events.emplace_back(session, std::move(event));
    return Delivery::kAccepted;
  }
  std::vector<DecisionEvent> Decisions() const {
    std::vector<DecisionEvent> found;
    for (const auto& [session, event] : events) {
      if (const auto* decision = std::get_if<DecisionEvent>(&event)) found.push_back(*decision);
    }
    return found;
  }
  void StillWaits(SessionId session) override { waits.push_back(session); }
  std::vector<std::pair<SessionId, SessionEvent>> events;
  std::vector<SessionId> waits;
};

struct RecordingDispatch final : DispatchPort {
  void Start(DispatchRequest request) override { started.push_back(std::move(request)); }
  void Abort(QueryId id) override { aborted.push_back(id); }
  void Resume(SessionId) override {}
  std::vector<DispatchRequest> started;
  std::vector<QueryId> aborted;
};

class EngineTest : public testing::Test {
 protected:
  EngineTest() {
    SiteConfig site;
    site.name = "a";
    site.backends.resize(1);
    config_.sites = {site};
    Restart();
  }
  void Restart() {
    engine_ = std::make_unique<Engine>(std::make_shared<const Config>(config_),
                                       Engine::Ports{&sink_, &dispatch_, &metrics_, nullptr, nullptr, on_outcome_});
    engine_->Handle(SiteHealth{SiteIndex{0}, 1, 2}, now_);  // two slots
  }
  void Record() {
    on_outcome_ = [this](OutcomeRecord outcome) { outcomes_.push_back(std::move(outcome)); };
    Restart();
  }
  // A query that wants to go: local is slow and the link is good.
  QueryId Submit(uint64_t session, double uncertainty = 0.5, double prompt_bits = 800) {
    Link(session);
    return SubmitUnlinked(session, uncertainty, prompt_bits);
  }
  void Link(uint64_t session) {
    engine_->Handle(LinkUpdate{SessionId{session}, {{SiteIndex{0}, 1e-9, 20e6, now_}}}, now_);
  }
  void UseRadio() {
    config_.sites[0].uplink.model = sched::UplinkModel::kShannon;
    Restart();
  }
  QueryId SubmitUnlinked(uint64_t session, double uncertainty, double prompt_bits = 800) {
    SubmitQuery submit;
    submit.session = SessionId{session};
    submit.device = absl::StrCat("device ", session);
    submit.id = QueryId{next_id_++};
    submit.meta.uncertainty = uncertainty;
    submit.meta.prompt_bits = prompt_bits;
    submit.meta.prompt_tokens = 10;
    submit.meta.max_output_tokens = 4;
    submit.meta.local_delay_s = 1;
    submit.meta.tenant = tenant_;
    submit.received = now_;
    if (prompt_bits == 0) submit.inline_prompt = std::make_shared<PromptBody>();
    const QueryId query = submit.id;
    engine_->Handle(std::move(submit), now_);
    return query;
  }
  void Advance(absl::Duration by) {
    const MonotonicTime until = now_ + by;
    while (engine_->NextWake() <= until) {
      now_ = std::max(now_, engine_->NextWake());
      engine_->Tick(now_);
    }
    now_ = until;
    engine_->Tick(now_);
  }
  EngineStatus Status() {
    EngineStatus status;
    engine_->Handle(Inspect{[&](const EngineStatus& s) { status = s; }}, now_);
    return status;
  }
  template <typename Kind>
  size_t Count() const {
    size_t count = 0;
    for (const auto& [session, event] : sink_.events) count += std::holds_alternative<Kind>(event);
    return count;
  }

  Config config_;
  MonotonicTime now_ = MonotonicTime::FromOrigin(absl::Seconds(100));
  RecordingSink sink_;
  RecordingDispatch dispatch_;
  Metrics metrics_{{{"a", "b"}, {{"u"}, {"v"}}}};
  std::unique_ptr<Engine> engine_;
  uint64_t next_id_ = 1;
  std::string tenant_ = kDefaultTenant;
  std::function<void(OutcomeRecord)> on_outcome_;  // see Record
  std::vector<OutcomeRecord> outcomes_;
};

TEST_F(EngineTest, ALoneQueryWaitsMinPeriod) {
  Submit(1);
  Advance(1.9 * kMs);
  EXPECT_TRUE(sink_.events.empty());
  Advance(0.2 * kMs);
  ASSERT_EQ(sink_.Decisions().size(), 1u);
  EXPECT_EQ(sink_.Decisions()[0].verdict, Verdict::kOffload);
  EXPECT_EQ(sink_.Decisions()[0].reason, Reason::kDelayGain);
  EXPECT_NEAR(sink_.Decisions()[0].upload_within_s, 5, 1e-9);
}

TEST_F(EngineTest, ANumberThatCannotBeCostsItsOwnQueryOnly) {
  Submit(1);
  Submit(2, 0.9, /*prompt_bits=*/std::nan(""));
  Submit(3, std::nan(""));
  Submit(4, 0.9);
  Advance(5 * kMs);
  std::map<uint64_t, Verdict> verdicts;
  for (const DecisionEvent& decision : sink_.Decisions())
    verdicts[static_cast<uint64_t>(decision.id)] = decision.verdict;
  EXPECT_EQ(verdicts, (std::map<uint64_t, Verdict>{
                          {1, Verdict::kOffload}, {2, Verdict::kLocal}, {3, Verdict::kLocal}, {4, Verdict::kOffload}}));
  engine_->Handle(SiteHealth{SiteIndex{0}, 1, 4}, now_);
  Submit(5);
  Advance(3 * kMs);
  EXPECT_EQ(sink_.Decisions().back().verdict, Verdict::kOffload) << "the next epoch is whole again";
}

TEST_F(EngineTest, SteadyArrivalsAreDecidedAfterPeriod) {
  for (int k = 0; k < 19; ++k) {
    Submit(static_cast<uint64_t>(k));
    Advance(1 * kMs);
  }
  EXPECT_TRUE(sink_.events.empty());
  Submit(19);
  Advance(1 * kMs);
  EXPECT_EQ(sink_.Decisions().size(), 20u);
  EXPECT_EQ(Status().epochs, 1u);
}

TEST_F(EngineTest, FullSiteHoldsAForcedQueryUntilASlotIsFree) {
  const QueryId first = Submit(1), second = Submit(2);
  Advance(3 * kMs);
  Submit(3, 0.9);  // forced
  Submit(4, 0.5);  // not
  Advance(3 * kMs);
  ASSERT_EQ(sink_.Decisions().size(), 3u);
  EXPECT_EQ(sink_.Decisions()[2].reason, Reason::kSiteFull);
  for (const QueryId id : {first, second}) engine_->Handle(PromptReady{id, std::make_shared<PromptBody>()}, now_);
  engine_->Handle(QueryDone{first, DispatchOutcome::kCompleted, 2}, now_);
  Advance(3 * kMs);
  ASSERT_EQ(sink_.Decisions().size(), 4u);
  EXPECT_EQ(sink_.Decisions()[3].reason, Reason::kUncertain);
}

TEST_F(EngineTest, AForcedQueryWithoutASlotIsLocalAfterMandatoryWait) {
  Submit(1), Submit(2);
  Advance(3 * kMs);
  Submit(3, 0.9);
  Advance(199 * kMs);
  EXPECT_EQ(sink_.Decisions().size(), 2u);
  Advance(2 * kMs);
  ASSERT_EQ(sink_.Decisions().size(), 3u);
  EXPECT_EQ(sink_.Decisions()[2].reason, Reason::kTauInfeasible);
}

TEST_F(EngineTest, NobodyButAForcedQueryWaitsLongerThanPeriodEvenBehindItsOwnUpload) {
  UseRadio();
  Submit(1);
  Advance(3 * kMs);  // granted: its radio is busy
  Submit(1);
  Advance(19 * kMs);
  EXPECT_EQ(sink_.Decisions().size(), 1u);
  Advance(2 * kMs);
  ASSERT_EQ(sink_.Decisions().size(), 2u);
  EXPECT_EQ(sink_.Decisions()[1].reason, Reason::kUplinkBusy);
  Submit(1, 0.9);  // forced: longer, and no other reason
  Advance(199 * kMs);
  EXPECT_EQ(sink_.Decisions().size(), 2u);
  Advance(2 * kMs);
  ASSERT_EQ(sink_.Decisions().size(), 3u);
  EXPECT_EQ(sink_.Decisions()[2].reason, Reason::kUplinkBusy);
}

TEST_F(EngineTest, AForcedQueryWithoutALinkWaitsForOneAndIsToldWhatStoodInItsWay) {
  UseRadio();
  SubmitUnlinked(7, 0.9);
  Advance(150 * kMs);
  EXPECT_TRUE(sink_.Decisions().empty());
  Link(7);
  Advance(3 * kMs);
  ASSERT_EQ(sink_.Decisions().size(), 1u);
  EXPECT_EQ(sink_.Decisions()[0].reason, Reason::kUncertain);
  SubmitUnlinked(8, 0.9);
  Advance(201 * kMs);
  ASSERT_EQ(sink_.Decisions().size(), 2u);
  EXPECT_EQ(sink_.Decisions()[1].reason, Reason::kNoLink);
}

TEST_F(EngineTest, OneCandidatePerSessionAndEpochTheNextFollowsAtOnce) {
  UseRadio();
  Submit(1), Submit(1);
  Advance(3 * kMs);
  ASSERT_EQ(sink_.Decisions().size(), 1u);
  engine_->Handle(PromptReady{QueryId{1}, std::make_shared<PromptBody>()}, now_);
  Advance(3 * kMs);
  EXPECT_EQ(sink_.Decisions().size(), 2u);
}

TEST_F(EngineTest, AllSitesDownIsNoSiteAtOnceOrAfterMandatoryWaitWhenForced) {
  engine_->Handle(SiteHealth{SiteIndex{0}, 0, 0}, now_);
  Submit(1, 0.9), Submit(2, 0.1);
  Advance(3 * kMs);
  EXPECT_EQ(sink_.Decisions().size(), 1u);
  Advance(198 * kMs);
  ASSERT_EQ(sink_.Decisions().size(), 2u);
  EXPECT_EQ(sink_.Decisions()[0].reason, Reason::kNoSite);
  EXPECT_EQ(sink_.Decisions()[1].reason, Reason::kNoSite);
}

TEST_F(EngineTest, AGrantThatIsNotUsedExpiresAndFreesTheSlot) {
  const QueryId id = Submit(1);
  Advance(3 * kMs);
  EXPECT_EQ(Status().sites[0].active_uplinks, 1);
  Advance(absl::Seconds(5));
  ASSERT_EQ(Count<FailedEvent>(), 1u);
  EXPECT_EQ(std::get<FailedEvent>(sink_.events.back().second).error.code, ErrorCode::kGrantExpired);
  EXPECT_EQ(std::get<FailedEvent>(sink_.events.back().second).error.reason, "GRANT_EXPIRED");
  engine_->Handle(PromptReady{id, std::make_shared<PromptBody>()}, now_);  // late
  EXPECT_TRUE(dispatch_.started.empty());
  EXPECT_EQ(Status().sites[0].active_queries, 0);
  EXPECT_EQ(Status().sites[0].active_uplinks, 0);
}

TEST_F(EngineTest, InlinePromptIsDispatchedWithTheDecision) {
  Submit(1, 0.5, /*prompt_bits=*/0);
  Advance(3 * kMs);
  ASSERT_EQ(dispatch_.started.size(), 1u);
  EXPECT_EQ(sink_.Decisions()[0].upload_within_s, 0);
  EXPECT_EQ(Status().sites[0].active_uplinks, 0);
}

TEST_F(EngineTest, CancelInEachStateEndsOnceAndFreesTheSlotWhenTheBackendHasLetGo) {
  const QueryId pending = Submit(1);
  engine_->Handle(CancelQuery{pending}, now_);
  Advance(3 * kMs);
  const QueryId granted = Submit(2);
  Advance(3 * kMs);
  engine_->Handle(CancelQuery{granted}, now_);
  const QueryId running = Submit(3);
  Advance(3 * kMs);
  engine_->Handle(PromptReady{running, std::make_shared<PromptBody>()}, now_);
  engine_->Handle(CancelQuery{running}, now_);
  engine_->Handle(CancelQuery{running}, now_);
  EXPECT_EQ(Count<CancelledEvent>(), 3u);
  EXPECT_EQ(dispatch_.aborted, std::vector<QueryId>{running});
  EXPECT_EQ(Status().sites[0].active_queries, 1);
  engine_->Handle(QueryDone{running, DispatchOutcome::kAborted, 0}, now_);
  EXPECT_EQ(Status().sites[0].active_queries, 0);
  EXPECT_TRUE(engine_->idle());
}

TEST_F(EngineTest, ALostStreamCancelsItsQueriesSilently) {
  const QueryId running = Submit(1);
  Advance(3 * kMs);
  engine_->Handle(PromptReady{running, std::make_shared<PromptBody>()}, now_);
  Submit(1);
  const size_t before = sink_.events.size();
  engine_->Handle(SessionClosed{SessionId{1}}, now_);
  EXPECT_EQ(sink_.events.size(), before);
  EXPECT_EQ(dispatch_.aborted.size(), 1u);
  engine_->Handle(QueryDone{running, DispatchOutcome::kAborted, 0}, now_);
  EXPECT_TRUE(engine_->idle());
}

TEST_F(EngineTest, DeadlineFailsAGrantAndKeepsFromDeciding) {
  Link(1);
  SubmitQuery granted;
  granted.session = SessionId{1};
  granted.id = QueryId{next_id_++};
  granted.meta.uncertainty = 0.9;
  granted.meta.deadline = absl::Seconds(1);
  granted.meta.prompt_bits = 8;
  granted.meta.max_output_tokens = 1;
  granted.received = now_;
  engine_->Handle(std::move(granted), now_);
  Advance(3 * kMs);
  EXPECT_EQ(sink_.Decisions().back().verdict, Verdict::kOffload);
  Advance(absl::Seconds(1));  // its prompt does not come
  ASSERT_EQ(Count<FailedEvent>(), 1u);
  EXPECT_EQ(std::get<FailedEvent>(sink_.events.back().second).error.code, ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(std::get<FailedEvent>(sink_.events.back().second).error.reason, "DEADLINE");
  SubmitQuery late;
  late.session = SessionId{2};
  late.id = QueryId{next_id_++};
  late.meta.deadline = 1 * kMs;
  late.meta.prompt_bits = 8;
  late.meta.max_output_tokens = 1;
  late.received = now_;
  engine_->Handle(std::move(late), now_);
  Advance(3 * kMs);
  EXPECT_EQ(sink_.Decisions().back().reason, Reason::kDeadline);
}

TEST_F(EngineTest, DrainDeclinesTheWaitingAndFinishesTheRest) {
  const QueryId running = Submit(1);
  Advance(3 * kMs);
  engine_->Handle(PromptReady{running, std::make_shared<PromptBody>()}, now_);
  Submit(2);
  engine_->Handle(Drain{}, now_);
  Submit(3);
  ASSERT_EQ(sink_.Decisions().size(), 3u);
  EXPECT_EQ(sink_.Decisions()[1].reason, Reason::kDraining);
  EXPECT_EQ(sink_.Decisions()[2].reason, Reason::kDraining);
  EXPECT_GT(sink_.Decisions()[2].retry_after_s, 0);
  EXPECT_FALSE(engine_->idle());
  engine_->Handle(DrainExpired{}, now_);
  EXPECT_EQ(Count<FailedEvent>(), 1u);
  EXPECT_EQ(std::get<FailedEvent>(sink_.events.back().second).error.reason, "DRAINING");
  EXPECT_EQ(dispatch_.aborted.size(), 1u);
}

TEST_F(EngineTest, TauAndPolicyOverridesHoldUntilTheNextReload) {
  engine_->Handle(SetTau{0.1}, now_);
  engine_->Handle(SetPolicy{"all-local"}, now_);
  EXPECT_TRUE(Status().tau_overridden && Status().policy_overridden);
  Submit(1, 0.5);
  Advance(3 * kMs);
  EXPECT_EQ(sink_.Decisions()[0].reason, Reason::kPolicy);
  engine_->Handle(ApplyConfig{std::make_shared<const Config>(config_)}, now_);
  EXPECT_EQ(Status().policy, "goa");
  EXPECT_EQ(Status().tau, 0.8);
  EXPECT_FALSE(Status().tau_overridden || Status().policy_overridden);
}

TEST_F(EngineTest, APolicyOnTrialGivesWayToWhatWasBefore) {
  engine_->Handle(SetPolicy{"goa-relocate"}, now_);
  engine_->Handle(SetPolicy{"all-local", absl::Seconds(10)}, now_);
  EXPECT_EQ(Status().policy, "all-local");
  EXPECT_EQ(Status().policy_trial_left_s, 10);
  Advance(absl::Seconds(9));
  engine_->Handle(SetPolicy{"all-edge", absl::Seconds(10)}, now_);  // another one, from now on
  Advance(absl::Seconds(9));
  EXPECT_EQ(Status().policy, "all-edge");
  EXPECT_LE(engine_->NextWake(), now_ + absl::Seconds(1));
  Advance(absl::Seconds(1));
  EXPECT_EQ(Status().policy, "goa-relocate") << "the operator's, which a trial does not take away";
  EXPECT_EQ(Status().policy_trial_left_s, 0);
  EXPECT_TRUE(Status().policy_overridden);

  engine_->Handle(SetPolicy{"all-local", absl::Seconds(10)}, now_);
  engine_->Handle(SetPolicy{"", absl::Seconds(1)}, now_);  // over before its time
  EXPECT_EQ(Status().policy, "goa-relocate");
  engine_->Handle(SetPolicy{"", absl::Seconds(1)}, now_);  // none runs: nothing happens
  EXPECT_EQ(Status().policy, "goa-relocate");

  engine_->Handle(SetPolicy{"all-local", absl::Seconds(10)}, now_);
  engine_->Handle(ApplyConfig{std::make_shared<const Config>(config_)}, now_);
  EXPECT_EQ(Status().policy, "goa");
  EXPECT_FALSE(Status().policy_overridden);
}

// A site's last backend fails before the first token: another site takes the query, its slot before the old one's.
class TwoSitesTest : public EngineTest {
 protected:
  TwoSitesTest() {
    config_.sites.push_back(config_.sites[0]);
    config_.sites[1].name = "b";
    Restart();
    engine_->Handle(SiteHealth{SiteIndex{1}, 1, 1}, now_);
    running_ = Submit(1);
    Advance(3 * kMs);
    engine_->Handle(PromptReady{running_, std::make_shared<PromptBody>()}, now_);
  }
  void ReturnLast() {
    QueryReturned returned{dispatch_.started.back()};
    returned.error.reason = "NO_BACKEND";
    engine_->Handle(std::move(returned), now_);
  }
  QueryId running_{};
};

TEST_F(TwoSitesTest, FailoverTakesAnotherSitesSlotAndGivesTheFirstBack) {
  ASSERT_EQ(dispatch_.started.size(), 1u);
  EXPECT_EQ(dispatch_.started[0].site, SiteIndex{0});
  ReturnLast();
  ASSERT_EQ(dispatch_.started.size(), 2u);
  EXPECT_EQ(dispatch_.started[1].site, SiteIndex{1});
  EXPECT_EQ(dispatch_.started[1].id, running_);
  EXPECT_EQ(Status().sites[0].active_queries, 0);
  EXPECT_EQ(Status().sites[1].active_queries, 1);
  ReturnLast();  // that one fails too: no third, and the first is not tried again
  EXPECT_EQ(Count<FailedEvent>(), 1u);
  EXPECT_EQ(Status().sites[1].active_queries, 0);
  EXPECT_TRUE(engine_->idle());
}

SiteHealth Able(SiteIndex site, const std::vector<std::pair<sched::Needs, int>>& servers) {
  SiteHealth health{site, static_cast<int>(servers.size()), 4};
  health.contexts.fill(sched::kCannot);
  for (const auto& [can, context] : servers) {
    for (size_t set = 0; set < health.contexts.size(); ++set) {
      if ((set & ~can.Set()) == 0) health.contexts[set] = std::max(health.contexts[set], context);
    }
  }
  return health;
}
constexpr sched::Needs kText{}, kChatOnly{true}, kTools{true, true}, kImages{true, false, true},
    kBoth{true, true, true};

class AbleTest : public EngineTest {
 protected:
  AbleTest() {
    config_.sites[0].backends[0].api = BackendApi::kChat;
    config_.sites.push_back(config_.sites[0]);
    config_.sites[1].name = "b";
    Restart();
  }
  void Can(std::vector<std::pair<sched::Needs, int>> a, std::vector<std::pair<sched::Needs, int>> b) {
    engine_->Handle(Able(SiteIndex{0}, a), now_);
    engine_->Handle(Able(SiteIndex{1}, b), now_);
  }
  QueryId Ask(sched::Needs needs, double uncertainty = 0.5, bool must = false, bool inline_prompt = false) {
    SubmitQuery submit;
    submit.session = SessionId{1};
    submit.id = QueryId{++asked_};
    submit.query_id = "q";
    submit.meta.uncertainty = uncertainty;
    submit.meta.must_offload = must;
    submit.meta.needs = needs;
    submit.meta.prompt_bits = inline_prompt ? 0 : 800;
    submit.meta.prompt_tokens = 20;
    submit.meta.max_output_tokens = 10;
    submit.meta.local_delay_s = 100;
    if (inline_prompt) submit.inline_prompt = std::make_shared<PromptBody>();
    submit.received = now_;
    engine_->Handle(std::move(submit), now_);
    Advance(300 * kMs);  // past mandatory_wait, too
    return QueryId{asked_};
  }
  const DecisionEvent Last() const { return sink_.Decisions().back(); }
  uint64_t asked_ = 100;
};

TEST_F(AbleTest, AQueryGoesOnlyWhereOneServerCanAllThatItNeeds) {
  Can({{kTools, 4096}, {kImages, 32768}}, {{kBoth, 2048}});
  Ask({true, true, false, 3000});
  EXPECT_EQ(Last().site, SiteIndex{0});
  Ask({true, true, true, 2048});
  EXPECT_EQ(Last().site, SiteIndex{1}) << "a has one server of each";
  Ask({true, true, true, 2049});
  EXPECT_EQ(Last().verdict, Verdict::kLocal);
  EXPECT_EQ(Last().reason, Reason::kNotAble);
  Ask({true, true, false, 5000});
  EXPECT_EQ(Last().reason, Reason::kNotAble) << "the long context is a server's without tools";
  Ask({true, true, true, 4000}, 1.0);
  EXPECT_EQ(Last().reason, Reason::kNotAble) << "forced, and has a local model";
  Can({{kTools, 4096}}, {{kBoth, 4096}});
  Ask({true, true, true, 2049});
  EXPECT_EQ(Last().site, SiteIndex{1});
}

TEST_F(AbleTest, WhoMustOffloadHearsWhatIsMissing) {
  Can({{kTools, 4096}}, {{kChatOnly, 8192}});
  const auto missing = [&](sched::Needs needs) {
    Ask(needs, 0.5, true);
    const auto* failed = std::get_if<FailedEvent>(&sink_.events.back().second);
    if (failed == nullptr) return std::string("not failed");
    EXPECT_EQ(failed->error.reason, "NOT_ABLE");
    EXPECT_EQ(failed->error.code, ErrorCode::kFailedPrecondition);
    EXPECT_FALSE(failed->answer_locally) << "it has no local model";
    return failed->error.message;
  };
  EXPECT_EQ(missing({true, false, true, 100}), "query: needs images, which no server of a site that is up can");
  EXPECT_EQ(
      missing({true, false, false, 9000}),
      "query: needs 9000 tokens of context, which no server of a site that is up can (the longest context is 8192)");
  EXPECT_EQ(missing({true, true, false, 5000}),
            "query: needs chat, tools, 5000 tokens of context, and no server of a site that is up can all of it");
  EXPECT_EQ(missing({true, true, false, 4000}), "not failed");
  EXPECT_EQ(sink_.Decisions().size(), 1u) << "those that failed had none";
  EXPECT_EQ(Status().pending, 0);
}

// The only server with tools is started again, or drained, beside another one that is up.
TEST_F(AbleTest, WhatKeepsAServerAwayThatCouldIsForNow) {
  Can({{kTools, 4096}}, {{kChatOnly, 8192}});
  SiteHealth away = Able(SiteIndex{0}, {{kTools, 4096}});
  std::swap(away.all_contexts, away.contexts);
  away.backends_up = away.slots = 0;
  engine_->Handle(SiteHealth(away), now_);
  Ask(kTools, 0.5, /*must=*/true);
  ASSERT_EQ(sink_.Decisions().size(), 1u) << "asking again helps";
  EXPECT_EQ(Last().reason, Reason::kNoSite);
  Ask({true, true, false, 5000});
  EXPECT_EQ(Last().reason, Reason::kNotAble) << "not even that one can";
  SiteHealth beside = Able(SiteIndex{0}, {{kChatOnly, 4096}});  // of one site, and the one with tools is drained
  beside.all_contexts = beside.drained_contexts = away.all_contexts;
  engine_->Handle(SiteHealth(beside), now_);
  Ask(kTools);
  EXPECT_EQ(Last().reason, Reason::kSiteDraining);
  Config next = config_;
  next.sites[0].presence.drained = true;
  engine_->Handle(ApplyConfig{std::make_shared<const Config>(next)}, now_);
  engine_->Handle(SiteHealth(away), now_);
  Ask(kTools);
  EXPECT_EQ(Last().reason, Reason::kSiteDraining);
  next.sites[0].presence.removed_at = now_;
  engine_->Handle(ApplyConfig{std::make_shared<const Config>(next)}, now_);
  Ask(kTools);
  EXPECT_EQ(Last().reason, Reason::kNotAble);
}

TEST_F(AbleTest, WhatThePromptNeedsCountsFromThenOn) {
  Can({{kText, 4096}}, {{kTools, 4096}});
  engine_->Handle(SiteHealth{SiteIndex{1}, 0, 0}, now_);
  auto prompt = std::make_shared<PromptBody>();
  prompt->chat = prompt->tools = true;
  const QueryId id = Ask({}, 0.5);
  ASSERT_EQ(Last().site, SiteIndex{0}) << "it does not say that it needs tools";
  Can({{kText, 4096}}, {{kTools, 4096}});
  engine_->Handle(PromptReady{id, prompt}, now_);
  ASSERT_EQ(dispatch_.started.size(), 1u);
  EXPECT_TRUE(dispatch_.started[0].needs.tools);
  QueryReturned returned{dispatch_.started.back()};
  engine_->Handle(std::move(returned), now_);
  ASSERT_EQ(dispatch_.started.size(), 2u) << "the other site can";
  EXPECT_EQ(dispatch_.started[1].site, SiteIndex{1});
}

TEST_F(AbleTest, FailoverGoesOnlyToASiteThatCan) {
  Can({{kTools, 4096}}, {{kChatOnly, 4096}});
  auto prompt = std::make_shared<PromptBody>();
  prompt->chat = prompt->tools = true;
  const QueryId id = Ask({true, true});
  engine_->Handle(PromptReady{id, prompt}, now_);
  engine_->Handle(QueryReturned{dispatch_.started.back()}, now_);
  EXPECT_EQ(dispatch_.started.size(), 1u);
  EXPECT_TRUE(std::holds_alternative<FailedEvent>(sink_.events.back().second));
}

TEST_F(TwoSitesTest, AFailoverIsNoSampleOfAnybodysSpeed) {
  ReturnLast();
  engine_->Handle(QueryDone{running_, DispatchOutcome::kCompleted, 4, ServedSample{1, 10, 4}}, now_);
  for (const EngineStatus::Site& site : Status().sites) EXPECT_EQ(site.service.samples, 0u);
}

TEST_F(TwoSitesTest, FailoverWithoutAFreeSlotElsewhereIsFailedAnswerLocally) {
  engine_->Handle(SiteHealth{SiteIndex{1}, 1, 0}, now_);
  ReturnLast();
  ASSERT_EQ(Count<FailedEvent>(), 1u);
  EXPECT_TRUE(std::get<FailedEvent>(sink_.events.back().second).answer_locally);
  EXPECT_TRUE(engine_->idle());
}

TEST_F(TwoSitesTest, AQueryThatWasCancelledMeanwhileGoesNowhere) {
  engine_->Handle(CancelQuery{running_}, now_);
  ReturnLast();
  EXPECT_EQ(dispatch_.started.size(), 1u);
  EXPECT_EQ(Count<FailedEvent>(), 0u);
  EXPECT_TRUE(engine_->idle());
}

// A server that takes 40 ms, and for each of 4 output tokens 10 ms and 5 ms more for each query on it; it is configured
// otherwise.
class LearningTest : public EngineTest {
 protected:
  // Of the configured numbers: 10 tokens at 5000/s + 4 x (5 ms + 1 ms).
  static constexpr double kConfigured_s = 0.002 + 4 * 0.006;
  static double Truth(double queries) { return 0.04 + 4 * (0.01 + 0.005 * queries); }

  // Decided, and its prompt is there.
  QueryId Run() {
    const QueryId id = Submit(next_id_);
    Advance(2 * kMs);
    engine_->Handle(PromptReady{id, std::make_shared<PromptBody>()}, now_);
    return id;
  }
  double Predicted() const { return sink_.Decisions().back().predicted_compute_s; }
  void Done(QueryId id, double compute_s) {
    engine_->Handle(QueryDone{id, DispatchOutcome::kCompleted, 4, ServedSample{compute_s, 10, 4}, 0, compute_s,
                              /*first_token_s=*/0.01},
                    now_);
  }
  void RunOne() {
    const QueryId id = Run();
    Advance(absl::Seconds(Truth(1)));
    Done(id, Truth(1));
  }
  void RunTwo() {
    const QueryId a = Run(), b = Run();
    Advance(absl::Seconds(Truth(2)));
    Done(a, Truth(2)), Done(b, Truth(2));
  }
};

TEST_F(LearningTest, PredictsWhatQueriesTookAndSaysWhereFrom) {
  const QueryId first = Run();
  EXPECT_DOUBLE_EQ(Predicted(), kConfigured_s);
  EXPECT_EQ(Status().sites[0].service.samples, 0u);
  Advance(absl::Seconds(Truth(1)));
  Done(first, Truth(1));
  for (int k = 0; k < 50; ++k) RunOne(), RunTwo();
  EXPECT_EQ(Status().sites[0].service.samples, 151u);
  const QueryId a = Run();
  EXPECT_NEAR(Predicted() / Truth(1), 1, 0.05);
  const QueryId b = Run();  // what it adds for the other is learned too
  EXPECT_NEAR(Predicted() / Truth(2), 1, 0.05);
  Advance(absl::Seconds(Truth(2)));
  Done(a, Truth(2)), Done(b, Truth(2));
  Advance(absl::Seconds(60));  // nobody came: as configured, to the last bit
  EXPECT_EQ(Status().sites[0].service.samples, 0u);
  Run();
  EXPECT_DOUBLE_EQ(Predicted(), kConfigured_s);
}

// Who configured nothing has a start that is slower than the site: what it usually took is what is believed again.
TEST_F(LearningTest, ASiteThatWasSlowIsTriedAgainAsFastAsItUsuallyWas) {
  const auto run_one = [this](double compute_s) {
    const QueryId id = Run();
    Advance(absl::Seconds(compute_s));
    Done(id, compute_s);
  };
  const auto predicted = [this] {
    const QueryId id = Run();
    engine_->Handle(QueryDone{id, DispatchOutcome::kFailed}, now_);  // nothing is learned from it
    return Predicted();
  };
  constexpr double kUsual_s = 0.004;
  for (int k = 0; k < 80; ++k) run_one(kUsual_s);
  for (int k = 0; k < 10; ++k) run_one(10 * kUsual_s);
  EXPECT_GT(predicted(), 4 * kUsual_s);
  Advance(absl::Seconds(60));
  EXPECT_EQ(Status().sites[0].service.samples, 90u);
  EXPECT_NEAR(predicted() / kUsual_s, 1, 0.05);

  for (int k = 0; k < 120; ++k) run_one(0.9);  // no more what it usually takes
  Advance(absl::Seconds(60));
  EXPECT_EQ(Status().sites[0].service.samples, 0u);
  EXPECT_DOUBLE_EQ(predicted(), kConfigured_s);
}

// The mean over its life, per backend: here two for the first half of it and one for the rest.
TEST_F(LearningTest, QueriesBesideItCountForAsLongAsTheyWere) {
  for (const int backends : {1, 2}) {
    Restart();
    engine_->Handle(SiteHealth{SiteIndex{0}, backends, 2}, now_);
    const QueryId a = Submit(1), b = Submit(2);
    Advance(2 * kMs);
    for (const QueryId id : {a, b}) engine_->Handle(PromptReady{id, std::make_shared<PromptBody>()}, now_);
    Advance(50 * kMs);
    engine_->Handle(QueryDone{b, DispatchOutcome::kFailed}, now_);
    Advance(50 * kMs);
    Done(a, 0.1);
    const estimate::Vector prior = {0, 1 / 5000.0, 0.005, 0.001};
    estimate::LinearEstimate expected(0.93);
    expected.Add({1, 10, 4, 4 * 1.5 / backends}, 0.1, prior, 0);
    const estimate::Vector coefficients = expected.At(prior, 0);
    const ServiceTimes service = Status().sites[0].service;
    EXPECT_NEAR(service.overhead_s, coefficients[0], 1e-9);
    EXPECT_NEAR(service.prefill_tokens_per_s, 1 / coefficients[1], 1e-3);
    EXPECT_NEAR(service.token_time_s, coefficients[2], 1e-9);
    EXPECT_NEAR(service.token_time_per_query_s, coefficients[3], 1e-9);
  }
}

// Devices count 10 tokens where the server counts 12 and has 6 of them cached: what is predicted of 10 is what 6 take.
TEST_F(LearningTest, PromptTokensArePredictedAsDevicesCountThem) {
  for (int k = 0; k < 200; ++k) {
    const QueryId id = Run();
    const int computed = 3 + k % 7;  // 6 in the mean
    const double took_s = 0.01 * computed;
    Advance(absl::Seconds(took_s));
    engine_->Handle(QueryDone{id, DispatchOutcome::kCompleted, 1, ServedSample{took_s, computed, 1}}, now_);
  }
  Run();
  EXPECT_NEAR(Predicted(), 0.06, 0.006);
}

TEST_F(LearningTest, AnOutcomeSaysWhatTheQueryTookAndWhatWasPredicted) {
  Record();
  const QueryId a = Run(), b = Run();
  Advance(absl::Seconds(Truth(2)));
  Done(a, Truth(2)), Done(b, Truth(2));
  ASSERT_EQ(outcomes_.size(), 2u);
  const OutcomeRecord& outcome = outcomes_[0];
  EXPECT_EQ(outcome.ending, Ending::kCompleted);
  EXPECT_EQ(outcome.at_s, SecondsBetween(MonotonicTime(), now_));
  EXPECT_EQ(outcome.site, "a");
  EXPECT_EQ(outcome.backend, "a/0");
  EXPECT_EQ(outcome.device, "device 1");
  EXPECT_EQ(outcome.prompt_bits, 800);
  EXPECT_TRUE(outcome.upload_s.has_value());
  EXPECT_EQ(outcome.sharers, outcome.upload_s == 0.0 ? std::nullopt : std::optional<double>(1));
  EXPECT_EQ(outcome.predicted_upload_s, sink_.Decisions()[0].predicted_upload_s);
  EXPECT_EQ(outcome.compute_s, Truth(2));
  EXPECT_EQ(outcome.first_token_s, 0.01);
  EXPECT_NEAR(outcome.predicted_compute_s, kConfigured_s, 1e-12);
  EXPECT_EQ(outcome.prompt_tokens, 10);
  EXPECT_EQ(outcome.computed_tokens, 10);
  EXPECT_EQ(outcome.output_tokens, 4);
  EXPECT_EQ(outcome.expected_output_tokens, 4);  // 64, but for its maximum
  EXPECT_NEAR(*outcome.queries, 2, 0.1);
  EXPECT_EQ(outcome.configured->prefill_tokens_per_s, 5000);
}

TEST_F(LearningTest, AnOutcomeSaysHowItEnded) {
  Record();
  engine_->Handle(CancelQuery{Submit(next_id_)}, now_);  // undecided: it was at no site
  EXPECT_TRUE(outcomes_.empty());
  const auto last = [&](Ending ending) {
    ASSERT_FALSE(outcomes_.empty());
    EXPECT_EQ(outcomes_.back().ending, ending);
    EXPECT_EQ(outcomes_.back().backend, "");
    EXPECT_FALSE(outcomes_.back().compute_s.has_value());
    EXPECT_FALSE(outcomes_.back().computed_tokens.has_value());
    outcomes_.clear();
  };
  Submit(next_id_);
  Advance(config_.limits.grant + 5 * kMs);
  EXPECT_FALSE(outcomes_.at(0).upload_s.has_value());
  EXPECT_FALSE(outcomes_.at(0).queries.has_value());
  last(Ending::kExpired);
  const QueryId cancelled = Run();
  engine_->Handle(CancelQuery{cancelled}, now_);
  EXPECT_TRUE(outcomes_.empty());  // still there
  engine_->Handle(QueryDone{cancelled, DispatchOutcome::kAborted}, now_);
  last(Ending::kCancelled);
  engine_->Handle(QueryDone{Run(), DispatchOutcome::kFailed}, now_);
  last(Ending::kFailed);
  const QueryId returned = Run();
  DispatchRequest request;
  request.id = returned;
  engine_->Handle(QueryReturned{request, {}}, now_);
  last(Ending::kFailed);
  const QueryId drained = Run();
  engine_->Handle(DrainExpired{}, now_);
  engine_->Handle(QueryDone{drained, DispatchOutcome::kAborted}, now_);
  last(Ending::kDrained);
}

TEST_F(LearningTest, NothingIsLearnedWhereItMayNotBe) {
  const auto samples = [&] { return Status().sites[0].service.samples; };
  const QueryId untold = Run();  // the dispatcher says: no fair sample
  engine_->Handle(QueryDone{untold, DispatchOutcome::kCompleted, 4}, now_);
  EXPECT_EQ(samples(), 0u);
  config_.sites[0].compute.learn = false;
  Restart();
  RunOne();
  EXPECT_EQ(samples(), 0u);
  Run();
  EXPECT_DOUBLE_EQ(Predicted(), kConfigured_s);
  config_.sites[0].compute = {};
  config_.sites[0].compute.model = sched::ComputeModel::kEqualShare;
  config_.sites[0].compute.capacity_flops = 1e15;
  Restart();
  RunOne();
  EXPECT_EQ(samples(), 0u);
}

TEST_F(LearningTest, AReloadBeginsAnewWhereItsServersOrNumbersChange) {
  const auto samples = [&] { return Status().sites[0].service.samples; };
  const auto reload = [&] { engine_->Handle(ApplyConfig{std::make_shared<const Config>(config_)}, now_); };
  RunOne();
  config_.policy.tau = 0.3;
  config_.sites[0].max_queries = 1;
  reload();
  EXPECT_EQ(samples(), 1u);
  for (const auto& change :
       std::vector<std::function<void(SiteConfig&)>>{[](SiteConfig& site) { site.backends[0].url = "http://other"; },
                                                     [](SiteConfig& site) { site.backends[0].model = "other"; },
                                                     [](SiteConfig& site) { site.backends.resize(2); },
                                                     [](SiteConfig& site) { site.compute.token_time_s = 0.006; }}) {
    RunOne();
    const QueryId runs = Run();
    ASSERT_GT(samples(), 0u);
    change(config_.sites[0]);
    reload();
    EXPECT_EQ(samples(), 0u);
    Done(runs, Truth(1));  // of the servers there were
    EXPECT_EQ(samples(), 0u);
    RunOne();
    EXPECT_EQ(samples(), 1u);
  }
}

// Devices that report nothing, at a site with measured uplinks.
class UplinkTest : public EngineTest {
 protected:
  UplinkTest() { engine_->Handle(SiteHealth{SiteIndex{0}, 1, 8}, now_); }
  // Asks, uploads in `seconds` and is answered; what was predicted for the upload.
  double Upload(uint64_t session, double bits, double seconds) {
    const QueryId id = SubmitUnlinked(session, 0.9, bits);
    Advance(2 * kMs);
    EXPECT_EQ(sink_.Decisions().back().id, id);
    EXPECT_EQ(sink_.Decisions().back().reason, Reason::kUncertain);
    const double predicted_s = sink_.Decisions().back().predicted_upload_s;
    Advance(absl::Seconds(seconds));
    engine_->Handle(PromptReady{id, std::make_shared<PromptBody>()}, now_);
    engine_->Handle(QueryDone{id, DispatchOutcome::kFailed}, now_);
    return predicted_s;
  }
  double Predicted(uint64_t session, double bits) {
    const QueryId id = SubmitUnlinked(session, 0.9, bits);
    Advance(2 * kMs);
    engine_->Handle(CancelQuery{id}, now_);
    return sink_.Decisions().back().predicted_upload_s;
  }
};

// A link of 30 ms and 5 Mbit/s, then of 80 ms and 1 Mbit/s; prompts of 500 bytes to 200 kB.
TEST_F(UplinkTest, PredictsUploadsOfADeviceThatNeverReports) {
  std::mt19937_64 random(7);
  std::normal_distribution<double> normal;
  for (const auto& [round_trip_s, bps] : {std::pair(0.03, 5e6), {0.08, 1e6}}) {
    std::vector<double> errors;
    for (int k = 0; k < 40; ++k) {
      const double bits = 8 * 500 * std::pow(400, static_cast<double>(random() >> 11) * 0x1p-53);
      const double seconds = (round_trip_s + bits / bps) * std::exp(0.1 * normal(random));
      const double predicted_s = Upload(1, bits, seconds);
      if (k >= 10) errors.push_back(std::abs(predicted_s / seconds - 1));
    }
    std::sort(errors.begin(), errors.end());
    EXPECT_LT(errors[errors.size() / 2], 0.25);
  }
  EXPECT_EQ(Status().uplink.samples, 1u);
}

TEST_F(UplinkTest, WhatADeviceWasSeenToHaveIsItsOwnOverItsConnectionsAndTheMedianIsForOthers) {
  EXPECT_DOUBLE_EQ(Predicted(1, 1e6), 0.1);  // nobody was seen: 10 Mbit/s
  for (int k = 0; k < 40; ++k) {
    for (uint64_t device = 1; device <= 5; ++device) {  // 1 to 4 Mbit/s, and one that is very slow
      const double bits = 1e4 * (1 + 10 * (k % 3)), bps = device == 5 ? 1e5 : 1e6 * static_cast<double>(device);
      Upload(device, bits, bits / bps);
    }
  }
  engine_->Handle(SessionClosed{SessionId{2}}, now_);
  EXPECT_NEAR(Predicted(2, 1e6), 0.5, 0.05);
  EXPECT_NEAR(Predicted(5, 1e5), 1, 0.1);
  EXPECT_NEAR(Predicted(77, 1e6), 0.5, 0.05) << "the median of 5";
  EXPECT_EQ(Status().uplink.samples, 5u);
  Link(2);  // what it reports wins, while it is fresh
  EXPECT_NEAR(Predicted(2, 1e6), 0.05, 0.02);
  Advance(absl::Seconds(3));
  EXPECT_NEAR(Predicted(2, 1e6), 0.5, 0.05);
  Advance(absl::Seconds(60));  // as at the start: somebody has to try again
  EXPECT_DOUBLE_EQ(Predicted(5, 1e6), 0.1);
  for (const DecisionEvent& decision : sink_.Decisions()) EXPECT_EQ(decision.reason, Reason::kUncertain);
}

TEST_F(UplinkTest, WhatIsSharedIsLearnedAsIfItWereNot) {
  for (const bool shared : {true, false}) {
    config_.sites[0].uplink.shared = shared;
    Restart();
    engine_->Handle(SiteHealth{SiteIndex{0}, 1, 8}, now_);
    for (int k = 0; k < 30; ++k) {  // two at a time, of two devices or of one: each gets 1 Mbit/s of 2
      const double bits = 1e4 * (1 + 10 * (k % 3));
      const QueryId a = SubmitUnlinked(1, 0.9, bits), b = SubmitUnlinked(shared ? 2 : 1, 0.9, bits);
      Advance(2 * kMs);
      Advance(absl::Seconds(bits / 1e6));
      for (const QueryId id : {a, b}) {
        engine_->Handle(PromptReady{id, std::make_shared<PromptBody>()}, now_);
        engine_->Handle(QueryDone{id, DispatchOutcome::kFailed}, now_);
      }
    }
    EXPECT_NEAR(Predicted(1, 1e6), 0.5, shared ? 0.05 : 0.2) << "alone";
    const QueryId first = SubmitUnlinked(1, 0.9, 1e6), second = SubmitUnlinked(shared ? 2 : 1, 0.9, 1e6);
    Advance(2 * kMs);  // both in one epoch, also of one device: no radio that could be busy
    ASSERT_EQ(sink_.Decisions().back().id, second);
    EXPECT_EQ(sink_.Decisions().back().reason, Reason::kUncertain);
    EXPECT_NEAR(sink_.Decisions().back().predicted_upload_s, 1, shared ? 0.1 : 0.4);
    for (const QueryId id : {first, second}) engine_->Handle(CancelQuery{id}, now_);
  }
}

TEST_F(UplinkTest, ADecisionTellsHowLongItsQueryWaited) {
  SubmitUnlinked(1, 0.9);
  Advance(2 * kMs);
  EXPECT_DOUBLE_EQ(sink_.Decisions().back().queue_s, 0.002);
}

TEST(UplinkTable, IsBounded) {
  UplinkTable uplinks;
  MonotonicTime now = MonotonicTime::FromOrigin(absl::Seconds(5));
  for (size_t k = 0; k <= UplinkTable::kMostDevices; ++k) {
    uplinks.Add(absl::StrCat("device ", k), 1e6, 1, 1, now = now + absl::Microseconds(10));
    if (k % 100 == 0) uplinks.Add("device 1", 1e6, 1, 1, now);  // the latest uploads are kept
  }
  EXPECT_EQ(uplinks.Of("device 0", now).samples, 0u);
  EXPECT_GT(uplinks.Of("device 1", now).samples, 100u);
  EXPECT_EQ(uplinks.Of("device 3", now).samples, 1u);
  uplinks.Refresh(now);
  EXPECT_EQ(uplinks.median().samples, UplinkTable::kMostDevices);
}

TEST_F(EngineTest, WhenSlotsAreShortTenantsShareThemAndAFloodDoesNotStarveTheOther) {
  config_.tenants.resize(2);
  config_.tenants[0].name = "flood";
  config_.tenants[1].name = "other";
  Restart();
  engine_->Handle(SiteHealth{SiteIndex{0}, 1, 4}, now_);
  const auto ask = [&](uint64_t session, const char* tenant) {
    tenant_ = tenant;
    return Submit(session, 0.95);
  };
  for (uint64_t s = 1; s <= 10; ++s) ask(s, "flood");
  for (uint64_t s = 11; s <= 12; ++s) ask(s, "other");
  Advance(3 * kMs);
  int flood = 0, other = 0;
  for (const DecisionEvent& d : sink_.Decisions())
    (static_cast<uint64_t>(d.id) <= 10 ? flood : other) += d.verdict == Verdict::kOffload;
  EXPECT_EQ(flood, 2);
  EXPECT_EQ(other, 2);
}

// 8 slots that take 20 ms: 400 answers a second. "other" asks 150 a second of which all could be answered; "flood" asks
// 4,000.
TEST_F(EngineTest, AFloodingTenantCostsAnotherAtMostATenthOfItsGoodput) {
  config_.tenants.resize(2);
  config_.tenants[0].name = "flood";
  config_.tenants[1].name = "other";
  const auto goodput = [&](bool with_flood) {
    sink_ = {};
    dispatch_ = {};
    Restart();
    engine_->Handle(SiteHealth{SiteIndex{0}, 1, 8}, now_);
    std::map<QueryId, std::string> tenant_of;
    std::deque<std::pair<MonotonicTime, QueryId>> running;
    size_t started = 0;
    uint64_t session = 1;
    std::map<std::string, int> answered;
    for (int ms = 0; ms < 4000; ++ms) {
      for (int k = 0; k < (with_flood ? 4 : 0); ++k) {
        tenant_ = "flood";
        tenant_of[Submit(session++, 0.95, 0)] = tenant_;
      }
      if (ms % 20 < 3) {
        tenant_ = "other";
        tenant_of[Submit(session++, 0.95, 0)] = tenant_;
      }
      Advance(kMs);
      for (; started < dispatch_.started.size(); ++started) {
        running.emplace_back(now_ + 20 * kMs, dispatch_.started[started].id);
      }
      for (; !running.empty() && running.front().first <= now_; running.pop_front()) {
        ++answered[tenant_of.at(running.front().second)];
        engine_->Handle(QueryDone{running.front().second, DispatchOutcome::kCompleted, 1}, now_);
      }
    }
    return answered;
  };
  const auto alone = goodput(false), flooded = goodput(true);
  EXPECT_GE(alone.at("other"), 590);  // of 600
  EXPECT_GE(flooded.at("other"), 0.9 * alone.at("other"));
  EXPECT_GE(flooded.at("flood"), 900) << "what the other leaves is not wasted";
}

TEST_F(EngineTest, ATenantsOwnCapsHold) {
  config_.tenants.resize(2);
  config_.tenants[0].name = "few";
  config_.tenants[0].max_queries = 1;
  config_.tenants[1].name = "modest";
  config_.tenants[1].max_offloaded_share = 0.25;
  config_.limits.mandatory_wait = absl::ZeroDuration();
  Restart();
  engine_->Handle(SiteHealth{SiteIndex{0}, 1, 100}, now_);
  tenant_ = "few";
  for (uint64_t s = 1; s <= 4; ++s) Submit(s, 0.5);
  Advance(3 * kMs);
  int offloaded = 0;
  for (const DecisionEvent& d : sink_.Decisions()) {
    offloaded += d.verdict == Verdict::kOffload;
    EXPECT_TRUE(d.verdict == Verdict::kOffload || d.reason == Reason::kQuota);
    EXPECT_EQ(d.retry_after_s > 0, d.reason == Reason::kQuota) << "who is refused for now is told when";
  }
  EXPECT_EQ(offloaded, 1);
  sink_.events.clear();
  tenant_ = "modest";  // says that it is unsure of everything
  for (uint64_t s = 10; s < 50; ++s) {
    Submit(s, 1.0);
    Advance(3 * kMs);
  }
  offloaded = 0;
  for (const DecisionEvent& d : sink_.Decisions()) offloaded += d.verdict == Verdict::kOffload;
  EXPECT_NEAR(offloaded, 10, 1);  // a quarter; the counts fade
}

// GOA looks at the newcomer alone; goa-relocate sees that the query that runs would lose more than the newcomer gains.
TEST_F(EngineTest, GoaServesByDefaultAndGoaRelocateAfterASwitchBetweenEpochs) {
  ComputeConfig& compute = config_.sites[0].compute;
  compute.model = sched::ComputeModel::kEqualShare;
  compute.capacity_flops = 100;
  config_.policy.lambda_s = 0;
  Restart();
  EXPECT_EQ(Status().policy, "goa");
  engine_->Handle(LinkUpdate{SessionId{1}, {{SiteIndex{0}, sched::kUnknown, 1e6, now_}}}, now_);
  SubmitQuery large{SessionId{1}, QueryId{100}};
  large.meta.uncertainty = 0.5;
  large.meta.local_delay_s = 1000;
  large.meta.edge_work_flop = 10000;
  large.received = now_;
  large.inline_prompt = std::make_shared<PromptBody>();
  engine_->Handle(std::move(large), now_);
  Advance(3 * kMs);
  ASSERT_EQ(dispatch_.started.size(), 1u);
  const auto ask = [&](uint64_t session) {
    Submit(session);
    Advance(3 * kMs);
    return sink_.Decisions().back().verdict;
  };
  EXPECT_EQ(ask(2), Verdict::kOffload);
  engine_->Handle(CancelQuery{QueryId{1}}, now_);
  engine_->Handle(SetPolicy{"goa-relocate"}, now_);
  EXPECT_EQ(ask(3), Verdict::kLocal);
  engine_->Handle(SetPolicy{"goa"}, now_);
  EXPECT_EQ(ask(4), Verdict::kOffload);
}

TEST_F(EngineTest, StaleLinksAreNotUsed) {
  UseRadio();
  Submit(1);
  Advance(3 * kMs);
  engine_->Handle(PromptReady{QueryId{1}, std::make_shared<PromptBody>()}, now_);
  now_ = now_ + absl::Seconds(3);
  SubmitQuery submit;
  submit.session = SessionId{1};
  submit.id = QueryId{next_id_++};
  submit.meta.prompt_bits = 800;
  submit.meta.max_output_tokens = 1;
  submit.meta.local_delay_s = 1;
  submit.received = now_;
  engine_->Handle(std::move(submit), now_);
  Advance(3 * kMs);
  EXPECT_EQ(sink_.Decisions().back().reason, Reason::kLinkStale);
}

TEST(Inbox, RefusesSubmitsWhenFullAndNothingElse) {
  Inbox inbox(2);
  EXPECT_TRUE(inbox.Push(SubmitQuery{}));
  EXPECT_TRUE(inbox.Push(SubmitQuery{}));
  EXPECT_FALSE(inbox.Push(SubmitQuery{}));
  EXPECT_TRUE(inbox.Push(QueryDone{}));
  EXPECT_EQ(inbox.Drain(MonotonicTime()).size(), 3u);
  EXPECT_TRUE(inbox.Push(SubmitQuery{}));
}

TEST(Inbox, KeepsTheLatestLinkPerSessionAndSite) {
  Inbox inbox(2);
  const LinkMeasurement a{SiteIndex{0}, 1, 0, {}}, b{SiteIndex{1}, 2, 0, {}}, a2{SiteIndex{0}, 3, 0, {}};
  inbox.Push(LinkUpdate{SessionId{1}, {a}});
  inbox.Push(LinkUpdate{SessionId{1}, {b, a2}});
  inbox.Push(LinkUpdate{SessionId{2}, {a}});
  const std::vector<Event> events = inbox.Drain(MonotonicTime());
  ASSERT_EQ(events.size(), 2u);
  const auto& merged = std::get<LinkUpdate>(events[0]).links;
  ASSERT_EQ(merged.size(), 2u);
  EXPECT_EQ(merged[0].gain, 3);
  EXPECT_EQ(merged[1].gain, 2);
}

TEST(SnapshotBuilder, CarriesLoadInterferenceAndUnits) {
  Config config;
  for (const char* name : {"a", "b"}) {
    SiteConfig site;
    site.name = name;
    site.uplink.model = sched::UplinkModel::kShannon;
    site.backends.resize(2);
    site.max_queries = 3;
    config.sites.push_back(site);
  }
  const MonotonicTime now = MonotonicTime::FromOrigin(absl::Seconds(10));
  SiteTable sites(2);
  sites[0] = {.backends_up = 2, .slots = 8, .active_queries = 1, .active_uplinks = 1};
  sites[1] = {.backends_up = 1, .slots = 2};
  LinkTable links;
  links.Update(
      {SessionId{1}, {{SiteIndex{0}, 1e-9, sched::kUnknown, now}, {SiteIndex{1}, 2e-9, sched::kUnknown, now}}});
  Query uploading;
  uploading.session = SessionId{1};
  uploading.site = SiteIndex{0};
  uploading.state = QueryState::kGranted;
  uploading.decided = now - absl::Seconds(1);
  uploading.predicted_upload_s = 4;
  uploading.meta.prompt_bits = 8;
  uploading.meta.tx_power_w = 0.5;
  Query running = uploading;
  running.site = SiteIndex{1};
  running.state = QueryState::kRunning;
  running.dispatched = now - absl::Seconds(1);
  running.predicted_compute_s = 2;
  running.expected_output_tokens = 4;
  Query asking = uploading;
  asking.id = QueryId{7};
  asking.received = now - absl::Seconds(1);
  asking.meta.deadline = absl::Seconds(3);
  asking.expected_output_tokens = 4;
  const std::vector<const Query*> candidates = {&asking}, residents = {&uploading, &running};
  const sched::EpochSnapshot s = BuildSnapshot({config, 0.3, 5, sites, links, {}, candidates, residents}, now);
  EXPECT_NEAR(s.sites[0].noise_w, 1e8 * std::pow(10, -20.4), 1e-20);  // -174 dBm/Hz over 100 MHz
  EXPECT_EQ(s.sites[0].max_queries, 3);
  EXPECT_EQ(s.sites[1].max_queries, 2);  // the slots of the backends that are up
  EXPECT_EQ(s.sites[0].backends, 2);
  EXPECT_EQ(s.sites[0].active_uplinks, 1);
  EXPECT_EQ(s.sites[0].resident_interference_w, 0);
  EXPECT_DOUBLE_EQ(s.sites[1].resident_interference_w, 0.5 * 2e-9);
  EXPECT_DOUBLE_EQ(s.candidates[0].deadline_s, 2);
  EXPECT_EQ(s.candidates[0].expected_output_tokens, 4);
  EXPECT_EQ(s.Gain(0, 1), 2e-9);
  EXPECT_EQ(s.tau, 0.3);
  ASSERT_EQ(s.residents.size(), 2u);  // what is left of them by the predictions
  EXPECT_EQ(s.residents[0].site, SiteIndex{0});
  EXPECT_DOUBLE_EQ(s.residents[0].query.prompt_bits, 8 * 0.75);
  EXPECT_EQ(s.residents[0].gain, 1e-9);
  EXPECT_EQ(s.residents[1].query.prompt_bits, 0);
  EXPECT_DOUBLE_EQ(s.residents[1].query.expected_output_tokens, 4 * 0.5);
  EXPECT_TRUE(sched::CheckSnapshot(s).ok()) << sched::CheckSnapshot(s);
}

// --- output lengths --------------------------------------------------------------------------------------------------

class OutputLengthsTest : public testing::Test {
 protected:
  static QueryMeta Like(const std::string& tenant, const std::string& kind = "", int max_output_tokens = 1000) {
    QueryMeta meta;
    meta.tenant = tenant;
    meta.kind = kind;
    meta.max_output_tokens = max_output_tokens;
    return meta;
  }
  void Answer(const QueryMeta& meta, int tokens, int times = 100) {
    for (int k = 0; k < times; ++k) lengths_.Add(meta, tokens, now_);
  }
  double Expected(const QueryMeta& meta) const { return lengths_.Expect(meta, now_); }

  OutputLengths lengths_;
  MonotonicTime now_ = MonotonicTime::FromOrigin(absl::Seconds(1000));
};

TEST_F(OutputLengthsTest, TenantKindAndMaximumEachHaveTheirs) {
  Answer(Like("a"), 10), Answer(Like("b"), 400);
  Answer(Like("a", "summary"), 200), Answer(Like("a", "", 100), 90);
  EXPECT_NEAR(Expected(Like("a")), 10, 15);
  EXPECT_NEAR(Expected(Like("b")), 400, 25);
  EXPECT_NEAR(Expected(Like("a", "summary")), 200, 15);
  EXPECT_NEAR(Expected(Like("a", "", 100)), 90, 10);
  EXPECT_EQ(Expected(Like("a", "", 65)), 65);                    // 64..127 are alike, but no more than its own maximum
  EXPECT_EQ(Expected(Like("a")), Expected(Like("a", "", 513)));  // 512..1023
  EXPECT_NE(Expected(Like("a")), Expected(Like("a", "", 1024)));
}

TEST_F(OutputLengthsTest, FewAnswersAreShrunkToTheMeanOverAll) {
  EXPECT_EQ(Expected(Like("a")), 64);  // nothing is known
  Answer(Like("a"), 10);
  const double over_all = Expected(Like("new"));
  EXPECT_NEAR(over_all, 10, 5);
  Answer(Like("new"), 200, 1);
  EXPECT_GT(Expected(Like("new")), over_all + 20);
  EXPECT_LT(Expected(Like("new")), 100);  // one answer is not believed
  Answer(Like("new"), 200, 20);
  EXPECT_NEAR(Expected(Like("new")), 200, 40);
}

TEST_F(OutputLengthsTest, ADevicesOwnStatementWins) {
  Answer(Like("a"), 10);
  QueryMeta said = Like("a");
  said.expected_output_tokens = 300;
  EXPECT_EQ(Expected(said), 300);
  said.expected_output_tokens = 0;
  EXPECT_EQ(Expected(said), 0);
}

TEST_F(OutputLengthsTest, WhatABackendClaimsBeyondWhatWasAskedDoesNotCount) {
  Answer(Like("a", "", 20), 1 << 30), Answer(Like("b", "", 20), -5);
  EXPECT_NEAR(Expected(Like("new")), 10, 10);
  EXPECT_LE(Expected(Like("a", "", 20)), 20);
  EXPECT_GE(Expected(Like("b", "", 20)), 0);
}

TEST_F(OutputLengthsTest, ALengthThatChangesIsFollowed) {
  Answer(Like("a"), 10), Answer(Like("a"), 100);
  EXPECT_NEAR(Expected(Like("a")), 100, 20);
}

// What was once thought long is asked again some time.
TEST_F(OutputLengthsTest, WithoutAnswersItReturnsToWhereItBegan) {
  Answer(Like("a"), 900), Answer(Like("b"), 10);
  now_ = now_ + absl::Minutes(1);
  EXPECT_NEAR(Expected(Like("a")), 900, 100);
  now_ = now_ + absl::Minutes(4);
  Answer(Like("b"), 10, 1000);
  now_ = now_ + absl::Minutes(5);
  EXPECT_NEAR(Expected(Like("a")), 10, 10);  // the mean over all
  now_ = now_ + absl::Minutes(6);
  EXPECT_EQ(Expected(Like("a")), 64);
}

TEST_F(OutputLengthsTest, ItsMemoryIsBounded) {
  Answer(Like("a"), 300);
  for (size_t k = 0; k < OutputLengths::kMostLikes; ++k) Answer(Like(absl::StrCat("tenant ", k)), 10, 1);
  EXPECT_NEAR(Expected(Like("a")), 10, 5);  // forgotten, but for the mean over all
}

TEST_F(LearningTest, LengthsOfAnswersAreExpectedOfTheNext) {
  Record();
  SubmitQuery submit;
  submit.session = SessionId{1};
  submit.meta.uncertainty = 0.5;
  submit.meta.max_output_tokens = 1000;
  submit.meta.local_delay_s = 1000;
  submit.inline_prompt = std::make_shared<PromptBody>();
  const auto ask = [&] {
    submit.id = QueryId{next_id_++};
    submit.received = now_;
    engine_->Handle(submit, now_);
    Advance(3 * kMs);
    engine_->Handle(QueryDone{submit.id, DispatchOutcome::kCompleted, 8}, now_);
    return outcomes_.back().expected_output_tokens;
  };
  EXPECT_EQ(ask(), 64);
  for (int k = 0; k < 50; ++k) ask();
  EXPECT_NEAR(ask(), 8, 3);
}

}  // namespace
}  // namespace goad::server
