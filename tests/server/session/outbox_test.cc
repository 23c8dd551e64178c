#include "server/session/outbox.h"

#include "gtest/gtest.h"
#include "prometheus/registry.h"
#include "prometheus/text_serializer.h"
#include "server/session/query_memory.h"

namespace goad::server {
namespace {

class OutboxTest : public testing::Test {
 protected:
  void Open(uint64_t id, const std::string& name) {
    Outbox::Slot slot;
    slot.id = QueryId{id};
    slot.query_id = name;
    slot.prompt_bytes = 100;
    ASSERT_EQ(outbox_.OpenSlot(slot), Outbox::Opened::kOpen);
  }
  Delivery Put(const SessionEvent& event) { return outbox_.Put(event, {}).delivery; }
  Delivery Text(uint64_t id, uint64_t offset, const std::string& text) {
    TokensEvent event;
    event.id = QueryId{id};
    event.text_offset = offset;
    event.text = text;
    event.tokens = 1;
    return Put(event);
  }
  Delivery Done(uint64_t id) {
    CompletedEvent event;
    event.id = QueryId{id};
    return Put(event);
  }
  Delivery Decide(uint64_t id, double upload_within_s) {
    DecisionEvent event;
    event.id = QueryId{id};
    event.verdict = upload_within_s > 0 ? sched::Verdict::kOffload : sched::Verdict::kLocal;
    event.upload_within_s = upload_within_s;
    return Put(event);
  }
  // The next frame, written and done; "" when there is none, "finish" at the end.
  std::string Next() {
    const Outbox::Step step = outbox_.Next();
    if (step.kind == Outbox::Step::kFinish) return "finish";
    if (step.kind == Outbox::Step::kNothing) return "";
    EXPECT_EQ(outbox_.Next().kind, Outbox::Step::kNothing) << "two writes at once";
    outbox_.WriteDone();
    switch (step.frame->frame_case()) {
      case v1::ServerFrame::kDecision: return "decision " + step.frame->decision().query_id();
      case v1::ServerFrame::kTokens: return step.frame->tokens().text();
      case v1::ServerFrame::kCompleted: return "completed " + step.frame->completed().query_id();
      case v1::ServerFrame::kFailed: return "failed " + step.frame->failed().query_id();
      case v1::ServerFrame::kCancelled: return "cancelled " + step.frame->cancelled().query_id();
      default: return "other";
    }
  }

  Metrics metrics_{{{"a"}, {{"u"}}}};
  OutboxBudget budget_;
  Outbox outbox_{10000 + 2 * Outbox::kSlotBytes, &metrics_, &budget_};
};

TEST_F(OutboxTest, TheFirstTerminalWinsAndLaterOnesAreDropped) {
  Open(1, "q");
  EXPECT_EQ(Done(1), Delivery::kAccepted);
  EXPECT_EQ(Put(CancelledEvent{QueryId{1}}), Delivery::kDropped);
  EXPECT_EQ(Text(1, 0, "late"), Delivery::kDropped);
  EXPECT_EQ(Done(2), Delivery::kDropped);
  EXPECT_EQ(Next(), "completed q");
  EXPECT_EQ(Next(), "");
}

TEST_F(OutboxTest, AtMostOneDecision) {
  Open(1, "q");
  EXPECT_EQ(Decide(1, 5), Delivery::kAccepted);
  EXPECT_EQ(Decide(1, 5), Delivery::kDropped);
  EXPECT_EQ(outbox_.FindSlot("q")->state, Outbox::SlotState::kGranted);
  EXPECT_TRUE(outbox_.TakePrompt(QueryId{1}));
  EXPECT_FALSE(outbox_.TakePrompt(QueryId{1}));
  Open(2, "local");
  EXPECT_EQ(Decide(2, 0), Delivery::kAccepted);
  EXPECT_FALSE(outbox_.FindSlot("local").has_value());  // LOCAL is terminal
}

TEST_F(OutboxTest, DecisionsOvertakeTokensButATerminalWaitsBehindItsOwn) {
  Open(1, "q"), Open(2, "r");
  Text(1, 0, "he");
  Text(1, 2, "llo");  // joins what waits
  Done(1);
  Decide(2, 5);
  EXPECT_EQ(Next(), "decision r");
  EXPECT_EQ(Next(), "hello");
  EXPECT_EQ(Next(), "completed q");
}

TEST_F(OutboxTest, PausesAtHalfAndResumesWhenDrained) {
  Open(1, "q");
  EXPECT_EQ(Text(1, 0, std::string(4000, 'x')), Delivery::kAccepted);
  EXPECT_EQ(Text(1, 4000, std::string(4000, 'x')), Delivery::kPause);
  const Outbox::Step step = outbox_.Next();
  EXPECT_TRUE(step.resume);
  outbox_.WriteDone();
  EXPECT_EQ(Text(1, 8000, "x"), Delivery::kAccepted);
}

TEST_F(OutboxTest, BeyondItsBoundTheQueryFailsAsSlowConsumer) {
  Open(1, "q");
  Text(1, 0, std::string(9000, 'x'));
  EXPECT_EQ(Text(1, 9000, std::string(4000, 'x')), Delivery::kDropped);
  EXPECT_EQ(Done(1), Delivery::kDropped);
  EXPECT_EQ(Next().size(), 9000u);
  EXPECT_EQ(Next(), "failed q");
  EXPECT_EQ(outbox_.bytes(), 0);
}

TEST_F(OutboxTest, HalfCloseFinishesAfterTheLastQuery) {
  Open(1, "q");
  outbox_.HalfClose();
  EXPECT_EQ(Next(), "");
  Done(1);
  EXPECT_EQ(Next(), "completed q");
  EXPECT_EQ(Next(), "finish");
  EXPECT_EQ(Next(), "");  // once
}

TEST_F(OutboxTest, CloseDropsEverythingAndFinishesWhenTheWriteInFlightIsDone) {
  Open(1, "q");
  Text(1, 0, "x");
  ASSERT_EQ(outbox_.Next().kind, Outbox::Step::kWrite);
  outbox_.Close(std::nullopt, MonotonicTime());
  EXPECT_EQ(outbox_.Next().kind, Outbox::Step::kNothing);
  outbox_.WriteDone();
  EXPECT_EQ(outbox_.Next().kind, Outbox::Step::kFinish);
  EXPECT_EQ(Done(1), Delivery::kDropped);
  Outbox::Slot slot;
  EXPECT_EQ(outbox_.OpenSlot(slot), Outbox::Opened::kClosed);
}

TEST_F(OutboxTest, AQueryIsCountedAsLostOnlyWhenItsStreamEndsBeforeItsTerminal) {
  Open(1, "answered");
  Open(2, "asked");
  Open(3, "granted");
  DecisionEvent granted;
  granted.id = QueryId{3};
  granted.verdict = sched::Verdict::kOffload;
  granted.site = sched::SiteIndex{0};
  granted.upload_within_s = 1;
  ASSERT_EQ(outbox_.Put(granted, std::vector<SiteConfig>(1)).delivery, Delivery::kAccepted);
  Done(1);
  outbox_.Close(std::nullopt, MonotonicTime::FromOrigin(absl::Seconds(2)));
  Done(2);  // too late, and not counted a second time
  outbox_.Close(std::nullopt, MonotonicTime::FromOrigin(absl::Seconds(3)));
  const std::string page = prometheus::TextSerializer().Serialize(metrics_.page()->Collect());
  EXPECT_NE(page.find("goad_request_duration_seconds_count{outcome=\"lost\",site=\"\"} 1\n"), std::string::npos)
      << page;
  EXPECT_NE(page.find("goad_request_duration_seconds_sum{outcome=\"lost\",site=\"\"} 2\n"), std::string::npos) << page;
  EXPECT_NE(page.find("goad_request_duration_seconds_count{outcome=\"lost\",site=\"a\"} 1\n"), std::string::npos)
      << page;
}

TEST_F(OutboxTest, ASlotIsOpenedOnlyWithRoomForItsDecisionAndItsTerminal) {
  for (uint64_t id = 1; outbox_.bytes() + Outbox::kSlotBytes <= 10000 + 2 * Outbox::kSlotBytes; ++id)
    Open(id, std::to_string(id));
  Outbox::Slot slot;
  slot.id = QueryId{99};
  EXPECT_EQ(outbox_.OpenSlot(slot), Outbox::Opened::kNoRoom);
  // The largest that a decision and a terminal can be fit into what was set aside for them.
  DecisionEvent decision;
  decision.id = QueryId{1};
  decision.verdict = sched::Verdict::kOffload;
  decision.upload_within_s = 5;
  CompletedEvent completed;
  completed.id = QueryId{1};
  completed.finish_reason = std::string(32, 'x');
  completed.backend = std::string(128, 'x');
  const int64_t before = outbox_.bytes();
  Put(decision);
  Put(completed);
  EXPECT_LE(outbox_.bytes(), before);
}

TEST_F(OutboxTest, WhileTheBudgetOfAllIsUsedUpAnswersThatAreNotReadAreGivenUp) {
  Outbox large(1 << 20, &metrics_, &budget_);
  Outbox::Slot slot;
  slot.id = QueryId{1};
  ASSERT_EQ(large.OpenSlot(slot), Outbox::Opened::kOpen);
  budget_.most = 4 * Outbox::kFairBytes;
  budget_.bytes = budget_.most + 1;  // what others hold
  Open(1, "small");
  EXPECT_EQ(Text(1, 0, std::string(4000, 'x')), Delivery::kAccepted);  // below its fair part: as ever
  TokensEvent event;
  event.id = QueryId{1};
  event.text = std::string(Outbox::kFairBytes, 'x');
  EXPECT_EQ(large.Put(event, {}).terminal, Terminal::kDeviceFailed);
  EXPECT_TRUE(outbox_.PutIfRoom(std::make_shared<const v1::ServerFrame>()));  // and so is what it asks again
  budget_.bytes -= budget_.most + 1;
  EXPECT_TRUE(outbox_.PutIfRoom(std::make_shared<const v1::ServerFrame>()));
}

TEST_F(OutboxTest, AFailureIsOfTheEdgeOrOfTheDevice) {
  const std::pair<ErrorCode, Terminal> cases[] = {{ErrorCode::kUnavailable, Terminal::kFailed},
                                                  {ErrorCode::kInternal, Terminal::kFailed},
                                                  {ErrorCode::kDeadlineExceeded, Terminal::kFailed},
                                                  {ErrorCode::kInvalidArgument, Terminal::kDeviceFailed},
                                                  {ErrorCode::kFailedPrecondition, Terminal::kDeviceFailed},
                                                  {ErrorCode::kGrantExpired, Terminal::kDeviceFailed}};
  uint64_t id = 1;
  for (const auto& [code, terminal] : cases) {
    Open(id, "q" + std::to_string(id));
    FailedEvent failed{QueryId{id++}};
    failed.error = MakeError(code, "ANY", "", "");
    EXPECT_EQ(outbox_.Put(failed, {}).terminal, terminal) << static_cast<int>(code);
  }
}

TEST_F(OutboxTest, GoodbyeAnswersWhatCrossesItAndEndsWithAStatusUnlessTheDeviceHalfCloses) {
  outbox_.SayGoodbye(v1::ServerFrame(), {ErrorCode::kUnavailable, "DRAINING", "", "", 1});
  EXPECT_TRUE(outbox_.leaving());
  EXPECT_EQ(Next(), "other");
  Open(1, "crossed");
  Decide(1, 0);
  EXPECT_EQ(Next(), "decision crossed");
  EXPECT_EQ(Next(), "");  // more may be on their way
  outbox_.EndGoodbye();
  const Outbox::Step last = outbox_.Next();
  EXPECT_EQ(last.kind, Outbox::Step::kFinish);
  EXPECT_EQ(last.error->reason, "DRAINING");
  Outbox::Slot slot;
  EXPECT_EQ(outbox_.OpenSlot(slot), Outbox::Opened::kClosed);
}

TEST(QueryMemory, RemembersForSixtySecondsAndForgetsLostStreams) {
  QueryMemory memory(2);
  const SessionId one{1}, two{2};
  MonotonicTime now;
  using Recall = QueryMemory::Recall;
  EXPECT_EQ(memory.Begin(QueryMemory::Key("me", "q"), 7, one, now).recall, Recall::kNew);
  EXPECT_EQ(memory.Begin(QueryMemory::Key("you", "q"), 8, two, now).recall,
            Recall::kNew);  // ids are scoped to the caller
  EXPECT_EQ(memory.Begin(QueryMemory::Key("me", "q"), 7, one, now).recall, Recall::kLive);
  EXPECT_EQ(memory.Begin(QueryMemory::Key("me", "q"), 9, one, now).recall, Recall::kConflict);
  EXPECT_EQ(memory.Begin(QueryMemory::Key("me", "q"), 7, two, now).recall, Recall::kElsewhere);
  v1::ServerFrame completed;
  completed.mutable_completed()->set_query_id("q");
  const auto frame = std::make_shared<const v1::ServerFrame>(completed);
  memory.Decided(QueryMemory::Key("me", "q"), std::make_shared<const v1::ServerFrame>());
  memory.Finish(QueryMemory::Key("me", "q"), frame, now);
  const auto again = memory.Begin(QueryMemory::Key("me", "q"), 7, two, now + absl::Seconds(59));
  EXPECT_EQ(again.recall, Recall::kFinished);
  EXPECT_TRUE(again.frame->has_completed());
  EXPECT_EQ(memory.Begin(QueryMemory::Key("me", "q"), 9, two, now + absl::Seconds(61)).recall, Recall::kNew);
  memory.ForgetLive(two);
  EXPECT_EQ(memory.Begin(QueryMemory::Key("you", "q"), 5, one, now).recall, Recall::kNew);
  // There was no room for it: as if it had not been asked.
  EXPECT_EQ(memory.Begin(QueryMemory::Key("me", "later"), 1, one, now).recall, Recall::kNew);
  memory.Forget(QueryMemory::Key("me", "later"));
  EXPECT_EQ(memory.Begin(QueryMemory::Key("me", "later"), 2, one, now).recall, Recall::kNew);
  // Refused for now: the same answer until then, then a question like any other.
  memory.Refused(QueryMemory::Key("me", "later"), frame, now + absl::Seconds(1));
  EXPECT_EQ(memory.Begin(QueryMemory::Key("me", "later"), 2, one, now + absl::Milliseconds(999)).recall,
            Recall::kFinished);
  EXPECT_EQ(memory.Begin(QueryMemory::Key("me", "later"), 2, one, now + absl::Seconds(1)).recall, Recall::kNew);
  // Bounded: the oldest finished one goes first.
  for (const char* id : {"a", "b", "c"}) {
    memory.Begin(QueryMemory::Key("me", id), 1, one, now);
    memory.Finish(QueryMemory::Key("me", id), frame, now);
  }
  EXPECT_EQ(memory.Begin(QueryMemory::Key("me", "a"), 1, one, now).recall, Recall::kNew);
  EXPECT_EQ(memory.Begin(QueryMemory::Key("me", "c"), 1, one, now).recall, Recall::kFinished);
}

TEST_F(OutboxTest, CallsOfToolsAndThoughtsJoinAndCount) {
  Open(1, "q");
  const int64_t before = outbox_.bytes();
  const auto put = [&](const std::string& reasoning, std::vector<openai::ToolCallPiece> calls) {
    TokensEvent event;
    event.id = QueryId{1};
    event.reasoning = reasoning;
    event.tool_calls = std::move(calls);
    return Put(event);
  };
  put("h", {});
  put("m", {{0, "c1", "weather", ""}});
  put("", {{0, "", "", "{\"a\":"}, {1, "c2", "time", ""}});
  put("", {{0, "", "", "1}"}});
  // The first frame as it is on the wire and 96; then its text, and 224 for each piece that begins.
  const int64_t joined = 1 + 2 + 7 + 5 + 2 + 4 + 2 + 3 * 224;
  EXPECT_GE(outbox_.bytes() - before, joined);
  EXPECT_LE(outbox_.bytes() - before, joined + 96 + 32);
  const Outbox::Step step = outbox_.Next();
  ASSERT_EQ(step.kind, Outbox::Step::kWrite);
  const v1::Tokens& tokens = step.frame->tokens();
  EXPECT_EQ(tokens.reasoning(), "hm");
  ASSERT_EQ(tokens.tool_calls_size(), 3);
  EXPECT_EQ(tokens.tool_calls(0).name() + tokens.tool_calls(0).arguments(), "weather{\"a\":");
  EXPECT_EQ(tokens.tool_calls(1).id(), "c2");
  EXPECT_EQ(tokens.tool_calls(2).arguments(), "1}") << "order is kept";
  outbox_.WriteDone();
  EXPECT_EQ(outbox_.Next().kind, Outbox::Step::kNothing) << "they joined";
  // Pieces that alternate never join: what they take is counted, not what they say.
  int taken = 0;
  while (put("", {{taken % 2, "", "", "x"}}) != Delivery::kDropped && taken < 1000) ++taken;
  EXPECT_LT(taken, (10000 + 2 * Outbox::kSlotBytes) / 224);
}

}  // namespace
}  // namespace goad::server
