#include "client_sdk/src/client_core.h"

#include <algorithm>
#include <cmath>

#include "client_sdk/src/checks.h"
#include "client_sdk/src/wire.h"
#include "gtest/gtest.h"

namespace goad::internal {
namespace {

class ClientCoreTest : public testing::Test {
 protected:
  ClientCoreTest() : core_(Listening(), 1) {
    core_.Tick(now_);
    Collect();
  }
  static ClientOptions Options() {
    ClientOptions options;
    options.device_name = "d";
    options.between_tokens_budget = absl::Seconds(30);
    return options;
  }
  ClientOptions Listening() {
    ClientOptions options = Options();
    options.on_problem = [this](const Problem& problem) { problems_.push_back(problem); };
    return options;
  }
  void Collect() {
    for (Action& action : core_.TakeActions()) {
      if (auto* open = std::get_if<OpenStream>(&action)) generation_ = open->generation;
      if (auto* send = std::get_if<SendFrame>(&action)) sent_.push_back(send->frame);
      if (auto* notify = std::get_if<Notify>(&action)) notify->call();
    }
  }
  static Query Unsure() {
    Query query;
    query.uncertainty = 0.9;
    query.prompt = "why?";
    return query;
  }
  std::string Ask(AskCallbacks callbacks = {}, Query query = Unsure()) {
    callbacks.on_done = [this](const Answer& answer) { answers_.push_back(answer); };
    const std::string id = core_.Ask(
        query, std::move(callbacks), [] {}, now_);
    Collect();
    return id;
  }
  void Frame(const v1::ServerFrame& frame) {
    core_.OnFrame(generation_, frame, now_);
    Collect();
  }
  void Welcome(uint32_t queries_per_session = 0) {
    v1::ServerFrame frame;
    frame.mutable_welcome()->add_sites()->set_name("a");
    frame.mutable_welcome()->mutable_limits()->set_queries_per_session(queries_per_session);
    Frame(frame);
  }
  void Decide(const std::string& id, bool offload) {
    v1::ServerFrame frame;
    frame.mutable_decision()->set_query_id(id);
    frame.mutable_decision()->set_verdict(offload ? v1::VERDICT_OFFLOAD : v1::VERDICT_LOCAL);
    frame.mutable_decision()->set_reason(offload ? v1::REASON_UNCERTAIN : v1::REASON_NO_GAIN);
    Frame(frame);
  }
  void Text(const std::string& id, uint64_t offset, const std::string& text) {
    v1::ServerFrame frame;
    frame.mutable_tokens()->set_query_id(id);
    frame.mutable_tokens()->set_text_offset(offset);
    frame.mutable_tokens()->set_text(text);
    Frame(frame);
  }
  // A whole answer has a Tokens frame at least.
  void CompleteEmpty(const std::string& id) {
    Text(id, 0, "");
    Complete(id, 0);
  }
  void Complete(const std::string& id, uint64_t bytes) {
    v1::ServerFrame frame;
    frame.mutable_completed()->set_query_id(id);
    frame.mutable_completed()->set_text_bytes(bytes);
    Frame(frame);
  }
  void Advance(absl::Duration by) {
    now_ += by;
    core_.Tick(now_);
    Collect();
  }
  void Lose() {
    core_.OnStreamLost(generation_, "gone", now_);
    Collect();
  }

  Instant now_ = absl::Seconds(1);
  ClientCore core_;
  uint64_t generation_ = 0;
  std::vector<v1::DeviceFrame> sent_;
  int Queries() const {
    int count = 0;
    for (const v1::DeviceFrame& frame : sent_) count += frame.has_query();
    return count;
  }
  std::vector<Answer> answers_;
  std::vector<Problem> problems_;
};

TEST_F(ClientCoreTest, AnAnswerMayBeCallsOfTools) {
  Welcome();
  Query query = Unsure();
  query.prompt.clear();
  query.messages_json = {R"({"role":"user","content":"weather?"})"};
  query.options_json = R"({"tools":[{"type":"function"}]})";
  query.reasoning = true;
  std::string streamed;
  AskCallbacks callbacks;
  callbacks.on_piece = [&](const AnswerPiece& piece) {
    streamed += piece.reasoning;
    for (const auto& [index, call] : piece.tool_calls) streamed += std::to_string(index) + call.name + call.arguments;
  };
  const std::string id = Ask(std::move(callbacks), query);
  EXPECT_EQ(sent_.back().query().prompt_kind(), v1::PROMPT_KIND_CHAT);
  EXPECT_TRUE(sent_.back().query().needs_tools()) << "the app need not say so";
  EXPECT_FALSE(sent_.back().query().needs_images());
  EXPECT_EQ(sent_.back().query().prompt_bits(), 8 * (query.messages_json[0].size() + query.options_json.size()));
  Decide(id, true);
  EXPECT_EQ(sent_.back().prompt().chat().messages(0).json(), query.messages_json[0]);
  EXPECT_EQ(sent_.back().prompt().options_json(), query.options_json);
  EXPECT_TRUE(sent_.back().prompt().reasoning());
  v1::ServerFrame frame;
  v1::Tokens& tokens = *frame.mutable_tokens();
  tokens.set_query_id(id);
  tokens.set_reasoning("hm");
  Frame(frame);
  tokens.clear_reasoning();
  v1::ToolCallPiece* piece = tokens.add_tool_calls();
  piece->set_index(1);
  piece->set_id("c");
  piece->set_name("weather");
  Frame(frame);
  piece->Clear();
  piece->set_index(1);
  piece->set_arguments("{}");
  Frame(frame);
  Lose();  // something was seen: it is not asked again
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(answers_[0].why_local, "STREAM_LOST");
  EXPECT_TRUE(answers_[0].tool_calls.empty() && answers_[0].reasoning.empty()) << "half an answer is none";
  EXPECT_EQ(streamed, "hm1weather1{}");
}

TEST_F(ClientCoreTest, ToolCallsAreJoinedAndBounded) {
  Welcome();
  const std::string id = Ask();
  EXPECT_EQ(answers_.size(), 0u);
  Decide(id, true);
  v1::ServerFrame frame;
  frame.mutable_tokens()->set_query_id(id);
  for (const char* arguments : {"{", "}"}) {
    v1::ToolCallPiece& piece = *frame.mutable_tokens()->add_tool_calls();
    piece.set_index(1);
    piece.set_arguments(arguments);
  }
  Frame(frame);
  Complete(id, 0);
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(answers_[0].source, Answer::Source::kEdge);
  ASSERT_EQ(answers_[0].tool_calls.size(), 2u);
  EXPECT_EQ(answers_[0].tool_calls[1].arguments, "{}");
  EXPECT_EQ(answers_[0].query_id, id);
  EXPECT_EQ(answers_[0].uncertainty, 0.9);

  const std::string other = Ask();
  Decide(other, true);
  frame.mutable_tokens()->set_query_id(other);
  frame.mutable_tokens()->mutable_tool_calls(0)->set_index(4000000000u);
  Frame(frame);
  EXPECT_EQ(answers_[1].why_local, "INCOMPLETE");

  // All of a call counts for the bound of an answer, and one whose pieces went down with an earlier stream is none.
  const std::string large = Ask();
  Decide(large, true);
  frame.mutable_tokens()->Clear();
  frame.mutable_tokens()->set_query_id(large);
  frame.mutable_tokens()->add_tool_calls()->set_name(std::string(1 << 20, 'n'));
  for (int k = 0; k < 16; ++k) Frame(frame);
  EXPECT_EQ(answers_.size(), 2u);
  Frame(frame);
  EXPECT_EQ(answers_[2].why_local, "INCOMPLETE");
  const std::string replayed = Ask();
  Decide(replayed, true);
  Complete(replayed, 0);
  EXPECT_EQ(answers_[3].why_local, "INCOMPLETE");
}

TEST_F(ClientCoreTest, SilenceWithinAnAnswerHasItsOwnBudget) {
  Welcome();
  const std::string id = Ask();
  Decide(id, true);
  Advance(absl::Seconds(5));
  Text(id, 0, "a");
  Advance(absl::Seconds(20));
  Text(id, 1, "b");
  Advance(absl::Seconds(29));
  EXPECT_TRUE(answers_.empty());
  EXPECT_EQ(core_.NextWake(), now_ + absl::Seconds(1));
  Advance(absl::Seconds(1));
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(answers_[0].why_local, "TIMEOUT");
  EXPECT_TRUE(sent_.back().has_cancel());
}

TEST_F(ClientCoreTest, SaysHelloThenAsksAfterWelcomeAndSendsThePromptOnlyAfterOffload) {
  ASSERT_EQ(sent_.size(), 1u);
  EXPECT_TRUE(sent_[0].has_hello());
  const std::string id = Ask();
  EXPECT_EQ(id.size(), 36u);
  EXPECT_EQ(sent_.size(), 1u);
  Welcome();
  ASSERT_EQ(sent_.size(), 2u);
  EXPECT_EQ(sent_[1].query().prompt_bits(), 32u);
  EXPECT_FALSE(sent_[1].query().has_inline_prompt());
  Decide(id, true);
  ASSERT_EQ(sent_.size(), 3u);
  EXPECT_EQ(sent_[2].prompt().text(), "why?");
  Text(id, 0, "be");
  Text(id, 2, "cause");
  Complete(id, 7);
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(answers_[0].text, "because");
  EXPECT_EQ(answers_[0].source, Answer::Source::kEdge);
}

TEST_F(ClientCoreTest, LocalDecisionAndFailuresAreAnsweredLocally) {
  Welcome();
  Decide(Ask(), false);
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(answers_[0].why_local, "NO_GAIN");
  const std::string id = Ask();
  Decide(id, true);
  Text(id, 0, "half");
  v1::ServerFrame failed;
  failed.mutable_failed()->set_query_id(id);
  failed.mutable_failed()->mutable_error()->set_reason("BACKEND_FAILED");
  Frame(failed);
  EXPECT_EQ(answers_.back().why_local, "BACKEND_FAILED");
}

TEST_F(ClientCoreTest, UnreachableOrSilentIsLocalWithinTheBudget) {
  Ask();
  Advance(absl::Milliseconds(999));
  EXPECT_TRUE(answers_.empty());
  Advance(absl::Milliseconds(1));
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(answers_[0].why_local, "UNREACHABLE");
  Welcome();
  const std::string id = Ask();
  Advance(absl::Seconds(1));
  EXPECT_EQ(answers_.back().why_local, "NO_DECISION");
  EXPECT_EQ(sent_.back().cancel().query_id(), id);  // goad need not go on
  Decide(id, true);                                 // too late: nothing happens
  EXPECT_EQ(answers_.size(), 2u);
}

TEST_F(ClientCoreTest, AsksAgainAfterALossOnlyWhereNoTokenWasSeen) {
  Welcome();
  const std::string silent = Ask(), talking = Ask();
  Decide(silent, true), Decide(talking, true);
  Text(talking, 0, "x");
  Lose();
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(answers_[0].why_local, "STREAM_LOST");
  const uint64_t before = generation_;
  Advance(absl::Milliseconds(100));
  EXPECT_EQ(generation_, before + 1);
  sent_.clear();
  Welcome();
  ASSERT_EQ(sent_.size(), 1u);
  EXPECT_EQ(sent_[0].query().query_id(), silent);  // the same id: goad never runs it twice
}

TEST_F(ClientCoreTest, BackoffDoublesWithJitterAndIsCapped) {
  absl::Duration last;
  for (int k = 0; k < 12; ++k) {
    Lose();
    const absl::Duration wait = core_.NextWake() - now_;
    EXPECT_GE(wait, absl::Milliseconds(50));
    EXPECT_LE(wait, absl::Seconds(10));
    last = wait;
    Advance(wait);
  }
  EXPECT_GE(last, absl::Seconds(5));
}

TEST_F(ClientCoreTest, TextWithAGapOrTooShortIsNoAnswer) {
  Welcome();
  const std::string gap = Ask(), shorter = Ask();
  Decide(gap, true), Decide(shorter, true);
  Text(gap, 5, "x");
  EXPECT_EQ(answers_.back().why_local, "INCOMPLETE");
  Text(shorter, 0, "x");
  Complete(shorter, 2);
  EXPECT_EQ(answers_.back().why_local, "INCOMPLETE");
}

TEST_F(ClientCoreTest, CancelTellsGoadAndAnswersOnce) {
  Welcome();
  const std::string id = Ask();
  core_.Cancel(id, now_);
  core_.Cancel(id, now_);
  Collect();
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(answers_[0].why_local, "CANCELLED");
  EXPECT_TRUE(sent_.back().has_cancel());
}

TEST_F(ClientCoreTest, GoodbyeReconnectsWhenTold) {
  Welcome();
  v1::ServerFrame goodbye;
  goodbye.mutable_goodbye()->set_reconnect_after_s(3);
  Frame(goodbye);
  Lose();
  EXPECT_GE(core_.NextWake() - now_, absl::Seconds(3));
  EXPECT_LE(core_.NextWake() - now_, absl::Seconds(6));
}

TEST_F(ClientCoreTest, AFleetDoesNotComeBackInOneInstant) {
  const auto wait_after = [](absl::Duration drained_for, uint64_t seed) {
    ClientCore core(Options(), seed);
    Instant now = absl::Seconds(1);
    core.Tick(now);
    core.TakeActions();
    v1::ServerFrame frame;
    frame.mutable_welcome();
    core.OnFrame(1, frame, now);
    AskCallbacks none;
    core.Ask(Unsure(), none, {}, now);  // runs until the daemon ends
    frame.mutable_goodbye()->set_reconnect_after_s(5);
    core.OnFrame(1, frame, now);
    now += drained_for;
    core.OnStreamLost(1, "closed", now);
    core.Tick(now);
    return core.NextWake() - now;
  };
  for (const absl::Duration drained_for : {absl::ZeroDuration(), absl::Seconds(20)}) {
    absl::Duration least = absl::Hours(1), most;
    for (uint64_t seed = 1; seed <= 200; ++seed) {
      least = std::min(least, wait_after(drained_for, seed));
      most = std::max(most, wait_after(drained_for, seed));
    }
    EXPECT_GT(most - least, absl::Seconds(4)) << drained_for;
    EXPECT_LE(most, absl::Seconds(10));
  }
}

TEST_F(ClientCoreTest, AGoadThatIsKnownToBeAwayCostsNoWait) {
  Ask();
  Query must = Unsure();
  must.must_offload = true;
  Ask({}, must);
  EXPECT_TRUE(answers_.empty()) << "the first attempt may still succeed";
  Lose();
  ASSERT_EQ(answers_.size(), 1u) << "without a local model there is nothing better than to wait";
  EXPECT_EQ(answers_[0].why_local, "UNREACHABLE");
  EXPECT_EQ(answers_[0].detail, "gone");
  Ask();
  ASSERT_EQ(answers_.size(), 2u);
  EXPECT_EQ(answers_[1].why_local, "UNREACHABLE");
  EXPECT_EQ(answers_[1].delay, absl::ZeroDuration());
  Advance(absl::Milliseconds(100));  // the next attempt is under way, and known no better
  Ask();
  EXPECT_EQ(answers_.size(), 3u);
  Welcome();
  EXPECT_EQ(Queries(), 1) << "the one that waited";
  Ask();
  EXPECT_EQ(Queries(), 2);
  v1::ServerFrame goodbye;
  goodbye.mutable_goodbye()->set_message("an upgrade");
  Frame(goodbye);
  Ask();
  EXPECT_EQ(answers_.back().why_local, "DRAINING");
  EXPECT_EQ(answers_.back().detail, "an upgrade");
  EXPECT_EQ(answers_.size(), 4u);
}

TEST_F(ClientCoreTest, AGoadThatWantsPeaceIsNotReconnectedBefore) {
  core_.OnStreamLost(generation_, "too many sessions", now_, absl::Seconds(30));
  EXPECT_GE(core_.NextWake() - now_, absl::Seconds(30));
  EXPECT_LE(core_.NextWake() - now_, absl::Seconds(60));
}

TEST_F(ClientCoreTest, AGoadThatNeverGreetsIsLeft) {
  const uint64_t before = generation_;
  Advance(absl::Seconds(20));
  ASSERT_FALSE(problems_.empty());
  EXPECT_EQ(problems_[0].code, "UNREACHABLE");
  EXPECT_EQ(problems_[0].detail, "no greeting within 20s");
  Advance(absl::Seconds(1));
  EXPECT_EQ(generation_, before + 1);
}

TEST_F(ClientCoreTest, HelloSaysHowTheUncertaintyIsMade) {
  const v1::Hello& usual = sent_[0].hello();
  EXPECT_EQ(usual.uncertainty_metric(), v1::UNCERTAINTY_METRIC_MARGIN);
  EXPECT_EQ(usual.uncertainty_version(), 1u);
  EXPECT_EQ(usual.uncertainty_tokens() + usual.uncertainty_candidates(), 0u);
  ClientOptions options = Options();
  options.local_model = "small-1b";
  options.uncertainty = {UncertaintyMetric::kLowQuantile, 16, 10, "", "chat"};
  const v1::Hello hello = HelloFrame(options).hello();
  EXPECT_EQ(hello.uncertainty_metric(), v1::UNCERTAINTY_METRIC_LOW_QUANTILE);
  EXPECT_EQ(hello.uncertainty_tokens(), 16u);
  EXPECT_EQ(hello.uncertainty_candidates(), 10u);
  EXPECT_EQ(hello.prompt_form(), "chat");
  options.uncertainty = {.metric = UncertaintyMetric::kDeclared, .method = "vote-5"};
  EXPECT_EQ(HelloFrame(options).hello().uncertainty_metric(), v1::UNCERTAINTY_METRIC_DECLARED);
  EXPECT_EQ(HelloFrame(options).hello().uncertainty_method(), "vote-5");
}

// Candidates go to goad only where goad can make the session's number of them.
TEST(Confidence, FirstTokenIsOfTheMetricsThatAreMadeFromIt) {
  Query query;
  query.id = "q";
  query.prompt = "why?";
  query.first_token = {{"a", 0.6}, {"b", 0.4}};
  for (const UncertaintyMetric metric : {UncertaintyMetric::kMargin, UncertaintyMetric::kMaxProbability}) {
    EXPECT_TRUE(CheckQuery(query, metric, std::nullopt).ok());
    EXPECT_EQ(QueryFrame(query, metric, {}).query().first_token().top_size(), 2);
  }
  EXPECT_EQ(CheckQuery(query, UncertaintyMetric::kMeanLogprob, std::nullopt).message(),
            "first_token: MEAN_LOGPROB is not made from it; want uncertainty");
  query.uncertainty = 0.5;
  EXPECT_TRUE(CheckQuery(query, UncertaintyMetric::kMeanLogprob, std::nullopt).ok());
  query.uncertainty.reset();
  query.first_token[0].token = "\xe4";  // travels as the number that goad would compute
  EXPECT_NEAR(QueryFrame(query, UncertaintyMetric::kMargin, {}).query().uncertainty(), 0.8, 1e-12);
  EXPECT_NEAR(QueryFrame(query, UncertaintyMetric::kMaxProbability, {}).query().uncertainty(), 0.4, 1e-12);
}

TEST_F(ClientCoreTest, WhatGoadCannotReadIsNotSentAndCostsNobodyElse) {
  Welcome();
  const std::string good = Ask();
  const auto refused = [&](const std::function<void(Query&)>& change) {
    Query query = Unsure();
    change(query);
    const size_t sent = sent_.size(), answered = answers_.size();
    Ask({}, query);
    EXPECT_EQ(sent_.size(), sent);
    EXPECT_EQ(answers_.size(), answered + 1);
    EXPECT_EQ(answers_.back().why_local, "INVALID_QUERY");
    return answers_.back().detail;
  };
  EXPECT_EQ(refused([](Query& q) { q.prompt = "caf\xe9"; }), "prompt: is not UTF-8 at byte 3");
  EXPECT_EQ(refused([](Query& q) { q.prompt = ""; }), "prompt: 0 bytes, want 1..3145728");
  EXPECT_EQ(refused([](Query& q) { q.prompt = std::string(4 << 20, 'x'); }), "prompt: 4194304 bytes, want 1..3145728");
  EXPECT_EQ(refused([](Query& q) { q.chat = {{"user", "\xff"}}; }), "chat[0].content: is not UTF-8 at byte 0");
  EXPECT_EQ(refused([](Query& q) {
              q.chat = {{"us\xe9r", "a"}};
            }),
            "chat[0].role: is not system, developer, user or assistant");
  EXPECT_EQ(refused([](Query& q) { q.stop = {"\n", "\xc3"}; }), "stop[1]: is not UTF-8 at byte 0");
  EXPECT_EQ(refused([](Query& q) { q.stop = {""}; }), "stop[0]: 0 bytes, want 1..64");
  EXPECT_EQ(refused([](Query& q) { q.stop.resize(5, "x"); }), "stop: 5 entries, want at most 4");
  EXPECT_EQ(refused([](Query& q) { q.id = std::string(65, 'x'); }), "id: 65 bytes, want 1..64");
  EXPECT_EQ(refused([](Query& q) { q.id = "\xed\xa0\x80"; }), "id: is not UTF-8 at byte 0");
  EXPECT_EQ(refused([](Query& q) { q.uncertainty = std::nan(""); }), "uncertainty: nan is not in 0..1");
  EXPECT_EQ(refused([](Query& q) { q.uncertainty.reset(); }),
            "uncertainty: is missing; want uncertainty, first_token or must_offload");
  EXPECT_EQ(refused([](Query& q) {
              q.uncertainty.reset(), q.first_token = {{"a", 1}};
            }),
            "first_token.top: 1 entries, want at least 2");
  EXPECT_EQ(refused([](Query& q) { q.prompt_tokens = -1; }), "prompt_tokens: -1 is not in 0..1e+06");
  EXPECT_EQ(refused([](Query& q) { q.local_delay = absl::InfiniteDuration(); }), "local_delay: inf is not in 0..1h");
  EXPECT_EQ(refused([](Query& q) { q.deadline = absl::ZeroDuration(); }), "deadline: 0 is not in 1ns..1h");
  EXPECT_EQ(refused([](Query& q) { q.temperature = 3; }), "temperature: 3 is not in 0..2");
  EXPECT_EQ(refused([](Query& q) { q.kind = std::string(64, 'k'); }), "kind: 64 bytes, want 0..63");
  Decide(good, true);
  CompleteEmpty(good);
  EXPECT_EQ(answers_.back().source, Answer::Source::kEdge);
}

TEST_F(ClientCoreTest, CandidatesThatAreNoTextTravelAsTheNumber) {
  Welcome();
  Query query = Unsure();
  query.uncertainty.reset();
  query.first_token = {{"\xe4", 0.5}, {"\xe5", 0.5}};
  Ask({}, query);
  EXPECT_EQ(sent_.back().query().uncertainty(), 1);
  query.first_token = {{"yes", 0.5}, {"no", 0.5}};
  Ask({}, query);
  EXPECT_EQ(sent_.back().query().first_token().top_size(), 2);
}

TEST_F(ClientCoreTest, MoreThanTheSessionMayHaveWaitInOrder) {
  Welcome(2);
  std::vector<std::string> ids;
  for (int k = 0; k < 4; ++k) {
    Query query = Unsure();
    query.id = std::string(1, static_cast<char>('z' - k));
    if (k == 3) query.deadline = absl::Seconds(10), query.local_delay = absl::Seconds(2);
    ids.push_back(Ask({}, query));
  }
  EXPECT_EQ(Queries(), 2);
  EXPECT_EQ(core_.limits()->queries_per_session, 2);
  Decide(ids[0], true), Decide(ids[1], true);
  CompleteEmpty(ids[1]);
  EXPECT_EQ(Queries(), 3);
  EXPECT_EQ(sent_.back().query().query_id(), ids[2]);
  Decide(ids[2], true);
  Advance(absl::Seconds(5));  // beyond the budget, within what the deadline leaves
  EXPECT_EQ(answers_.size(), 1u);
  CompleteEmpty(ids[0]);
  EXPECT_EQ(sent_.back().query().query_id(), ids[3]);
  EXPECT_EQ(sent_.back().query().deadline_s(), 5);
  Decide(ids[3], true);
  Ask();
  Advance(absl::Seconds(1));
  EXPECT_EQ(answers_.back().why_local, "SESSION_FULL");
}

TEST_F(ClientCoreTest, TheQueueIsBounded) {
  for (int k = 0; k < 300; ++k) Ask();
  EXPECT_EQ(answers_.size(), 44u);
  EXPECT_EQ(answers_.back().why_local, "QUEUE_FULL");
}

TEST_F(ClientCoreTest, RetryAfterIsShownAndHonoured) {
  Welcome(1);
  const std::string id = Ask(), waiting = Ask();
  v1::ServerFrame frame;
  frame.mutable_decision()->set_query_id(id);
  frame.mutable_decision()->set_verdict(v1::VERDICT_LOCAL);
  frame.mutable_decision()->set_reason(v1::REASON_OVERLOAD);
  frame.mutable_decision()->set_retry_after_s(2);
  frame.mutable_decision()->set_queue_s(0.5);
  Frame(frame);
  ASSERT_EQ(answers_.size(), 2u) << "who waits would be asked too early";
  for (const Answer& answer : answers_) {
    EXPECT_EQ(answer.why_local, "OVERLOAD");
    EXPECT_EQ(answer.retry_after, absl::Seconds(2));
  }
  EXPECT_EQ(answers_[0].decision.retry_after, absl::Seconds(2));
  EXPECT_EQ(answers_[0].decision.queue, absl::Milliseconds(500));
  sent_.clear();
  Advance(absl::Milliseconds(1900));
  Ask();
  EXPECT_EQ(answers_.back().why_local, "OVERLOAD");
  EXPECT_EQ(answers_.back().retry_after, absl::Milliseconds(100));
  EXPECT_TRUE(sent_.empty());
  Advance(absl::Milliseconds(100));
  Ask();
  EXPECT_EQ(Queries(), 1);
}

// One bad number.
TEST_F(ClientCoreTest, AHoldHasABoundAndEndsWithTheNextGreeting) {
  Welcome();
  const auto hold = [this](const std::string& id) {
    v1::ServerFrame frame;
    frame.mutable_decision()->set_query_id(id);
    frame.mutable_decision()->set_verdict(v1::VERDICT_LOCAL);
    frame.mutable_decision()->set_reason(v1::REASON_QUOTA);
    frame.mutable_decision()->set_retry_after_s(1e300);
    Frame(frame);
  };
  hold(Ask());
  EXPECT_EQ(answers_.back().retry_after, kLongestRetryAfter);
  Ask();
  EXPECT_EQ(answers_.back().why_local, "QUOTA");
  Advance(kLongestRetryAfter);
  hold(Ask());
  ASSERT_EQ(Queries(), 2) << "five minutes later";
  Lose();
  Advance(absl::Minutes(1));
  Welcome();
  Ask();
  EXPECT_EQ(Queries(), 3) << "started again";
  v1::ServerFrame goodbye;
  goodbye.mutable_goodbye()->set_reconnect_after_s(1e300);
  Frame(goodbye);
  EXPECT_LE(core_.NextWake(), now_ + 2 * kLongestRetryAfter) << "with what spreads a fleet";
}

TEST_F(ClientCoreTest, WordsOfGoadHaveTheirBounds) {
  Welcome();
  const auto fail = [this](const std::string& reason, const std::string& message) {
    v1::ServerFrame frame;
    frame.mutable_failed()->set_query_id(Ask());
    frame.mutable_failed()->mutable_error()->set_reason(reason);
    frame.mutable_failed()->mutable_error()->set_message(message);
    Frame(frame);
    return answers_.back();
  };
  EXPECT_EQ(fail("DEADLINE", std::string(90000, 'x')).detail, std::string(512, 'x'));
  EXPECT_EQ(fail("A\r\nB" + std::string(5000, 'x'), "").why_local, "A??B" + std::string(124, 'x'));
  const auto complete = [this](const std::string& reason, const std::string& name) {
    const std::string id = Ask();
    v1::ServerFrame frame;
    frame.mutable_decision()->set_query_id(id);
    frame.mutable_decision()->set_verdict(v1::VERDICT_OFFLOAD);
    frame.mutable_decision()->set_site(name);
    Frame(frame);
    Text(id, 0, "hi");
    frame.mutable_completed()->set_query_id(id);
    frame.mutable_completed()->set_text_bytes(2);
    frame.mutable_completed()->set_finish_reason(reason);
    frame.mutable_completed()->set_backend(name);
    Frame(frame);
    EXPECT_EQ(answers_.back().backend, answers_.back().decision.site);
    return answers_.back();
  };
  EXPECT_EQ(complete("stop", "cell-a/0").finish_reason, "stop");
  EXPECT_EQ(answers_.back().backend, "cell-a/0");
  EXPECT_EQ(complete(std::string(33, 'x'), std::string(5000, 'x')).finish_reason, "other");
  EXPECT_EQ(answers_.back().backend, std::string(128, 'x'));
  EXPECT_EQ(complete("st\nop", "a\r\nb\x7f\xc2\x9b\xc3\xa4").finish_reason, "other");
  EXPECT_EQ(answers_.back().backend, "a??b???\xc3\xa4");
  v1::ServerFrame goodbye;
  goodbye.mutable_goodbye()->set_message(std::string(90000, 'x'));
  Frame(goodbye);
  Ask();
  EXPECT_EQ(answers_.back().detail, std::string(512, 'x'));
}

TEST_F(ClientCoreTest, WhyLocalIsNeverEmpty) {
  Welcome();
  const std::string id = Ask();
  v1::ServerFrame frame;
  frame.mutable_decision()->set_query_id(id);
  frame.mutable_decision()->set_verdict(v1::VERDICT_LOCAL);
  frame.mutable_decision()->set_reason(static_cast<v1::Reason>(99));
  Frame(frame);
  EXPECT_EQ(answers_.back().why_local, "REASON_99");
  frame.mutable_failed()->set_query_id(Ask());
  Frame(frame);
  EXPECT_EQ(answers_.back().why_local, "UNSPECIFIED");
  frame.mutable_failed()->set_query_id(Ask());
  frame.mutable_failed()->mutable_error()->set_code(static_cast<v1::ErrorCode>(77));
  Frame(frame);
  EXPECT_EQ(answers_.back().why_local, "ERROR_CODE_77");
}

TEST_F(ClientCoreTest, AnAnswerThatIsNoneHoldsNoTornText) {
  Welcome();
  const std::string failed = Ask(), lost = Ask();
  Decide(failed, true), Decide(lost, true);
  Text(failed, 0, "half"), Text(lost, 0, "half");
  v1::ServerFrame frame;
  frame.mutable_failed()->set_query_id(failed);
  Frame(frame);
  Lose();
  ASSERT_EQ(answers_.size(), 2u);
  for (const Answer& answer : answers_) EXPECT_EQ(answer.text, "");
}

TEST_F(ClientCoreTest, LinkReportsAreTenASecondAndTheLastIsAlwaysSent) {
  Welcome();
  sent_.clear();
  for (int k = 0; k < 1000; ++k) {  // one second of a radio that measures every millisecond
    core_.ReportLinks({{.site = "a", .uplink_bps = 1000.0 + k}, {.site = "b", .gain_db = -80}}, now_);
    Collect();
    Advance(absl::Milliseconds(1));
  }
  Advance(core_.NextWake() - now_);
  EXPECT_GE(sent_.size(), 10u);
  EXPECT_LE(sent_.size(), 12u);
  ASSERT_EQ(sent_.back().link_report().links_size(), 2);
  EXPECT_EQ(sent_.back().link_report().links(0).uplink_bps(), 1999);
  EXPECT_EQ(core_.NextWake(), absl::InfiniteDuration());
}

TEST_F(ClientCoreTest, WhenSitesChangeLinksToThoseThatAreLeftAreToldAgainAndToThoseThatComeBack) {
  Welcome();  // site a
  const auto links_after = [&](const std::vector<std::string>& sites) {
    sent_.clear();
    v1::ServerFrame frame;
    for (const std::string& site : sites) frame.mutable_sites()->add_sites()->set_name(site);
    Frame(frame);
    std::vector<std::string> links;
    for (const auto& sent : sent_) {
      for (const auto& link : sent.link_report().links()) links.push_back(link.site());
    }
    return links;
  };
  EXPECT_TRUE(links_after({"a", "b"}).empty());
  core_.ReportLinks({{.site = "a", .gain_db = -80}, {.site = "b", .gain_db = -81}}, now_);
  Collect();
  EXPECT_EQ(links_after({"b", "c"}), std::vector<std::string>{"b"});
  EXPECT_EQ(links_after({"a"}), std::vector<std::string>{"a"});
}

TEST_F(ClientCoreTest, ALinkThatMakesNoSenseIsToldAndNotSent) {
  Welcome();
  sent_.clear();
  core_.ReportLinks({{.site = "\xff", .gain_db = -80},
                     {.site = "a"},
                     {.site = "b", .gain_db = std::nan("")},
                     {.site = "c", .gain_db = -80, .age = -absl::Seconds(1)},
                     {.site = "good", .gain_db = -80}},
                    now_);
  Collect();
  ASSERT_EQ(sent_.size(), 1u);
  ASSERT_EQ(sent_[0].link_report().links_size(), 1);
  ASSERT_EQ(problems_.size(), 4u);
  EXPECT_EQ(problems_[0].code, "LINK_REFUSED");
  EXPECT_EQ(problems_[0].detail, "site: is not UTF-8 at byte 0");
  EXPECT_EQ(problems_[1].detail, "link to a: 0 measurements, want one");
  EXPECT_EQ(problems_[3].detail, "link to c: age: -1s is not in 0..1h");
}

TEST_F(ClientCoreTest, OfMoreThan64SitesThoseOfTheLastMinuteAreKnown) {
  Welcome();
  const auto hears = [this](int site) {
    sent_.clear(), problems_.clear();
    now_ += absl::Milliseconds(200);
    core_.ReportLinks({{.site = "s" + std::to_string(site), .gain_db = -80}}, now_);
    Collect();
    return sent_.size();
  };
  for (int site = 0; site < 64; ++site) EXPECT_EQ(hears(site), 1u);
  EXPECT_EQ(hears(64), 0u);
  ASSERT_EQ(problems_.size(), 1u);
  EXPECT_EQ(problems_[0].detail, "link to s64: 64 other sites were measured within the last minute, want at most that");
  now_ += absl::Minutes(1);
  for (int site = 64; site < 300; ++site) {  // a device that travels
    EXPECT_EQ(hears(site), 1u) << site;
    now_ += absl::Seconds(2);
  }
}

TEST_F(ClientCoreTest, TheQualityOfAnAnswerIsSentWhoeverGaveIt) {
  Welcome();
  const std::string id = Ask();
  Decide(id, true);
  core_.SendPrompt(id);
  CompleteEmpty(id);
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(answers_[0].source, Answer::Source::kEdge);
  sent_.clear();
  core_.ReportQuality(id, 0.5, now_);
  core_.ReportQuality(id, 1.5, now_);
  core_.ReportQuality("\xff", 1, now_);
  Collect();
  ASSERT_EQ(sent_.size(), 1u);
  EXPECT_EQ(sent_[0].outcome().query_id(), id);
  EXPECT_EQ(sent_[0].outcome().quality(), 0.5);
  EXPECT_EQ(sent_[0].outcome().local_delay_s(), 0);
  ASSERT_EQ(problems_.size(), 2u);
  EXPECT_EQ(problems_[0].code, "REPORT_REFUSED");
  EXPECT_EQ(problems_[0].detail, "quality: 1.5 is not in 0..1");
}

TEST_F(ClientCoreTest, ProblemsAreToldOnceAMinuteAndTenASecond) {
  Welcome();
  v1::ServerFrame frame;
  const auto err = [&](const std::string& message) {
    frame.mutable_protocol_error()->mutable_error()->set_reason("UNKNOWN_SITE");
    frame.mutable_protocol_error()->mutable_error()->set_field("links[0].site");
    frame.mutable_protocol_error()->mutable_error()->set_message(message);
    Frame(frame);
  };
  for (int k = 0; k < 100; ++k) err("the same");
  ASSERT_EQ(problems_.size(), 1u);
  EXPECT_EQ(problems_[0].code, "PROTOCOL_ERROR");
  EXPECT_EQ(problems_[0].detail, "UNKNOWN_SITE: links[0].site: the same");
  for (int k = 0; k < 100; ++k) err(std::to_string(k));
  EXPECT_EQ(problems_.size(), 10u);
  Advance(absl::Minutes(1));
  err("the same");
  ASSERT_EQ(problems_.size(), 11u);
  EXPECT_EQ(problems_[1].untold, 99);
  EXPECT_EQ(problems_[10].untold, 91);
}

TEST_F(ClientCoreTest, CallbacksKeepTheirState) {
  Welcome();
  std::vector<int> seen;
  AskCallbacks callbacks;
  callbacks.on_text = [&seen, count = 0](const std::string&) mutable { seen.push_back(++count); };
  const std::string id = Ask(std::move(callbacks));
  Decide(id, true);
  Text(id, 0, "a"), Text(id, 1, "b"), Text(id, 2, "c");
  EXPECT_EQ(seen, (std::vector<int>{1, 2, 3}));
}

TEST_F(ClientCoreTest, ACallbackThatThrewEndsItsQueryAlone) {
  Welcome();
  const std::string bad = Ask(), good = Ask();
  Decide(bad, true), Decide(good, true);
  core_.CallbackFailed(bad, "exception: no", now_);
  Collect();
  EXPECT_EQ(answers_.back().why_local, "CALLBACK_FAILED");
  EXPECT_EQ(answers_.back().detail, "exception: no");
  EXPECT_EQ(sent_.back().cancel().query_id(), bad);
  CompleteEmpty(good);
  EXPECT_EQ(answers_.back().source, Answer::Source::kEdge);
  core_.CallbackFailed("", "on_problem itself", now_);
  EXPECT_EQ(problems_.size(), 1u);
}

TEST_F(ClientCoreTest, AnUploadCanBeDelayedByTheCaller) {
  Welcome();
  AskCallbacks callbacks;
  int grants = 0;
  callbacks.on_grant = [&](const Decision&, std::function<void()>) { ++grants; };
  const std::string id = Ask(std::move(callbacks));
  sent_.clear();
  Decide(id, true);
  EXPECT_EQ(grants, 1);
  EXPECT_TRUE(sent_.empty());
  core_.SendPrompt(id);
  core_.SendPrompt(id);
  Collect();
  EXPECT_EQ(sent_.size(), 1u);
}

TEST_F(ClientCoreTest, AGoadThatKeepsBreakingOffIsNotAskedEverythingAgain) {
  Welcome();
  for (int k = 0; k < 15; ++k) Ask();
  core_.OnStreamLost(generation_, "cut", now_);
  Collect();
  EXPECT_EQ(answers_.size(), 5u) << "ten questions wait for the next stream";
  now_ += absl::Seconds(1) - absl::Milliseconds(1);  // within their budget
  core_.Tick(now_);
  Collect();
  sent_.clear();
  Welcome();
  std::vector<std::string> asked;
  for (const v1::DeviceFrame& frame : sent_) {
    if (frame.has_query()) asked.push_back(frame.query().query_id());
  }
  ASSERT_EQ(asked.size(), 10u);
  for (const std::string& id : asked) {  // ten edge answers give one back
    Decide(id, true);
    CompleteEmpty(id);
  }
  const size_t before = answers_.size();
  Ask();
  Ask();
  core_.OnStreamLost(generation_, "cut", now_);
  Collect();
  EXPECT_EQ(answers_.size(), before + 1);
}

}  // namespace
}  // namespace goad::internal
