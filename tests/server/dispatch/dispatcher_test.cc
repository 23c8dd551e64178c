#include "server/dispatch/dispatcher.h"

#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace goad::server {
namespace {

constexpr absl::Duration kMs = absl::Milliseconds(1);
const char kToken[] = "data: {\"choices\":[{\"text\":\"hi \"}]}\n\n";
const char kStop[] = "data: {\"choices\":[{\"text\":\"\",\"finish_reason\":\"stop\"}]}\n\n";
const char kDone[] = "data: [DONE]\n\n";

struct FakeTransport final : HttpTransport {
  struct Started {
    CallId id;
    std::string url, path, body;
    HttpListener* listener;
  };
  CallId Start(HttpRequest request, HttpListener* listener) override {
    const CallId id{++last_id};
    started.push_back({id, request.backend->url, request.path, request.body, listener});
    live[id] = listener;
    return id;
  }
  void Abort(CallId id) override {
    if (live.erase(id) > 0) aborted.push_back(id);
  }
  void SetPaused(CallId, bool paused) override { pauses.push_back(paused); }
  uint64_t last_id = 0;
  std::map<CallId, HttpListener*> live;
  std::vector<Started> started;
  std::vector<CallId> aborted;
  std::vector<bool> pauses;
};

struct FakeSink final : SessionSink {
  Delivery Deliver(SessionId, SessionEvent event) override {
    events.push_back(std::move(event));
    return answer;
  }
  std::string Text() const {
    std::string text;
    for (const SessionEvent& event : events) {
      if (const auto* tokens = std::get_if<TokensEvent>(&event)) {
        EXPECT_EQ(tokens->text_offset, text.size());
        text += tokens->text;
      }
    }
    return text;
  }
  void SitesCan(SiteAbilities abilities) override { can.push_back(std::move(abilities)); }
  Delivery answer = Delivery::kAccepted;
  std::vector<SessionEvent> events;
  std::vector<SiteAbilities> can;
};

class DispatcherTest : public testing::Test {
 protected:
  DispatcherTest() {
    SiteConfig site;
    site.name = "a";
    for (const char* url : {"http://one", "http://two"}) {
      BackendConfig backend;
      backend.url = url;
      backend.slots = 1;
      site.backends.push_back(backend);
    }
    config_.sites = {site};
    dispatcher_ = std::make_unique<Dispatcher>(std::make_shared<const Config>(config_), &transport_, &sink_, &metrics_,
                                               [this](Event event) { to_engine_.push_back(std::move(event)); });
    for (const char* path : {"/health", "/props", "/v1/models", "/metrics"}) {
      dispatcher_->Tick(now_);
      for (const auto& probe : std::exchange(transport_.started, {})) {
        EXPECT_EQ(probe.path, path);
        AnswerProbe(probe.id);
      }
    }
    to_engine_.clear();
  }
  void AnswerProbe(CallId id, const std::string& body = "") {
    Head(id, 200);
    Body(id, body);
    End(id, TransportEnd::kComplete, "");
  }
  // Of a call that is not over; of others nothing is heard.
  void Head(CallId id, int status, absl::Duration retry_after = absl::ZeroDuration()) {
    HttpHead head;
    head.status = status;
    head.retry_after = retry_after;
    if (transport_.live.count(id) > 0) transport_.live[id]->OnHead(head, now_);
  }
  void Body(CallId id, const std::string& bytes) {
    if (transport_.live.count(id) > 0) transport_.live[id]->OnBody(bytes, now_);
  }
  void End(CallId id, TransportEnd end, const std::string& detail) {
    const auto live = transport_.live.find(id);
    if (live == transport_.live.end()) return;
    HttpListener* const listener = live->second;
    transport_.live.erase(live);
    listener->OnEnd(end, detail, now_);
  }
  CallId Start(uint64_t id, absl::Duration deadline = absl::InfiniteDuration()) {
    DispatchRequest request;
    request.id = QueryId{id};
    request.site = sched::SiteIndex{0};
    auto prompt = std::make_shared<PromptBody>();
    prompt->text = "q" + std::to_string(id);
    request.prompt = prompt;
    request.max_output_tokens = 4;
    request.received = request.prompt_ready = now_;
    request.deadline = now_ + deadline;
    const size_t before = transport_.started.size();
    dispatcher_->Start(request, now_);
    return transport_.started.size() > before ? transport_.started.back().id : CallId{};
  }
  const FakeTransport::Started& LastAttempt() const {
    return *std::find_if(transport_.started.rbegin(), transport_.started.rend(),
                         [](const auto& call) { return !call.body.empty(); });
  }
  CallId Last() const { return LastAttempt().id; }
  void Advance(absl::Duration by) {
    now_ = now_ + by;
    dispatcher_->Tick(now_);
  }
  const FailedEvent& Failure() const { return std::get<FailedEvent>(sink_.events.back()); }
  std::vector<DispatchOutcome> Outcomes() const {
    std::vector<DispatchOutcome> outcomes;
    for (const Event& event : to_engine_) {
      if (const auto* done = std::get_if<QueryDone>(&event)) outcomes.push_back(done->outcome);
    }
    return outcomes;
  }

  std::vector<QueryReturned> Returned() const {
    std::vector<QueryReturned> returned;
    for (const Event& event : to_engine_) {
      if (const auto* back = std::get_if<QueryReturned>(&event)) returned.push_back(*back);
    }
    return returned;
  }
  const SiteHealth& LastHealth() const {
    const SiteHealth* last = nullptr;
    for (const Event& event : to_engine_)
      last = std::holds_alternative<SiteHealth>(event) ? &std::get<SiteHealth>(event) : last;
    return *last;
  }

  Config config_;
  MonotonicTime now_ = MonotonicTime::FromOrigin(absl::Seconds(5));
  FakeTransport transport_;
  FakeSink sink_;
  Metrics metrics_{{{"a"}, {{"http://one", "http://two"}}}};
  std::vector<Event> to_engine_;
  std::unique_ptr<Dispatcher> dispatcher_;
};

TEST_F(DispatcherTest, StreamsAnAnswerAndCompletesOnce) {
  const CallId id = Start(1);
  EXPECT_EQ(transport_.started[0].path, "/v1/completions");
  Head(id, 200);
  Body(id, std::string(kToken) + kToken);
  Body(id, std::string(kStop) + kDone + kToken);  // what follows [DONE] is nothing
  End(id, TransportEnd::kComplete, "");
  EXPECT_EQ(sink_.Text(), "hi hi ");
  const auto& completed = std::get<CompletedEvent>(sink_.events.back());
  EXPECT_EQ(completed.finish_reason, "stop");
  EXPECT_TRUE(completed.usage_estimated);
  EXPECT_EQ(completed.output_tokens, 2);
  EXPECT_EQ(completed.text_bytes, 6u);
  EXPECT_EQ(Outcomes(), std::vector{DispatchOutcome::kCompleted});
}

TEST_F(DispatcherTest, AnAnswerWithoutFinishReasonIsFailed) {
  const CallId id = Start(1);
  Head(id, 200);
  Body(id, kToken);
  Body(id, kDone);
  EXPECT_EQ(Failure().error.reason, "BACKEND_FAILED");
  EXPECT_EQ(Failure().text_bytes, 3u);
  EXPECT_TRUE(Failure().answer_locally);
}

TEST_F(DispatcherTest, AnAnswerWithoutDoneIsWholeWhenItsBodyIs) {
  CallId id = Start(1);
  Head(id, 200);
  Body(id, std::string(kToken) + kStop);
  End(id, TransportEnd::kComplete, "");
  EXPECT_EQ(std::get<CompletedEvent>(sink_.events.back()).text_bytes, 3u);
  id = Start(2);
  Head(id, 200);
  Body(id, kToken);
  End(id, TransportEnd::kBroken, "10.0.0.7 went away");
  EXPECT_EQ(Failure().text_bytes, 3u);
  EXPECT_EQ(Failure().error.message, "a/0: connection lost");  // and no address
  EXPECT_EQ(Outcomes(), (std::vector{DispatchOutcome::kCompleted, DispatchOutcome::kFailed}));
}

TEST_F(DispatcherTest, AnAnswerIsWholeTwoSecondsAfterItsFinishReasonThoughNothingEndsIt) {
  const CallId id = Start(1);
  Head(id, 200);
  Body(id, "data: {\"choices\":[{\"text\":\"hi\",\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n");
  Advance(absl::Milliseconds(1999));
  EXPECT_FALSE(std::holds_alternative<CompletedEvent>(sink_.events.back()));
  Advance(absl::Milliseconds(2));
  EXPECT_TRUE(std::holds_alternative<CompletedEvent>(sink_.events.back()));
}

TEST_F(DispatcherTest, WhatABackendSaysOfItsKeyDoesNotReachTheDevice) {
  Start(1);
  for (int backend = 0; backend < 2; ++backend) {
    const CallId id = Last();
    Head(id, 401);
    Body(id, "{\"error\":{\"message\":\"Incorrect API key provided: sk-secret. See inner-gpu-7.corp:8000\"}}");
    End(id, TransportEnd::kComplete, "");
    Advance(21 * kMs);
  }
  ASSERT_EQ(Returned().size(), 1u);
  EXPECT_EQ(Returned()[0].error.message, "a/1: HTTP 401");
  EXPECT_NE(dispatcher_->Backends()[0][0].last_error.find("sk-secret"), std::string::npos);  // the operator reads it
}

TEST_F(DispatcherTest, PromptsThatAreRefusedSayNothingOfABackendAndOneThatTurnsEverybodyAwayIsAskedLastForAWhile) {
  uint64_t next = 1;
  const auto three = [&](int status, const std::string& body) {  // failures_to_open
    for (int k = 0; k < 3; ++k) {
      const CallId id = Start(next++);
      EXPECT_EQ(LastAttempt().url, "http://one");
      Head(id, status);
      Body(id, body);
      End(id, TransportEnd::kComplete, "");
      if (Last() != id) {  // tried elsewhere
        Head(Last(), 200);
        Body(Last(), std::string(kToken) + kStop + kDone);
      }
      Advance(21 * kMs);
    }
  };
  three(400, "{\"error\":{\"message\":\"no such thing\"}}");
  EXPECT_EQ(Failure().error.reason, "BACKEND_REFUSED");
  const auto backends = dispatcher_->Backends();
  EXPECT_EQ(backends[0][0].state, BackendState::kUp);  // no fault of its own is proved
  EXPECT_EQ(backends[0][0].last_error, "POST HTTP 400: no such thing") << "an operator wants to know";
  three(429, "");
  const auto url_of_next = [&] {
    const CallId id = Start(next++);
    const std::string url = LastAttempt().url;
    Head(id, 200);
    Body(id, std::string(kToken) + kStop + kDone);
    Advance(21 * kMs);
    return url;
  };
  EXPECT_EQ(url_of_next(), "http://two");
  Advance(absl::Seconds(6));
  EXPECT_EQ(url_of_next(), "http://one");
}

TEST_F(DispatcherTest, ARefusalWhoseBodyHangsIsJudgedByItsStatus) {
  for (const char* body : {"", "{\"error\":{\"message\":\"too long\""}) {
    Start(1);
    const std::string url = LastAttempt().url;
    Head(Last(), 400);
    Body(Last(), body);
    Advance(absl::Seconds(1));
    EXPECT_EQ(Failure().error.reason, "BACKEND_REFUSED");
    Advance(21 * kMs);
  }
  Start(2);
  const CallId first = Last();
  Head(first, 503);
  Advance(absl::Seconds(1));
  EXPECT_NE(Last(), first) << "tried elsewhere";
}

TEST_F(DispatcherTest, APageOfAGatewayIsTriedElsewhereAndHeldAgainstNobody) {
  for (uint64_t k = 1; k <= 4; ++k) {
    Start(k);
    for (int attempt = 0; attempt < 2; ++attempt) {
      const CallId id = Last();
      Head(id, k % 2 == 0 ? 400 : 403);
      Body(id, "<html><head><title>Blocked</title></head></html>");
      End(id, TransportEnd::kComplete, "");
    }
    Advance(21 * kMs);
  }
  EXPECT_EQ(Returned().size(), 4u);
  const auto sites = dispatcher_->Backends();
  for (const BackendRow& backend : sites[0]) EXPECT_EQ(backend.state, BackendState::kUp);
}

TEST_F(DispatcherTest, MoreTokensThanWereAskedForAreNotBelieved) {
  uint64_t next = 1;
  const auto answered = [&](const std::string& output_tokens) {
    const CallId id = Start(next++);  // asks for 4
    Head(id, 200);
    Body(id, std::string(kToken) + kStop +
                 "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":" + output_tokens +
                 "}}\n\n" + kDone);
    const auto& completed = std::get<CompletedEvent>(sink_.events.back());
    EXPECT_EQ(std::get<QueryDone>(to_engine_.back()).output_tokens, completed.output_tokens);
    return completed.usage_estimated ? -completed.output_tokens : completed.output_tokens;
  };
  EXPECT_EQ(answered("4"), 4);
  EXPECT_EQ(answered("24"), 24);  // servers count in their own ways
  for (const char* absurd : {"25", "10000000", "2147483647", "1e300", "-5"}) EXPECT_EQ(answered(absurd), -1) << absurd;
}

// What a query took teaches the engine what the next will take, where it is known and the server's own doing.
TEST_F(DispatcherTest, OnlyAFairSampleOfAServersSpeedIsTold) {
  const std::string usage =
      "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":30,\"completion_tokens\":2,"
      "\"prompt_tokens_details\":{\"cached_tokens\":20}}}\n\n";
  const auto served = [&] { return std::get<QueryDone>(to_engine_.back()).served; };
  CallId id = Start(1);
  Advance(30 * kMs);
  Head(id, 200);
  Body(id, std::string(kToken) + kStop + usage + kDone);
  ASSERT_TRUE(served());
  EXPECT_DOUBLE_EQ(served()->compute_s, 0.03);
  EXPECT_EQ(served()->prompt_tokens, 10);  // the others were cached
  EXPECT_EQ(served()->output_tokens, 2);
  const auto& done = std::get<QueryDone>(to_engine_.back());
  EXPECT_EQ(done.backend, 0);
  EXPECT_DOUBLE_EQ(done.compute_s, 0.03);
  EXPECT_DOUBLE_EQ(done.first_token_s, 0.03);

  id = Start(2);  // estimated
  Head(id, 200);
  Body(id, std::string(kToken) + kStop + kDone);
  EXPECT_FALSE(served());

  id = Start(3);  // a server that does not know its prompt's size
  Head(id, 200);
  Body(id, std::string(kToken) + kStop + "data: {\"choices\":[],\"usage\":{\"completion_tokens\":2}}\n\n" + kDone);
  EXPECT_FALSE(served());

  Start(4);  // on the other backend after the first
  Head(Last(), 503);
  End(Last(), TransportEnd::kComplete, "");
  Head(Last(), 200);
  Body(Last(), std::string(kToken) + kStop + usage + kDone);
  EXPECT_EQ(Outcomes().back(), DispatchOutcome::kCompleted);
  EXPECT_FALSE(served());

  id = Start(5);  // its reader was slow, for a while
  sink_.answer = Delivery::kPause;
  Head(id, 200);
  Body(id, kToken);
  sink_.answer = Delivery::kAccepted;
  dispatcher_->Resume(SessionId{}, now_);
  Body(id, std::string(kStop) + usage + kDone);
  EXPECT_EQ(Outcomes().back(), DispatchOutcome::kCompleted);
  EXPECT_FALSE(served());

  id = Start(6);  // and nothing of that stays
  Head(id, 200);
  Body(id, std::string(kToken) + kStop + usage + kDone);
  EXPECT_TRUE(served());
}

TEST_F(DispatcherTest, APromptThatIsRefusedWithinTheStreamHurtsNobodyElse) {
  for (uint64_t k = 1; k <= 5; ++k) {
    const CallId id = Start(k);
    Head(id, 200);
    Body(id, "data: {\"error\":{\"code\":400,\"message\":\"9001 tokens at http://10.0.0.7:8000/v1\"}}\n\n");
    EXPECT_EQ(Failure().error.reason, "BACKEND_REFUSED");
    EXPECT_EQ(Failure().error.message, "HTTP 200: 9001 tokens at (address)");
    Advance(21 * kMs);  // to settle
  }
  const auto backends = dispatcher_->Backends();
  for (const auto& backend : backends[0]) EXPECT_EQ(backend.state, BackendState::kUp);
  size_t posts = 0;
  for (const auto& started : transport_.started) posts += !started.body.empty();
  EXPECT_EQ(posts, 5u);
}

TEST_F(DispatcherTest, AStrictServerIsAskedAgainWithoutTheFieldAndThatIsRemembered) {
  config_.sites[0].backends.resize(1);
  dispatcher_ = std::make_unique<Dispatcher>(std::make_shared<const Config>(config_), &transport_, &sink_, &metrics_,
                                             [this](Event event) { to_engine_.push_back(std::move(event)); });
  for (int step = 0; step < 3; ++step) {
    Advance(absl::ZeroDuration());
    for (const auto& probe : std::exchange(transport_.started, {})) AnswerProbe(probe.id);
  }
  const auto asks_for_usage = [&] { return LastAttempt().body.find("stream_options") != std::string::npos; };
  const std::string refusal =
      R"({"detail":[{"loc":["body","stream_options"],"msg":"Extra inputs are not permitted"}]})";
  Start(1);
  ASSERT_TRUE(asks_for_usage());
  const CallId first = Last();
  Head(first, 422);
  Body(first, refusal);
  End(first, TransportEnd::kComplete, "");
  ASSERT_NE(Last(), first) << "asked again";
  EXPECT_FALSE(asks_for_usage());
  Head(Last(), 422);  // not that field, then: nothing was learned
  Body(Last(), refusal);
  End(Last(), TransportEnd::kComplete, "");
  EXPECT_EQ(Failure().error.reason, "BACKEND_REFUSED");
  Start(2);
  EXPECT_TRUE(asks_for_usage());
  Head(Last(), 422);
  Body(Last(), refusal);
  End(Last(), TransportEnd::kComplete, "");
  Head(Last(), 200);
  Body(Last(), std::string(kToken) + kStop + kDone);
  EXPECT_EQ(std::get<CompletedEvent>(sink_.events.back()).text_bytes, 3u);
  Start(3);
  EXPECT_FALSE(asks_for_usage());
}

TEST_F(DispatcherTest, WhatAServerRefusesOfEveryRequestCostsOneRequestAndNoMore) {
  config_.sites[0].backends.resize(1);
  dispatcher_ = std::make_unique<Dispatcher>(std::make_shared<const Config>(config_), &transport_, &sink_, &metrics_,
                                             [this](Event event) { to_engine_.push_back(std::move(event)); });
  for (int step = 0; step < 3; ++step) {
    Advance(absl::ZeroDuration());
    for (const auto& probe : std::exchange(transport_.started, {})) AnswerProbe(probe.id);
  }
  uint64_t next = 0;
  const auto ask = [&](const std::string& text, double temperature, int top_logprobs) {
    DispatchRequest request;
    request.id = QueryId{++next};
    request.site = sched::SiteIndex{0};
    auto prompt = std::make_shared<PromptBody>();
    prompt->text = text;
    prompt->temperature = temperature;
    prompt->top_logprobs = top_logprobs;
    request.prompt = prompt;
    request.max_output_tokens = 4;
    request.received = request.prompt_ready = now_;
    request.deadline = MonotonicTime::Infinite();
    dispatcher_->Start(request, now_);
    return Last();
  };
  const auto refuse = [&](CallId id, int status, const std::string& words) {
    Head(id, status);
    Body(id, "{\"error\":{\"message\":\"" + words + "\"}}");
    End(id, TransportEnd::kComplete, "");
    EXPECT_NE(Last(), id) << words << ": asked again";
  };
  const auto answer = [&] {
    const size_t before = Outcomes().size();
    Head(Last(), 200);
    Body(Last(), std::string(kToken) + kStop + kDone);
    EXPECT_EQ(Outcomes().size(), before + 1);
    Advance(21 * kMs);
  };
  const auto has = [&](const char* field) { return LastAttempt().body.find(field) != std::string::npos; };
  refuse(ask("q", 0, 0), 400, "'temperature' does not support 0. Only the default (1) value is supported.");
  answer();
  ask("q", 0, 0);
  EXPECT_FALSE(has("temperature")) << "remembered";
  answer();
  refuse(ask("what is logprobs", 1, 5), 400, "no logprobs here: they are not supported");
  EXPECT_FALSE(has("logprobs\":"));
  answer();
  refuse(ask("q", 1, 5), 400, "top_logprobs must be between 0 and 4");
  answer();
  ask("q", 1, 5);
  EXPECT_FALSE(has("logprobs\":"));
  answer();
  ask("q", 1, 4);
  EXPECT_TRUE(has("logprobs\":")) << "so many were not refused";
  answer();
  ask("q", 1, 0);  // within a stream, which goes on
  const CallId streamed = Last();
  Head(streamed, 200);
  Body(streamed, "data: {\"error\":{\"code\":400,\"message\":\"Extra inputs are not permitted: stream_options\"}}\n\n");
  EXPECT_NE(Last(), streamed);
  EXPECT_EQ(transport_.aborted.back(), streamed);
  EXPECT_FALSE(has("stream_options"));
  answer();
  ask("q", 1, 0);
  EXPECT_FALSE(has("stream_options"));
}

TEST_F(DispatcherTest, ThoughtKeepsAnAnswerAliveAndPingsDoNot) {
  config_.sites[0].backends[0].first_byte = absl::Seconds(60);  // its own, beside the 30 s of dispatch
  dispatcher_ = std::make_unique<Dispatcher>(std::make_shared<const Config>(config_), &transport_, &sink_, &metrics_,
                                             [this](Event event) { to_engine_.push_back(std::move(event)); });
  for (int step = 0; step < 3; ++step) {
    Advance(absl::ZeroDuration());
    for (const auto& probe : std::exchange(transport_.started, {})) AnswerProbe(probe.id);
  }
  Start(1);
  ASSERT_EQ(LastAttempt().url, "http://one");
  const CallId id = Last();
  Head(id, 200);
  Body(id, ": ping\n\n");
  Advance(absl::Seconds(59));
  Body(id, "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n");
  EXPECT_TRUE(Returned().empty()) << "its own first_byte";
  for (int k = 0; k < 10; ++k) {
    Body(id, "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}]}\n\n");
    Advance(absl::Seconds(9));
  }
  EXPECT_TRUE(Returned().empty());
  for (int k = 0; k < 2; ++k) {
    Body(id, ": ping\n\n");
    Advance(absl::Seconds(1));
  }
  EXPECT_EQ(Returned().size(), 1u) << "between_tokens; the other backend has answered no probe meanwhile";
}

TEST_F(DispatcherTest, BeforeTheFirstTokenItMovesToTheOtherBackendAfterItItFails) {
  config_.dispatch.failures_to_open = 100;
  dispatcher_->SetConfig(std::make_shared<const Config>(config_), now_);
  for (const int how : {0, 1, 2, 3}) {
    transport_.started.clear();
    sink_.events.clear();
    const CallId id = Start(static_cast<uint64_t>(10 + how));
    const std::string first = transport_.started.at(0).url;
    if (how == 0) End(id, TransportEnd::kConnectFailed, "refused");
    if (how > 0) Head(id, how == 1 ? 503 : how == 2 ? 429 : 200);
    if (how == 3) Body(id, std::string("data: garbage\n\n") + kToken);  // the rest is not the next answer's
    if (how == 1 || how == 2) End(id, TransportEnd::kComplete, "");
    ASSERT_EQ(transport_.started.size(), 2u) << how;
    EXPECT_NE(transport_.started[1].url, first);
    Head(Last(), 200);
    Body(Last(), kToken);
    End(Last(), TransportEnd::kBroken, "reset");
    EXPECT_EQ(sink_.Text(), "hi ");
    EXPECT_EQ(Failure().error.code, ErrorCode::kUnavailable);
    Advance(21 * kMs);
  }
}

TEST_F(DispatcherTest, ABadRequestIsNotTriedElsewhere) {
  const CallId id = Start(1);
  Head(id, 400);
  Body(id, R"({"error":{"message":"request (1202 tokens) exceeds the available context size"}})");
  End(id, TransportEnd::kComplete, "");
  EXPECT_EQ(transport_.started.size(), 1u);
  EXPECT_EQ(Failure().error.code, ErrorCode::kInvalidArgument);
  EXPECT_NE(Failure().error.message.find("1202 tokens"), std::string::npos);
}

TEST_F(DispatcherTest, AbortFreesTheSlotOnlyWhenTheServerHasHadTimeToLetGo) {
  const CallId id = Start(1);
  Start(2);
  Start(3);  // both backends are full
  EXPECT_EQ(transport_.started.size(), 2u);
  dispatcher_->Abort(QueryId{1}, now_);
  EXPECT_EQ(transport_.aborted, std::vector{id});
  Advance(10 * kMs);
  EXPECT_TRUE(Outcomes().empty());
  EXPECT_EQ(transport_.started.size(), 2u);
  Advance(10 * kMs);
  EXPECT_EQ(Outcomes(), std::vector{DispatchOutcome::kAborted});
  ASSERT_EQ(transport_.started.size(), 3u);
  EXPECT_NE(transport_.started[2].body.find("q3"), std::string::npos);
}

TEST_F(DispatcherTest, TimeLimitsOfEachPhase) {
  Start(1);
  Advance(absl::Seconds(30));  // first_byte: another backend
  EXPECT_EQ(LastAttempt().url, "http://two");
  Head(Last(), 200);
  Body(Last(), kToken);
  Advance(absl::Seconds(10));  // between_tokens
  EXPECT_EQ(Failure().error.reason, "BACKEND_FAILED");
  Advance(21 * kMs);
  Start(2, /*deadline=*/50 * kMs);
  Advance(51 * kMs);
  EXPECT_EQ(Failure().error.code, ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(Failure().error.reason, "DEADLINE");
}

TEST_F(DispatcherTest, AnAnswerWithoutEndAndAWaitWithoutASlotAreGivenUpInTime) {
  const CallId one = Start(1), two = Start(2);
  for (const CallId id : {one, two}) Head(id, 200);
  EXPECT_EQ(Start(3), CallId{}) << "both slots are taken";
  for (int k = 0; k < 60; ++k) {
    for (const CallId id : {one, two}) Body(id, ": alive\n\n" + std::string(kToken));
    Advance(absl::Seconds(5));
    if (k != 5) continue;
    EXPECT_EQ(Failure().id, QueryId{3});  // as long as for a first token
    EXPECT_EQ(Failure().error.code, ErrorCode::kDeadlineExceeded);
    EXPECT_EQ(Failure().error.reason, "TIMEOUT");
  }
  EXPECT_NE(Failure().id, QueryId{3});  // dispatch.total
  EXPECT_EQ(Failure().error.code, ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(Failure().error.reason, "TIMEOUT");
}

TEST_F(DispatcherTest, ASlowReaderPausesItsBackendAndIsGivenUpInTime) {
  const CallId id = Start(1);
  Head(id, 200);
  sink_.answer = Delivery::kPause;
  Body(id, kToken);
  EXPECT_EQ(transport_.pauses, std::vector{true});
  Advance(absl::Seconds(9));
  sink_.answer = Delivery::kAccepted;
  dispatcher_->Resume(SessionId{}, now_);
  EXPECT_EQ(transport_.pauses, (std::vector{true, false}));
  sink_.answer = Delivery::kPause;
  Body(id, kToken);
  Advance(absl::Seconds(10));
  EXPECT_EQ(Failure().error.code, ErrorCode::kSlowConsumer);
  EXPECT_EQ(Failure().error.reason, "SLOW_CONSUMER");
}

TEST_F(DispatcherTest, AQueryThatIsOverAtTheDeviceIsAborted) {
  const CallId id = Start(1);
  Head(id, 200);
  sink_.answer = Delivery::kDropped;
  Body(id, std::string(kToken) + kToken + kToken);
  EXPECT_EQ(transport_.aborted, std::vector{id});
  Advance(21 * kMs);
  EXPECT_EQ(Outcomes(), std::vector{DispatchOutcome::kAborted});
}

TEST_F(DispatcherTest, AQueryThatWasReturnedMayComeBackAtOnceAsAnothersCall) {
  Start(1);
  End(Last(), TransportEnd::kConnectFailed, "refused");
  End(Last(), TransportEnd::kConnectFailed, "refused");
  ASSERT_EQ(Returned().size(), 1u);
  dispatcher_->Start(Returned()[0].request, now_);
  Head(Last(), 200);
  Body(Last(), std::string(kToken) + kStop + kDone);
  EXPECT_EQ(sink_.Text(), "hi ");
  EXPECT_EQ(Outcomes(), std::vector{DispatchOutcome::kCompleted});
  Advance(kMs);
}

TEST_F(DispatcherTest, ABusyBackendIsLeftAloneForItsRetryAfter) {
  const CallId id = Start(1);
  const std::string busy = transport_.started[0].url;
  Head(id, 503, absl::Seconds(7));
  End(id, TransportEnd::kComplete, "");
  ASSERT_EQ(transport_.started.size(), 2u);  // the other one takes it
  EXPECT_EQ(LastHealth().slots, 1);
  Start(2);
  EXPECT_EQ(transport_.started.size(), 2u) << "the other is full and the first rests";
  Advance(absl::Seconds(6));
  const auto sent_to_busy = [&] {
    size_t count = 0;
    for (const auto& started : transport_.started) count += started.url == busy && !started.body.empty();
    return count;
  };
  EXPECT_EQ(sent_to_busy(), 1u);
  Advance(absl::Seconds(1));
  EXPECT_EQ(sent_to_busy(), 2u);
  EXPECT_EQ(LastHealth().slots, 2);
}

// A probe says that the server is there; only an answer says that it answers.
TEST_F(DispatcherTest, FailedRequestsOpenTheCircuitAndAWholeAnswerClosesIt) {
  for (uint64_t k = 1; k <= 3; ++k) {
    Start(k);
    End(Last(), TransportEnd::kConnectFailed, "refused");
    End(Last(), TransportEnd::kConnectFailed, "refused");
    EXPECT_TRUE(sink_.events.empty());  // perhaps another site can
    ASSERT_EQ(Returned().size(), k);
    EXPECT_EQ(Returned().back().error.reason, "NO_BACKEND");
    EXPECT_TRUE(Outcomes().empty());
    Advance(kMs);
  }
  EXPECT_EQ(LastHealth().backends_up, 0);
  const auto state = [&](int backend) { return dispatcher_->Backends()[0][static_cast<size_t>(backend)].state; };
  EXPECT_EQ(state(0), BackendState::kHalfOpen);
  for (int round = 0; round < 3; ++round) {  // probes are good all the time
    transport_.started.clear();
    Advance(absl::Seconds(1));
    for (const auto& call : std::exchange(transport_.started, {})) AnswerProbe(call.id);
  }
  EXPECT_EQ(state(0), BackendState::kHalfOpen);
  EXPECT_EQ(LastHealth().backends_up, 2) << "the pauses are over";
  EXPECT_EQ(LastHealth().slots, 2);
  transport_.started.clear();
  Start(4);
  const std::string tried = LastAttempt().url;
  Head(Last(), 200);
  Body(Last(), std::string(kToken) + kStop + kDone);
  EXPECT_EQ(Outcomes(), std::vector{DispatchOutcome::kCompleted});
  EXPECT_EQ(state(tried == "http://one" ? 0 : 1), BackendState::kUp);
  EXPECT_EQ(state(tried == "http://one" ? 1 : 0), BackendState::kHalfOpen);
}

TEST_F(DispatcherTest, OneThatTellsRequestsOfLoadingIsNotTriedByEveryQuery) {
  Start(1);
  const FakeTransport::Started first = LastAttempt();
  const size_t loading = first.url == "http://one" ? 0 : 1;
  Head(first.id, 503);
  Body(first.id, R"({"error":{"code":503,"message":"Loading model","type":"unavailable_error"}})");
  End(first.id, TransportEnd::kComplete, "");
  EXPECT_EQ(dispatcher_->Backends()[0][loading].state, BackendState::kLoading);
  for (uint64_t id = 2; id < 12; ++id) {
    EXPECT_NE(LastAttempt().url, first.url) << "the others serve";
    Head(Last(), 200);
    Body(Last(), absl::StrCat(kToken, kStop, kDone));
    Start(id);
  }
  Advance(absl::Seconds(2));  // its pause is over, and the other one is full
  Start(20);
  const FakeTransport::Started tried = LastAttempt();
  ASSERT_EQ(tried.url, first.url);
  Start(21);
  EXPECT_EQ(LastAttempt().id, tried.id) << "one at a time, and the other is full";
  Head(tried.id, 200);
  Body(tried.id, absl::StrCat(kToken, kStop, kDone));
  EXPECT_EQ(dispatcher_->Backends()[0][loading].state, BackendState::kUp);
  EXPECT_TRUE(Returned().empty());
}

TEST_F(DispatcherTest, APromptThatIsRepeatedInAnErrorTakesABackendFromNobody) {
  for (uint64_t id = 1; id <= 12; ++id) {
    DispatchRequest request;
    request.id = QueryId{id};
    request.site = sched::SiteIndex{0};
    auto prompt = std::make_shared<PromptBody>();
    prompt->text = id % 2 == 0 ? "say incorrect api key" : "say context length";
    request.prompt = prompt;
    request.max_output_tokens = 4;
    request.received = request.prompt_ready = now_;
    request.deadline = MonotonicTime::Infinite();
    dispatcher_->Start(request, now_);
    for (int attempt = 0; attempt < (id % 2 == 0 ? 1 : 2); ++attempt) {
      const CallId call = Last();
      Head(call, id % 2 == 0 ? 400 : 500);
      Body(call, absl::StrCat(R"({"error":{"message":"cannot do this: )", prompt->text, R"("}})"));
      End(call, TransportEnd::kComplete, "");
    }
  }
  const auto sites = dispatcher_->Backends();
  for (const BackendRow& backend : sites[0]) EXPECT_EQ(backend.state, BackendState::kUp);
  EXPECT_EQ(Returned().size(), 6u) << "a 500 may be anything: tried on both, then given back";
}

TEST_F(DispatcherTest, TheBackendThatOthersUseLeastIsChosenByItsOwnMetrics) {
  config_.sites[0].backends[0].slots = config_.sites[0].backends[1].slots = 4;
  dispatcher_ = std::make_unique<Dispatcher>(std::make_shared<const Config>(config_), &transport_, &sink_, &metrics_,
                                             [this](Event event) { to_engine_.push_back(std::move(event)); });
  const auto round = [&](const std::string& load_of_one, const std::string& load_of_two) {
    for (int step = 0; step < 4; ++step) {
      Advance(absl::ZeroDuration());
      for (const auto& probe : std::exchange(transport_.started, {})) {
        AnswerProbe(probe.id, probe.path != "/metrics" ? "" : probe.url == "http://one" ? load_of_one : load_of_two);
      }
    }
  };
  round("vllm:num_requests_running{model_name=\"m\"} 3.0\nvllm:num_requests_waiting{model_name=\"m\"} 2\n",
        "none of ours 7\n");
  Start(1);
  Start(2);
  EXPECT_EQ(transport_.started.at(0).url, "http://two");
  EXPECT_EQ(transport_.started.at(1).url, "http://two");
  EXPECT_EQ(dispatcher_->Backends()[0][0].foreign, 5);
  transport_.started.clear();
  Advance(absl::Seconds(1));
  round("vllm:num_requests_running{model_name=\"m\"} 0\n", "");
  Start(3);
  ASSERT_EQ(transport_.started.size(), 1u) << "a server without load in its metrics is not asked for them again";
  EXPECT_EQ(transport_.started.at(0).url, "http://one");
}

TEST_F(DispatcherTest, ASessionsNextChatQueryGoesWhereItsLastOneWasAnsweredWhileThereIsRoom) {
  for (BackendConfig& backend : config_.sites[0].backends) {
    backend.api = BackendApi::kChat;
    backend.slots = 2;
  }
  dispatcher_ = std::make_unique<Dispatcher>(std::make_shared<const Config>(config_), &transport_, &sink_, &metrics_,
                                             [this](Event event) { to_engine_.push_back(std::move(event)); });
  for (int step = 0; step < 4; ++step) {
    Advance(absl::ZeroDuration());
    for (const auto& probe : std::exchange(transport_.started, {})) AnswerProbe(probe.id);
  }
  uint64_t next = 0;
  const auto ask = [&](uint64_t session) {
    DispatchRequest request;
    request.id = QueryId{++next};
    request.session = SessionId{session};
    request.site = sched::SiteIndex{0};
    auto prompt = std::make_shared<PromptBody>();
    prompt->chat = request.needs.chat = true;
    request.prompt = prompt;
    request.received = request.prompt_ready = now_;
    request.deadline = MonotonicTime::Infinite();
    dispatcher_->Start(request, now_);
    return LastAttempt();
  };
  const auto answer = [&](CallId id) {
    Head(id, 200);
    Body(id,
         "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n"
         "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n");
    End(id, TransportEnd::kComplete, "");
  };
  const auto first = ask(1);
  const auto beside = ask(2);
  ASSERT_EQ(first.url, "http://one");
  ASSERT_EQ(beside.url, "http://two");
  answer(first.id);
  answer(beside.id);
  const auto busy = ask(3);  // the least loaded: one
  EXPECT_EQ(busy.url, "http://one");
  EXPECT_EQ(ask(1).url, "http://one") << "though two is idle";
  EXPECT_EQ(ask(1).url, "http://two") << "one is full";
  EXPECT_EQ(ask(2).url, "http://two");
}

// Two chat servers, which say of themselves what the test wants.
class AbleDispatcherTest : public DispatcherTest {
 protected:
  AbleDispatcherTest() {
    for (BackendConfig& backend : config_.sites[0].backends) backend.api = BackendApi::kChat, backend.slots = 4;
  }
  void Restart(const std::string& one, const std::string& two, const std::string& models = "") {
    props_ = {{"http://one", one}, {"http://two", two}};
    models_ = models;
    transport_.started.clear();
    transport_.live.clear();
    dispatcher_ = std::make_unique<Dispatcher>(std::make_shared<const Config>(config_), &transport_, &sink_, &metrics_,
                                               [this](Event event) { to_engine_.push_back(std::move(event)); });
    Round();
  }
  void Round() {
    for (int step = 0; step < 4; ++step) {
      Advance(absl::ZeroDuration());
      for (const auto& probe : std::exchange(transport_.started, {})) {
        AnswerProbe(probe.id, probe.path == "/props" ? props_[probe.url] : probe.path == "/v1/models" ? models_ : "");
      }
    }
  }
  // The server that it goes to; "waits", "returned".
  std::string Ask(sched::Needs needs) {
    DispatchRequest request;
    request.id = QueryId{++asked_};
    request.site = sched::SiteIndex{0};
    auto prompt = std::make_shared<PromptBody>();
    prompt->chat = needs.chat;
    request.prompt = prompt;
    request.needs = needs;
    request.received = request.prompt_ready = now_;
    request.deadline = MonotonicTime::Infinite();
    transport_.started.clear();
    const size_t returned = Returned().size();
    dispatcher_->Start(request, now_);
    if (!transport_.started.empty()) return transport_.started.back().url;
    return Returned().size() > returned ? "returned" : "waits";
  }
  std::map<std::string, std::string> props_;
  std::string models_;
  uint64_t asked_ = 0;
};
const char kToolsProps[] =
    R"({"default_generation_settings":{"n_ctx":4096},"modalities":{"vision":false},"chat_template_caps":{"supports_tools":true}})";
const char kImagesProps[] =
    R"({"default_generation_settings":{"n_ctx":2048},"modalities":{"vision":true},"chat_template_caps":{"supports_tools":false}})";

const size_t kToolsSet = sched::Needs{true, true}.Set();

TEST_F(AbleDispatcherTest, AQueryGoesToABackendThatCanAlsoAfterAFailure) {
  Restart(kToolsProps, kImagesProps);
  EXPECT_EQ(Ask({true, true}), "http://one");
  const CallId first = Last();
  for (int k = 0; k < 2; ++k) EXPECT_EQ(Ask({true, true}), "http://one");
  for (int k = 0; k < 3; ++k) EXPECT_EQ(Ask({true, false, true, 2048}), "http://two");
  EXPECT_EQ(Ask({true, false, false, 4000}), "http://one");
  EXPECT_EQ(Ask({true, true}), "waits") << "though two is not full";
  ASSERT_EQ(Ask({true, true, true}), "returned") << "waiting cannot help";
  EXPECT_EQ(Returned().back().error.reason, "NOT_ABLE");
  EXPECT_NE(Returned().back().error.message.find("chat, tools, images"), std::string::npos);
  EXPECT_EQ(Ask({true}), "http://two");
  const size_t before = Returned().size();
  transport_.started.clear();
  End(first, TransportEnd::kConnectFailed, "gone");
  ASSERT_EQ(transport_.started.size(), 1u) << "two has room, and cannot";
  EXPECT_EQ(transport_.started[0].url, "http://one") << "the one that waited";
  EXPECT_EQ(Returned().size(), before + 1);
  EXPECT_NE(Returned().back().error.reason, "NOT_ABLE") << "one failed, and that is the reason";
}

TEST_F(AbleDispatcherTest, OneThatRestsOrIsDownCouldAllTheSame) {
  Restart(kToolsProps, kImagesProps);
  ASSERT_EQ(Ask({true, true}), "http://one");
  Head(Last(), 429, absl::Seconds(20));
  End(Last(), TransportEnd::kComplete, "");
  EXPECT_EQ(Ask({true, true}), "returned");
  EXPECT_EQ(Returned().back().error.reason, "NO_BACKEND") << "it is only resting";
  EXPECT_EQ(LastHealth().contexts[kToolsSet], sched::kCannot);
  EXPECT_EQ(LastHealth().all_contexts[kToolsSet], 4096);
  EXPECT_EQ(Ask({true, true, true}), "returned");
  EXPECT_EQ(Returned().back().error.reason, "NOT_ABLE");
}

// The order of the operator's handbook: drain it, then stop its server.
TEST_F(AbleDispatcherTest, ADrainedSiteWhoseServersAreStoppedIsDrainedAndNotUnable) {
  Restart(kToolsProps, kImagesProps);
  Config next = config_;
  next.sites[0].backends[0].presence.drained = true;
  dispatcher_->SetConfig(std::make_shared<const Config>(next), now_);
  EXPECT_EQ(LastHealth().contexts[kToolsSet], sched::kCannot);
  EXPECT_EQ(LastHealth().drained_contexts[kToolsSet], 4096);
  for (int round = 0; round < 10 && dispatcher_->Backends()[0][1].state != BackendState::kDown; ++round) {
    Advance(config_.dispatch.probe_period);
    for (const auto& probe : std::exchange(transport_.started, {})) {
      if (probe.url == "http://one") {
        AnswerProbe(probe.id);
      } else {
        End(probe.id, TransportEnd::kConnectFailed, "refused");
      }
    }
  }
  EXPECT_TRUE(LastHealth().draining) << "one is drained and the other is down";
  EXPECT_EQ(LastHealth().contexts[kToolsSet], 4096);
}

TEST_F(AbleDispatcherTest, TheEngineAndTheSessionsHearWhatTheSiteCan) {
  Restart(kToolsProps, kImagesProps);
  const sched::Contexts contexts = LastHealth().contexts;
  EXPECT_EQ(contexts[sched::Needs{}.Set()], 4096);
  EXPECT_EQ(contexts[(sched::Needs{true, true}).Set()], 4096);
  EXPECT_EQ(contexts[(sched::Needs{true, false, true}).Set()], 2048);
  EXPECT_EQ(contexts[(sched::Needs{true, true, true}).Set()], sched::kCannot);
  ASSERT_FALSE(sink_.can.empty());
  ASSERT_EQ(sink_.can.back()[0].size(), 2u);
  EXPECT_EQ(ToText(sink_.can.back()[0][0]), "chat, tools (server), no images (server), context 4096 (server)");
  const BackendRow row = dispatcher_->Backends()[0][1];
  EXPECT_EQ(ToText(row.abilities), "chat, no tools (server), images (server), context 2048 (server)");
  Config next = config_;  // what the operator says comes first, and at once
  next.sites[0].backends[0].images = true;
  next.sites[0].backends[1].presence.drained = true;
  dispatcher_->SetConfig(std::make_shared<const Config>(next), now_);
  EXPECT_EQ(LastHealth().contexts[(sched::Needs{true, true, true}).Set()], 4096);
  ASSERT_EQ(sink_.can.back()[0].size(), 2u) << "one that is drained comes back";
  EXPECT_TRUE(sink_.can.back()[0][0].images);
}

TEST_F(AbleDispatcherTest, AListedContextCountsWherePropsTellNone) {
  const std::string models = R"({"data":[{"id":"llm","max_model_len":1000}]})";
  Restart("", kToolsProps, models);
  EXPECT_EQ(dispatcher_->Backends()[0][0].abilities.context_tokens, 1000);
  EXPECT_EQ(dispatcher_->Backends()[0][1].abilities.context_tokens, 4096);
  EXPECT_EQ(Ask({true, false, false, 1001}), "http://two");
  models_ = R"({"data":[{"id":"llm","max_model_len":5000}]})";  // another server, with a longer one
  for (int k = 0; k < 3; ++k) {
    Advance(absl::Seconds(2));
    for (const auto& probe : std::exchange(transport_.started, {})) End(probe.id, TransportEnd::kConnectFailed, "");
  }
  Advance(absl::Seconds(2));
  Round();
  EXPECT_EQ(dispatcher_->Backends()[0][0].abilities.context_tokens, 5000);
}

TEST_F(AbleDispatcherTest, ChatGoesToACompletionsServerOnlyWhereTheOperatorAskedForIt) {
  for (BackendConfig& backend : config_.sites[0].backends) backend.api = BackendApi::kCompletions;
  Restart("", "");
  EXPECT_EQ(Ask({true}), "returned");
  EXPECT_EQ(Ask({}).substr(0, 7), "http://");
  config_.sites[0].backends[1].chat_as_text = true;
  Restart("", "");
  EXPECT_EQ(Ask({true}), "http://two");
  EXPECT_EQ(transport_.started.back().path, "/v1/completions");
  EXPECT_EQ(Ask({true, true}), "returned") << "tools have no place in a text";
}

TEST_F(DispatcherTest, OurOwnRequestsInAServersMetricsAreNotSomebodyElses) {
  config_.sites[0].backends.resize(1);
  config_.sites[0].backends[0].slots = 4;
  dispatcher_ = std::make_unique<Dispatcher>(std::make_shared<const Config>(config_), &transport_, &sink_, &metrics_,
                                             [this](Event event) { to_engine_.push_back(std::move(event)); });
  for (int step = 0; step < 3; ++step) {
    Advance(absl::ZeroDuration());
    for (const auto& probe : std::exchange(transport_.started, {})) AnswerProbe(probe.id);
  }
  Start(1);
  Start(2);
  transport_.started.clear();
  Advance(absl::ZeroDuration());
  ASSERT_EQ(transport_.started.at(0).path, "/metrics");
  AnswerProbe(transport_.started[0].id, "llamacpp:requests_processing 2\nllamacpp:requests_deferred 1\n");
  EXPECT_EQ(dispatcher_->Backends()[0][0].in_flight, 2);
  EXPECT_EQ(dispatcher_->Backends()[0][0].foreign, 1);
}

TEST_F(DispatcherTest, ADrainedBackendTakesNothingNewAndWhatItHasIsFinished) {
  const CallId running = Start(1);
  const size_t at = LastAttempt().url == "http://one" ? 0 : 1;
  Config next = config_;
  next.sites[0].backends[at].presence.drained = true;
  dispatcher_->SetConfig(std::make_shared<const Config>(next), now_);
  EXPECT_EQ(LastHealth().slots, 1);
  EXPECT_FALSE(LastHealth().draining);
  Head(running, 200);
  Body(running, std::string(kToken) + kStop + kDone);
  End(running, TransportEnd::kComplete, "");
  EXPECT_EQ(Outcomes(), std::vector{DispatchOutcome::kCompleted});
  for (uint64_t k = 2; k < 4; ++k) {
    const std::string other = at == 0 ? "http://two" : "http://one";
    const CallId id = Start(k);
    EXPECT_EQ(LastAttempt().url, other);
    Head(id, 200);
    Body(id, std::string(kToken) + kStop + kDone);
    End(id, TransportEnd::kComplete, "");
  }
  next.sites[0].backends[1 - at].presence.drained = true;
  dispatcher_->SetConfig(std::make_shared<const Config>(next), now_);
  EXPECT_EQ(LastHealth().slots, 0);
  EXPECT_TRUE(LastHealth().draining);
  Start(4);  // admitted before: it is not lost
  EXPECT_TRUE(Returned().empty());
  EXPECT_EQ(LastAttempt().body.find("q4") != std::string::npos, true);
}

TEST_F(DispatcherTest, ARemovedBackendFinishesWhatItHasAndIsAskedNoMoreAndANewOneIsAskedAtOnce) {
  const CallId running = Start(1);
  const size_t at = LastAttempt().url == "http://one" ? 0 : 1;
  Advance(absl::Seconds(1));  // probes are under way
  Config next = config_;
  next.sites[0].backends[at].presence.removed_at = now_;
  BackendConfig added;
  added.url = "http://three";
  added.slots = 5;
  next.sites[0].backends.push_back(added);
  SiteConfig site;
  site.name = "b";
  added.url = "http://four";
  site.backends = {added};
  next.sites.push_back(site);
  metrics_.SetLabels({{"a", "b"}, {{"http://one", "http://two", "http://three"}, {"http://four"}}});
  transport_.started.clear();
  Head(running, 200);
  dispatcher_->SetConfig(std::make_shared<const Config>(next), now_);
  for (int k = 0; k < 20; ++k) {
    Advance(absl::Milliseconds(500));
    for (const auto& probe : std::exchange(transport_.started, {})) {
      EXPECT_NE(probe.url, config_.sites[0].backends[at].url);
      AnswerProbe(probe.id);
    }
    Body(running, kToken);
  }
  int slots_a = 0, slots_b = 0;
  for (const Event& event : to_engine_) {
    if (const auto* health = std::get_if<SiteHealth>(&event))
      (health->site == sched::SiteIndex{0} ? slots_a : slots_b) = health->slots;
  }
  EXPECT_EQ(slots_a, 6);
  EXPECT_EQ(slots_b, 5);
  Body(running, std::string(kStop) + kDone);
  End(running, TransportEnd::kComplete, "");
  EXPECT_EQ(Outcomes(), std::vector{DispatchOutcome::kCompleted});
}

}  // namespace
}  // namespace goad::server
