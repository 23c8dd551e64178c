#include "src/client_core.h"

#include "gtest/gtest.h"

namespace goad::internal {
namespace {

class ClientCoreTest : public testing::Test {
 protected:
  ClientCoreTest() : core_(Options(), 1) {
    core_.Tick(now_);
    Collect();
  }
  static ClientOptions Options() {
    ClientOptions options;
    options.device_name = "d";
    return options;
  }
  void Collect() {
    for (Action& action : core_.TakeActions()) {
      if (auto* open = std::get_if<OpenStream>(&action)) generation_ = open->generation;
      if (auto* send = std::get_if<SendFrame>(&action)) sent_.push_back(send->frame);
      if (auto* notify = std::get_if<Notify>(&action)) notify->call();
    }
  }
  std::string Ask(AskCallbacks callbacks = {}) {
    Query query;
    query.uncertainty = 0.9;
    query.prompt = "why?";
    callbacks.on_done = [this](const Answer& answer) { answers_.push_back(answer); };
    const std::string id = core_.Ask(query, std::move(callbacks), [] {}, now_);
    Collect();
    return id;
  }
  void Frame(const v1::ServerFrame& frame) {
    core_.OnFrame(generation_, frame, now_);
    Collect();
  }
  void Welcome() {
    v1::ServerFrame frame;
    frame.mutable_welcome()->add_sites()->set_name("a");
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
  std::vector<Answer> answers_;
};

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
  EXPECT_EQ(core_.NextWake() - now_, absl::Seconds(3));
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
  core_.SendPrompt(id, now_);
  core_.SendPrompt(id, now_);
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
    Complete(id, 0);
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
