// The daemon in this process, the SDK and raw streams before it, a scripted LLM server behind it.
#include <openssl/ssl.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <future>
#include <limits>

#include "absl/strings/escaping.h"
#include "client_sdk/loadgen/policy_trial.h"
#include "goad/v1/admin.grpc.pb.h"
#include "goad/v1/planner.grpc.pb.h"
#include "tests/support/daemon_fixture.h"

namespace goad::server {
namespace {

using Exchange = FakeLlmServer::Exchange;

TEST_F(DaemonTest, UncertainQueryIsAnsweredByTheEdgeAndASureOneLocally) {
  StartDaemon();
  auto client = Connect();
  std::string streamed;
  const Answer edge = client->Ask(
      Unsure(), [] { return "local"; }, [&](const std::string& text) { streamed += text; });
  EXPECT_EQ(edge.source, Answer::Source::kEdge);
  EXPECT_EQ(edge.text, "hi there");
  EXPECT_EQ(streamed, "hi there");
  EXPECT_EQ(edge.decision.reason, "UNCERTAIN");
  EXPECT_EQ(edge.output_tokens, 3);
  goad::Query sure = Unsure();
  sure.uncertainty = 0.1;
  const Answer local = client->Ask(sure, [] { return "local"; });
  EXPECT_EQ(local.text, "local");
  EXPECT_EQ(local.why_local, "NO_GAIN");
  EXPECT_EQ(Metric("goad_decisions_total", "OFFLOAD"), 1);
  EXPECT_EQ(Metric("goad_decisions_total", "NO_GAIN"), 1);
  EXPECT_EQ(Metric("goad_request_duration_seconds_count", "completed"), 1);
  EXPECT_EQ(Metric("goad_request_duration_seconds_count", "local"), 1);
  EXPECT_EQ(Metric("goad_tokens_total"), 2);
  EXPECT_EQ(Metric("goad_late_terminals_total"), 0);
}

TEST_F(DaemonTest, ThePromptLeavesTheDeviceOnlyAfterOffload) {
  StartDaemon();
  RawSession session(Channel());
  session.Open();
  session.Query("q");
  const v1::ServerFrame decision = session.Read();
  ASSERT_TRUE(decision.has_decision()) << decision.ShortDebugString();
  EXPECT_EQ(decision.decision().verdict(), v1::VERDICT_OFFLOAD);
  EXPECT_EQ(decision.decision().site(), "a");
  EXPECT_GT(decision.decision().upload_within_s(), 4);
  EXPECT_EQ(backend_.requests(), 0);
  session.Prompt("q");
  std::string text;
  v1::ServerFrame frame;
  while ((frame = session.Read()).has_tokens()) {
    EXPECT_EQ(frame.tokens().text_offset(), text.size());
    text += frame.tokens().text();
  }
  ASSERT_TRUE(frame.has_completed()) << frame.ShortDebugString();
  EXPECT_EQ(text, "hi there");
  EXPECT_EQ(frame.completed().text_bytes(), 8u);
  EXPECT_EQ(frame.completed().finish_reason(), "stop");
  session.HalfClose();
  EXPECT_TRUE(session.Finish().ok());
}

TEST_F(DaemonTest, HalfCloseDoesNotCancelWhatRuns) {
  backend_.set_script([](Exchange& e) { e.WaitForRelease() && e.Head() && e.Token("late") && e.Finish(); });
  StartDaemon();
  RawSession session(Channel());
  session.OpenAndAsk("q");
  session.HalfClose();
  WaitUntil([&] { return backend_.requests() == 1; });
  backend_.Release();
  EXPECT_EQ(session.Read().tokens().text(), "late");
  EXPECT_TRUE(session.Read().has_completed());
  EXPECT_TRUE(session.Finish().ok());
}

TEST_F(DaemonTest, ALostStreamAbortsItsBackendCallWithin200ms) {
  std::promise<bool> left;
  backend_.set_script([&](Exchange& e) {
    e.Head() && e.Token("x");
    left.set_value(e.ClientLeftWithin(kLong));
  });
  StartDaemon();
  RawSession session(Channel());
  session.OpenAndAsk("q");
  ASSERT_TRUE(session.Read().has_tokens());
  const MonotonicTime start = MonotonicTime::Now();
  session.Cancel();
  EXPECT_TRUE(left.get_future().get());
  EXPECT_LT(MonotonicTime::Now() - start, absl::Milliseconds(200));
  WaitUntil([&] { return Metric("goad_running_queries") == 0; });
  EXPECT_EQ(Metric("goad_request_duration_seconds_count", "lost"), 1);
}

TEST_F(DaemonTest, CancelAnswersCancelledOnceAndAbortsTheBackend) {
  backend_.set_script([](Exchange& e) { e.Head() && e.Token("x") && e.ClientLeftWithin(kLong); });
  StartDaemon();
  RawSession session(Channel());
  session.OpenAndAsk("q");
  ASSERT_TRUE(session.Read().has_tokens());
  v1::DeviceFrame cancel;
  cancel.mutable_cancel()->set_query_id("q");
  session.Send(cancel);
  session.Send(cancel);
  EXPECT_EQ(session.Read().cancelled().query_id(), "q");
  WaitUntil([&] { return backend_.clients_left() == 1; });
  session.HalfClose();
  EXPECT_TRUE(session.Finish().ok());
}

TEST_F(DaemonTest, ABackendThatDiesMidAnswerIsFailedWithWhatWasSentAndTheSdkAnswersLocally) {
  backend_.set_script([](Exchange& e) { e.Head() && e.Token("half an ans"); });
  StartDaemon();
  RawSession session(Channel());
  session.OpenAndAsk("q");
  EXPECT_EQ(session.Read().tokens().text(), "half an ans");
  const v1::ServerFrame failed = session.Read();
  ASSERT_TRUE(failed.has_failed());
  EXPECT_EQ(failed.failed().text_bytes(), 11u);
  EXPECT_TRUE(failed.failed().answer_locally());
  EXPECT_EQ(failed.failed().error().code(), v1::ERROR_CODE_UNAVAILABLE);
  const Answer answer = Connect()->Ask(Unsure(), [] { return "local"; });
  EXPECT_EQ(answer.text, "local");
  EXPECT_EQ(answer.why_local, "BACKEND_FAILED");
}

TEST_F(DaemonTest, AnAnswerWithoutFinishReasonIsFailed) {
  backend_.set_script([](Exchange& e) { e.Head() && e.Token("x") && e.Finish(/*finish_reason=*/false); });
  StartDaemon();
  EXPECT_EQ(Connect()->Ask(Unsure(), [] { return "local"; }).why_local, "BACKEND_FAILED");
}

TEST_F(DaemonTest, AMultiByteCharacterSplitAcrossTwoChunksArrivesWhole) {
  backend_.set_script([](Exchange& e) {
    e.Head() && e.Send("data: {\"choices\":[{\"text\":\"\xE2\x82\"}]}\n\n") &&
        e.Send("data: {\"choices\":[{\"text\":\"\xAC\"}]}\n\nda") && e.Send("ta: {\"choices\":[{\"text\":\" \xC3") &&
        e.Send("\xA9\"}]}\n\n") && e.Finish();
  });
  StartDaemon();
  EXPECT_EQ(Connect()->Ask(Unsure(), {}).text, "\xE2\x82\xAC \xC3\xA9");
}

TEST_F(DaemonTest, BadInputIsAnErrorWithFieldValueAndRangeAndTheSessionGoesOn) {
  StartDaemon();
  RawSession session(Channel());
  session.Query("early");
  v1::ServerFrame frame = session.Read();
  EXPECT_EQ(frame.protocol_error().error().reason(), "HELLO_FIRST");
  EXPECT_EQ(frame.protocol_error().frame(), 1u);
  session.Open();
  const auto expect_error = [&](const std::string& message) {
    const v1::ServerFrame answer = session.Read();
    ASSERT_TRUE(answer.has_protocol_error()) << answer.ShortDebugString();
    EXPECT_EQ(answer.protocol_error().error().message(), message);
  };
  session.Query("q1", std::numeric_limits<double>::quiet_NaN());
  expect_error("query.uncertainty: nan is not in 0..1");
  session.Query("q2", -1);
  expect_error("query.uncertainty: -1 is not in 0..1");
  session.Query("q3", 1e308);
  expect_error("query.uncertainty: 1e+308 is not in 0..1");
  session.Query("");
  expect_error("query.query_id: 0 bytes, want 1..64");
  session.Query("q4", 0.5, "");
  expect_error("query.prompt_bits: 0 is not in 1..2.09715e+06");
  v1::DeviceFrame link;
  link.mutable_link_report()->add_links()->set_site("moon");
  session.Send(link);
  expect_error("link_report.links.site: \"moon\" is not one of a");
  session.Prompt("unknown");
  expect_error("prompt.query_id: \"unknown\" is not a live query of this session");
  session.Send(v1::DeviceFrame());
  expect_error("frame: is not set; want hello, link_report, query, prompt, outcome or cancel");
  // A prompt larger than announced fails its query; another body under a known id is refused.
  session.Query("big");
  ASSERT_TRUE(session.Read().has_decision());
  session.Prompt("big", "longer than announced");
  frame = session.Read();
  EXPECT_EQ(frame.failed().error().message(), "prompt.text: 21 bytes, want 1..4");
  session.Query("big", 0.7);
  expect_error("query.query_id: \"big\" was used for another query");
  // And the session still works.
  session.Query("good");
  ASSERT_TRUE(session.Read().has_decision());
  session.Prompt("good");
  while ((frame = session.Read()).has_tokens()) {
  }
  EXPECT_TRUE(frame.has_completed());
}

TEST_F(DaemonTest, PromptBeforeItsDecisionIsRefused) {
  config_.epoch.min_period = config_.epoch.period = absl::Milliseconds(300);
  StartDaemon();
  RawSession session(Channel());
  session.Open();
  session.Query("granted");
  ASSERT_TRUE(session.Read().has_decision());
  session.Query("q");
  session.Prompt("q");
  const v1::ServerFrame frame = session.Read();
  EXPECT_EQ(frame.protocol_error().error().message(), "prompt.query_id: \"q\" has no OFFLOAD decision yet");
  EXPECT_TRUE(session.Read().has_decision());
}

// Behind a query that asks alone nothing is read before its decision is written.
TEST_F(DaemonTest, APromptSentTooEarlyBehindALoneQueryIsReadAfterItsDecision) {
  config_.epoch.min_period = config_.epoch.period = absl::Milliseconds(300);
  StartDaemon();
  RawSession session(Channel());
  session.Open();
  session.Query("q");
  session.Prompt("q");
  EXPECT_EQ(session.Read().decision().verdict(), v1::VERDICT_OFFLOAD);
  v1::ServerFrame frame;
  while ((frame = session.Read()).has_tokens()) {
  }
  EXPECT_TRUE(frame.has_completed()) << frame.ShortDebugString();
}

// What the trailer says; a default one when there is none.
v1::Error ErrorOf(const grpc::ClientContext& context) {
  v1::Error error;
  const auto found = context.GetServerTrailingMetadata().find("goad-error-bin");
  if (found != context.GetServerTrailingMetadata().end()) {
    EXPECT_TRUE(error.ParseFromArray(found->second.data(), static_cast<int>(found->second.size())));
  }
  return error;
}

TEST_F(DaemonTest, UndecodableBytesEndThatStreamOnly) {
  StartDaemon();
  RawSession other(Channel());
  other.Open();
  auto channel = Channel();
  const grpc::internal::RpcMethod method("/goad.v1.Offload/Session", grpc::internal::RpcMethod::BIDI_STREAMING);
  for (const size_t size : {size_t{3}, (size_t{4} << 20) + 1}) {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>> stream(
        grpc::internal::ClientReaderWriterFactory<grpc::ByteBuffer, grpc::ByteBuffer>::Create(channel.get(), method,
                                                                                              &context));
    v1::DeviceFrame hello;
    hello.mutable_hello()->set_protocol_version(1);
    const grpc::Slice greeting(hello.SerializeAsString()), slice(std::string(size, '\xFF'));
    stream->Write(grpc::ByteBuffer(&greeting, 1));
    grpc::ByteBuffer answer;
    ASSERT_TRUE(stream->Read(&answer));
    stream->Write(grpc::ByteBuffer(&slice, 1));
    while (stream->Read(&answer)) {
    }
    const grpc::Status status = stream->Finish();
    EXPECT_EQ(status.error_code(), size == 3 ? grpc::INVALID_ARGUMENT : grpc::RESOURCE_EXHAUSTED)
        << status.error_message();
    EXPECT_EQ(context.GetServerTrailingMetadata().count("goad-error-bin"), size == 3 ? 1u : 0u);
    EXPECT_EQ(ErrorOf(context).reason(), size == 3 ? "UNDECODABLE" : "");
  }
  EXPECT_EQ(Metric("goad_refused_total", "UNDECODABLE"), 1);
  other.Query("q");
  EXPECT_TRUE(other.Read().has_decision());
}

TEST_F(DaemonTest, TheSameQueryAgainIsToldAgainAndNeverRunsAgain) {
  StartDaemon();
  RawSession session(Channel());
  session.Open("one");
  session.Query("q");
  ASSERT_TRUE(session.Read().has_decision());
  session.Query("q");
  EXPECT_TRUE(session.Read().has_decision());
  session.Prompt("q");
  v1::ServerFrame frame;
  while ((frame = session.Read()).has_tokens()) {
  }
  ASSERT_TRUE(frame.has_completed());
  session.Query("q");
  EXPECT_TRUE(session.Read().has_completed());
  EXPECT_EQ(backend_.requests(), 1);
  // On a new stream of the same device too; another device may use the id for something else.
  RawSession again(Channel());
  again.Open("one");
  again.Query("q");
  EXPECT_TRUE(again.Read().has_completed());
  RawSession stranger(Channel());
  stranger.Open("two");
  stranger.Query("q", 0.99);
  EXPECT_TRUE(stranger.Read().has_decision());
  EXPECT_EQ(backend_.requests(), 1);
}

TEST_F(DaemonTest, TooManyQueriesOfOneSessionAreLocalAtOnceAndMayBeAskedAgain) {
  backend_.set_script([](Exchange& e) { e.WaitForRelease() && e.Head() && e.Token("x") && e.Finish(); });
  config_.limits.queries_per_session = 1;
  config_.limits.retry_after = absl::Milliseconds(50);
  StartDaemon();
  RawSession session(Channel());
  session.Open("busy");
  session.Query("first");
  ASSERT_EQ(session.Read().decision().verdict(), v1::VERDICT_OFFLOAD);
  session.Prompt("first");
  session.Query("second");
  const v1::ServerFrame refused = session.Read();
  EXPECT_EQ(refused.decision().reason(), v1::REASON_OVERLOAD);
  EXPECT_GT(refused.decision().retry_after_s(), 0);
  const MonotonicTime again = MonotonicTime::Now() + absl::Seconds(refused.decision().retry_after_s());
  backend_.Release();
  EXPECT_TRUE(session.Read().has_tokens());
  EXPECT_TRUE(session.Read().has_completed());
  while (MonotonicTime::Now() < again) std::this_thread::yield();
  session.Query("second");
  EXPECT_EQ(session.Read().decision().verdict(), v1::VERDICT_OFFLOAD);
}

TEST_F(DaemonTest, InlinePromptsAreBoundedInBytesAndGivenBack) {
  backend_.set_script([](Exchange& e) { e.WaitForRelease() && e.Head() && e.Token("x") && e.Finish(); });
  config_.limits.inline_prompt_bytes = 1000;
  StartDaemon();
  auto stub = v1::Offload::NewStub(Channel());
  v1::AskRequest request;
  request.mutable_query()->mutable_inline_prompt()->set_text(std::string(600, 'x'));
  v1::ServerFrame frame;
  grpc::ClientContext first_context, second_context;
  auto first = stub->Ask(&first_context, request);
  ASSERT_TRUE(first->Read(&frame));
  EXPECT_EQ(frame.decision().verdict(), v1::VERDICT_OFFLOAD);
  auto second = stub->Ask(&second_context, request);
  ASSERT_TRUE(second->Read(&frame));
  EXPECT_EQ(frame.decision().reason(), v1::REASON_OVERLOAD);
  backend_.Release();
  while (first->Read(&frame)) {
  }
  EXPECT_TRUE(frame.has_completed());
  WaitUntil([&] {  // the dispatcher lets go of the prompt a moment after the answer
    grpc::ClientContext context;
    auto again = stub->Ask(&context, request);
    if (!again->Read(&frame)) return false;
    context.TryCancel();
    return frame.decision().verdict() == v1::VERDICT_OFFLOAD;
  });
}

TEST_F(DaemonTest, ABadAskSaysWhatIsWrongWithIt) {
  StartDaemon();
  auto stub = v1::Offload::NewStub(Channel());
  const auto refused = [&](const v1::AskRequest& request) {
    grpc::ClientContext context;
    v1::ServerFrame frame;
    auto reader = stub->Ask(&context, request);
    EXPECT_FALSE(reader->Read(&frame)) << frame.ShortDebugString();
    EXPECT_EQ(reader->Finish().error_code(), grpc::INVALID_ARGUMENT);
    const v1::Error error = ErrorOf(context);
    return absl::StrCat(error.reason(), " ", error.field());
  };
  v1::AskRequest request;
  request.mutable_query()->set_prompt_bits(8);
  EXPECT_EQ(refused(request), "NO_PROMPT query.inline_prompt");
  request.mutable_query()->mutable_inline_prompt()->set_text("why?");
  request.mutable_query()->set_uncertainty(2);
  EXPECT_EQ(refused(request), "OUT_OF_RANGE query.uncertainty");
  EXPECT_EQ(Metric("goad_refused_total", "BAD_ASK"), 2);
}

TEST_F(DaemonTest, AskIsOneCall) {
  StartDaemon();
  auto stub = v1::Offload::NewStub(Channel());
  grpc::ClientContext context;
  v1::AskRequest request;
  request.mutable_query()->mutable_inline_prompt()->set_text("why?");
  auto reader = stub->Ask(&context, request);
  v1::ServerFrame frame;
  ASSERT_TRUE(reader->Read(&frame));
  EXPECT_EQ(frame.decision().verdict(), v1::VERDICT_OFFLOAD);
  std::string text;
  while (reader->Read(&frame)) text += frame.tokens().text();
  EXPECT_EQ(text, "hi there");
  EXPECT_TRUE(frame.has_completed());
  EXPECT_TRUE(reader->Finish().ok());

  grpc::ClientContext bad_context;
  auto bad = stub->Ask(&bad_context, v1::AskRequest());
  EXPECT_FALSE(bad->Read(&frame));
  EXPECT_EQ(bad->Finish().error_message(), "query.inline_prompt: is required by Ask");
}

TEST_F(DaemonTest, ASecondDaemonOnTheSamePortRefusesToStart) {
  StartDaemon();
  Config second = config_;
  second.listen.address = address_;
  const auto refused = Daemon::Start(second, {});
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.status().message().find(address_), absl::string_view::npos) << refused.status();
  EXPECT_NE(refused.status().message().find("listen.address"), absl::string_view::npos);
}

TEST_F(DaemonTest, AFullSiteNeverQueuesAtTheBackend) {
  backend_.set_script([](Exchange& e) { e.WaitForRelease() && e.Head() && e.Token("x") && e.Finish(); });
  StartDaemon();  // the fake says 4 slots
  std::vector<std::unique_ptr<RawSession>> sessions;
  int offloaded = 0;
  for (int k = 0; k < 8; ++k) {
    sessions.push_back(std::make_unique<RawSession>(Channel()));
    sessions.back()->Open();
    sessions.back()->Query("q");
    const v1::ServerFrame frame = sessions.back()->Read();
    if (frame.decision().verdict() == v1::VERDICT_OFFLOAD) {
      ++offloaded;
      sessions.back()->Prompt("q");
    } else {
      EXPECT_EQ(frame.decision().reason(), v1::REASON_TAU_INFEASIBLE);
    }
  }
  EXPECT_EQ(offloaded, 4);
  EXPECT_EQ(Metric("goad_tau_infeasible_total"), 4);
  for (int k = 0; k < 4; ++k) backend_.Release();
}

TEST_F(DaemonTest, DrainFinishesWhatRunsAndSaysGoodbye) {
  backend_.set_script([](Exchange& e) { e.WaitForRelease() && e.Head() && e.Token("last words") && e.Finish(); });
  StartDaemon();
  RawSession session(Channel());
  session.OpenAndAsk("q");
  WaitUntil([&] { return backend_.requests() == 1; });
  std::thread drain([this] { daemon_->DrainAndStop(); });
  EXPECT_TRUE(session.Read().has_goodbye());
  session.Query("late");
  EXPECT_EQ(session.Read().decision().reason(), v1::REASON_DRAINING);
  backend_.Release();
  EXPECT_EQ(session.Read().tokens().text(), "last words");
  EXPECT_TRUE(session.Read().has_completed());
  // It did not half-close, so that something of it may be on its way still: no silence with status OK.
  EXPECT_EQ(session.Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  drain.join();
}

TEST_F(DaemonTest, DrainEndsTheStreamOfADeviceThatHalfClosesWithOk) {
  StartDaemon();
  RawSession session(Channel());
  session.Open();
  std::thread drain([this] { daemon_->DrainAndStop(); });
  EXPECT_TRUE(session.Read().has_goodbye());
  session.HalfClose();
  EXPECT_TRUE(session.Finish().ok());
  drain.join();
}

TEST_F(DaemonTest, DrainTimeoutFailsTheRestWithAnswerLocally) {
  backend_.set_script([](Exchange& e) { e.Head() && e.Token("x") && e.ClientLeftWithin(kLong); });
  config_.drain_timeout = absl::Milliseconds(100);
  StartDaemon();
  RawSession session(Channel());
  session.OpenAndAsk("q");
  ASSERT_TRUE(session.Read().has_tokens());
  std::thread drain([this] { daemon_->DrainAndStop(); });
  EXPECT_TRUE(session.Read().has_goodbye());
  const v1::ServerFrame failed = session.Read();
  EXPECT_EQ(failed.failed().error().reason(), "DRAINING");
  EXPECT_TRUE(failed.failed().answer_locally());
  drain.join();
  EXPECT_EQ(backend_.clients_left(), 1);
}

TEST_F(DaemonTest, TheSdkAnswersLocallyWhenGoadDies) {
  backend_.set_script([](Exchange& e) { e.Head() && e.Token("x") && e.ClientLeftWithin(kLong); });
  config_.drain_timeout = absl::ZeroDuration();
  StartDaemon();
  auto client = Connect();
  std::promise<void> talking;
  std::future<Answer> answer = std::async(std::launch::async, [&] {
    return client->Ask(
        Unsure(), [] { return "local"; }, [&](const std::string&) { talking.set_value(); });
  });
  talking.get_future().wait();
  daemon_.reset();
  EXPECT_EQ(answer.get().text, "local");
  const Answer later = client->Ask(Unsure(), [] { return "local"; });
  EXPECT_EQ(later.why_local, "UNREACHABLE");
}

TEST_F(DaemonTest, ABearerTokenNamesTheTenantAndAWrongOneComesNotIn) {
  config_.auth.required = true;
  config_.auth.tokens = {
      {"acme", absl::HexStringToBytes("2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b")}};
  config_.tenants.resize(1);
  config_.tenants[0].name = "acme";
  config_.tenants[0].queries_per_second = 0.001;
  StartDaemon();
  ClientOptions options{.address = address_, .device_name = "d", .token = "guessed"};
  const auto guesser = Client::Connect(options);
  EXPECT_EQ(guesser->Ask(Unsure(), [] { return "local"; }).why_local, "UNREACHABLE");
  options.token = "secret";
  const auto known = Client::Connect(options);
  known->ReportLinks({{.site = "a", .gain_db = -80}});
  WaitUntil([&] { return known->connected(); });
  EXPECT_EQ(known->Ask(Unsure(), {}).text, "hi there");
  EXPECT_EQ(known->Ask(Unsure(), [] { return "local"; }).why_local, "QUOTA");
  EXPECT_EQ(Metric("goad_tenant_decisions_total", "acme"), 1);
  EXPECT_GE(Metric("goad_refused_total", "UNAUTHENTICATED"), 1);
  EXPECT_EQ(Metric("goad_refused_total", "TENANT_RATE"), 1);
}

TEST_F(DaemonTest, TooManyFramesOrSessionsEndThatStreamOnly) {
  config_.limits.frames_per_second = 10;
  config_.limits.sessions_per_identity = 2;
  StartDaemon();
  RawSession well_behaved(Channel());
  well_behaved.Open();
  {
    RawSession flood(Channel());
    flood.Hello();
    for (int k = 0; k < 50 && flood.Send(v1::DeviceFrame()); ++k) {
    }
    const grpc::Status status = flood.Finish();
    EXPECT_EQ(status.error_code(), grpc::RESOURCE_EXHAUSTED) << status.error_message();
    EXPECT_NE(status.error_message().find("limits.frames_per_second"), std::string::npos);
  }
  WaitUntil([&] { return Metric("goad_sessions") == 1; });
  RawSession second(Channel());
  second.Open();
  RawSession third(Channel());
  third.Hello();
  const grpc::Status status = third.Finish();
  EXPECT_EQ(status.error_code(), grpc::RESOURCE_EXHAUSTED);
  EXPECT_NE(status.error_message().find("limits.sessions_per_identity: 2"), std::string::npos)
      << status.error_message();
  well_behaved.Query("q");
  EXPECT_TRUE(well_behaved.Read().has_decision());
}

// Test certificates of tests/data/tls, valid for a century; the authority's key was thrown away.
TEST_F(DaemonTest, TlsWithClientCertificates) {
  const std::string dir = std::string(GOAD_TEST_DATA) + "/tls/";
  config_.listen.tls = {dir + "server.pem", dir + "server.key", dir + "ca.pem"};
  StartDaemon();
  ClientOptions options{.address = address_, .device_name = "tls", .root_ca_file = dir + "ca.pem"};
  auto nobody = Client::Connect(options);
  EXPECT_EQ(nobody->Ask(Unsure(), [] { return "local"; }).why_local, "UNREACHABLE");
  options.certificate_file = dir + "device.pem";
  options.key_file = dir + "device.key";
  auto known = Client::Connect(options);
  known->ReportLinks({{.site = "a", .gain_db = -80}});
  WaitUntil([&] { return known->connected(); });
  EXPECT_EQ(known->Ask(Unsure(), {}).text, "hi there");

  const auto refused = [&](const std::string& certificate, const std::string& key) {
    Config bad = config_;
    bad.listen.tls = {certificate, key, ""};
    const std::vector<ConfigProblem> problems = ReadConfigFiles(&bad);
    return problems.empty() ? "" : problems[0].path + ": " + problems[0].message;
  };
  EXPECT_NE(refused(dir + "server.pem", dir + "missing.key").find("missing.key: cannot be opened: No such file"),
            std::string::npos);
  EXPECT_NE(refused(dir + "server.pem", dir + "device.key").find("is not the key of the certificate"),
            std::string::npos);
  EXPECT_NE(refused(dir + "server.key", dir + "server.key").find("holds no PEM certificate"), std::string::npos);
}

// The subject of the certificate that `address` shows; empty when there is no handshake.
std::string ServedSubject(const std::string& address) {
  const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(SSL_CTX_new(TLS_client_method()), &SSL_CTX_free);
  SSL_CTX_set_alpn_protos(context.get(), reinterpret_cast<const unsigned char*>("\x02h2"), 3);
  const std::unique_ptr<BIO, decltype(&BIO_free_all)> connection(BIO_new_ssl_connect(context.get()), &BIO_free_all);
  BIO_set_conn_hostname(connection.get(), address.c_str());
  if (BIO_do_connect(connection.get()) != 1 || BIO_do_handshake(connection.get()) != 1) return "";
  SSL* ssl = nullptr;
  BIO_get_ssl(connection.get(), &ssl);
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(SSL_get1_peer_certificate(ssl), &X509_free);
  char name[256] = "";
  X509_NAME_oneline(X509_get_subject_name(certificate.get()), name, sizeof name);
  return name;
}

TEST_F(DaemonTest, AChangedCertificateIsServedAfterAReloadAndABrokenOneIsNot) {
  const std::string data = std::string(GOAD_TEST_DATA) + "/tls/",
                    dir = testing::TempDir() + "goad_tls_" + std::to_string(getpid()) + "/";
  const auto copy = [&](const std::string& from, const std::string& to) {
    std::filesystem::copy_file(data + from, dir + to, std::filesystem::copy_options::overwrite_existing);
  };
  std::filesystem::create_directories(dir);
  copy("device.pem", "live.pem");
  copy("device.key", "live.key");
  config_.listen.tls = {dir + "live.pem", dir + "live.key", ""};
  const std::string yaml = absl::StrCat(
      "listen: {address: \"", config_.listen.address, "\", tls: {certificate: ", dir, "live.pem, key: ", dir,
      "live.key}}\nadmin: {address: \"127.0.0.1:0\"}\nmetrics: {address: \"127.0.0.1:0\"}\n",
      "sites: [{name: a, uplink: {model: shannon}, backends: [{url: \"", backend_.url(), "\"}]}]\n");
  std::ofstream(dir + "goad.yaml") << yaml;
  StartDaemon({.config_path = dir + "goad.yaml"});
  const std::string first = ServedSubject(address_);
  EXPECT_NE(first.find("CN="), std::string::npos) << first;

  std::ofstream(dir + "live.pem") << "half of a";
  EXPECT_NE(daemon_->Reload().status().message().find("holds no PEM certificate"), absl::string_view::npos);
  copy("server.pem", "live.pem");  // without its key
  EXPECT_NE(daemon_->Reload().status().message().find("is not the key of the certificate"), absl::string_view::npos);
  EXPECT_EQ(Metric("goad_config_reloads_total", "failed"), 2);

  copy("server.key", "live.key");
  const auto reloaded = daemon_->Reload();
  ASSERT_TRUE(reloaded.ok()) << reloaded.status();
  WaitUntil([&] {
    const std::string now = ServedSubject(address_);
    return !now.empty() && now != first;
  });
  daemon_.reset();
  std::filesystem::remove_all(dir);
}

TEST_F(DaemonTest, AdminShowsAndTurns) {
  bool drain_asked = false;
  const std::string file = testing::TempDir() + "/goad_admin_test.yaml";
  const auto write = [&](const std::string& text) { std::ofstream(file) << text; };
  StartDaemon({file, [&] { drain_asked = true; }});
  const std::string admin_address = absl::StrCat("127.0.0.1:", daemon_->admin_port());
  auto channel = grpc::CreateChannel(admin_address, grpc::InsecureChannelCredentials());
  auto admin = v1::Admin::NewStub(channel);
  const auto status = [&] {
    grpc::ClientContext context;
    v1::StatusResponse response;
    EXPECT_TRUE(admin->Status(&context, {}, &response).ok());
    return response;
  };
  EXPECT_EQ(status().policy(), "goa");
  EXPECT_EQ(status().config_version(), 1u);

  grpc::ClientContext watch_context;
  auto watch = admin->WatchEpochs(&watch_context, {});
  watch->WaitForInitialMetadata();
  auto client = Connect("watched");
  v1::EpochSummary epoch;
  std::thread reader([&] { EXPECT_TRUE(watch->Read(&epoch)); });
  EXPECT_EQ(client->Ask(Unsure(), {}).source, Answer::Source::kEdge);
  reader.join();
  EXPECT_EQ(epoch.candidates(), 1u);
  EXPECT_EQ(epoch.offloaded(), 1u);
  watch_context.TryCancel();

  grpc::ClientContext c1, c2, c3, c4, c5, c6, c7, c8;
  v1::SetTauRequest tau;
  tau.set_tau(2);
  v1::SetTauResponse tau_response;
  EXPECT_EQ(admin->SetTau(&c1, tau, &tau_response).error_message(), "tau: 2 is not in 0..1");
  tau.set_tau(0.25);
  EXPECT_TRUE(admin->SetTau(&c2, tau, &tau_response).ok());
  EXPECT_EQ(status().tau(), 0.25);
  EXPECT_TRUE(status().tau_overridden());
  RawSession greeted(Channel());
  greeted.Hello();
  EXPECT_EQ(greeted.Read().welcome().tau(), 0.25);
  greeted.Cancel();
  WaitUntil([&] { return status().sessions() == 1; });
  v1::SetPolicyRequest policy;
  policy.set_policy("nonsense");
  v1::SetPolicyResponse policy_response;
  EXPECT_EQ(admin->SetPolicy(&c3, policy, &policy_response).error_code(), grpc::INVALID_ARGUMENT);
  policy.set_policy("all-local");
  for (const double trial_s : {-1.0, 1e-12, 86401.0, std::nan("")}) {
    grpc::ClientContext context;
    policy.set_trial_s(trial_s);
    EXPECT_EQ(admin->SetPolicy(&context, policy, &policy_response).error_code(), grpc::INVALID_ARGUMENT) << trial_s;
  }
  EXPECT_EQ(status().policy(), "goa");
  {
    const auto trial = loadgen::PolicyTrial::Begin(admin_address, "all-local");
    ASSERT_TRUE(trial.ok()) << trial.status();
    EXPECT_EQ(status().policy(), "all-local");
    EXPECT_GT(status().policy_trial_left_s(), 0);
    EXPECT_EQ(loadgen::PolicyTrial::Begin(admin_address, "goa").status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(status().policy(), "all-local") << "another's trial is left alone";
  }
  EXPECT_EQ(status().policy(), "goa");
  EXPECT_EQ(loadgen::PolicyTrial::Begin(admin_address, "nonsense").status().code(), absl::StatusCode::kInvalidArgument);

  v1::SitesResponse sites;
  EXPECT_TRUE(admin->Sites(&c4, {}, &sites).ok());
  EXPECT_EQ(sites.sites(0).max_queries(), 4u);
  EXPECT_TRUE(sites.sites(0).accepting());
  WaitUntil([&] {
    grpc::ClientContext context;
    sites.Clear();
    return admin->Sites(&context, {}, &sites).ok() && sites.sites(0).backends_size() == 1 &&
           sites.sites(0).backends(0).up();
  });
  v1::SessionsResponse sessions;
  EXPECT_TRUE(admin->Sessions(&c5, {}, &sessions).ok());
  EXPECT_EQ(sessions.total(), 1u);
  EXPECT_EQ(sessions.sessions(0).device_name(), "watched");

  // A bad file keeps the running configuration and lists every problem; a good one takes effect at once.
  write("policy: {tau: 7}\nsites: []\n");
  v1::ReloadResponse reload;
  const grpc::Status refused = admin->Reload(&c6, {}, &reload);
  EXPECT_NE(refused.error_message().find("policy.tau: 7 is not in 0..1"), std::string::npos);
  EXPECT_NE(refused.error_message().find("sites: 0 entries"), std::string::npos);
  EXPECT_EQ(status().tau(), 0.25);
  write(absl::StrCat(
      "listen: {address: \"127.0.0.1:0\"}\nadmin: {address: \"127.0.0.1:0\"}\nmetrics: {address: \"127.0.0.1:0\"}\n",
      "policy: {name: min-delay, tau: 0.5}\nsites: [{name: a, uplink: {model: shannon}, backends: [{url: \"",
      backend_.url(), "\"}]}]\n"));
  const grpc::Status applied = admin->Reload(&c7, {}, &reload);
  EXPECT_TRUE(applied.ok()) << applied.error_message();
  EXPECT_EQ(reload.config_version(), 2u);
  EXPECT_EQ(status().policy(), "min-delay");
  EXPECT_FALSE(status().tau_overridden());
  EXPECT_EQ(Metric("goad_config_reloads_total", "failed"), 1);
  EXPECT_EQ(Metric("goad_config_reloads_total", "ok"), 1);

  v1::DrainResponse drain;
  EXPECT_TRUE(admin->Drain(&c8, {}, &drain).ok());
  EXPECT_TRUE(drain_asked);
}

TEST_F(DaemonTest, ATraceparentOfTheCallReachesTheBackendAndABadOneDoesNot) {
  const std::string good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  std::mutex mutex;
  std::vector<std::string> heads;
  backend_.set_script([&](Exchange& e) {
    {
      std::lock_guard<std::mutex> lock(mutex);
      heads.push_back(e.head);
    }
    FakeLlmServer::Answer(e);
  });
  StartDaemon();
  for (const std::string& value : {good, std::string("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01")}) {
    RawSession session(Channel(), "", value);
    session.OpenAndAsk("q");
    while (!session.Read().has_completed()) {
    }
  }
  std::lock_guard<std::mutex> lock(mutex);
  ASSERT_EQ(heads.size(), 2u);
  EXPECT_NE(heads[0].find("\r\ntraceparent: " + good), std::string::npos) << heads[0];
  EXPECT_EQ(heads[1].find("traceparent"), std::string::npos) << heads[1];
}

TEST_F(DaemonTest, AdminExplainsARecentDecisionAndTheNumbersAddUp) {
  StartDaemon();
  auto admin = v1::Admin::NewStub(
      grpc::CreateChannel(absl::StrCat("127.0.0.1:", daemon_->admin_port()), grpc::InsecureChannelCredentials()));
  const auto explain = [&](const std::string& id, v1::ExplainResponse* response) {
    grpc::ClientContext context;
    v1::ExplainRequest request;
    request.set_query_id(id);
    response->Clear();
    return admin->Explain(&context, request, response);
  };
  v1::ExplainResponse why;
  EXPECT_EQ(explain("q", &why).error_code(), grpc::NOT_FOUND);
  auto client = Connect();
  goad::Query query = Unsure();
  query.id = "q";
  const Answer answer = client->Ask(query, {});
  EXPECT_EQ(answer.source, Answer::Source::kEdge);
  ASSERT_TRUE(explain("q", &why).ok());
  EXPECT_EQ(why.verdict(), v1::VERDICT_OFFLOAD);
  EXPECT_EQ(why.reason(), v1::REASON_UNCERTAIN);
  EXPECT_EQ(why.site(), "a");
  EXPECT_TRUE(why.forced());
  ASSERT_EQ(why.sites_size(), 1);
  EXPECT_EQ(why.sites(0).eligibility(), "ELIGIBLE");
  EXPECT_DOUBLE_EQ(why.sites(0).delta_s(), why.sites(0).upload_s() + why.sites(0).compute_s() - why.local_delay_s());
  EXPECT_DOUBLE_EQ(why.sites(0).key_s(), why.uncertainty() * why.sites(0).delta_s());
  EXPECT_DOUBLE_EQ(why.predicted_compute_s(), absl::ToDoubleSeconds(answer.decision.predicted_compute));
  EXPECT_EQ(why.sites(0).service().from(), "configured");
  EXPECT_EQ(why.sites(0).service().token_time_s(), config_.sites[0].compute.token_time_s);
  const auto service = [&] {
    grpc::ClientContext context;
    v1::SitesResponse sites;
    EXPECT_TRUE(admin->Sites(&context, {}, &sites).ok());
    return sites.sites(0).service();
  };
  WaitUntil([&] { return service().samples() == 1; });
  EXPECT_EQ(service().from(), "learned");
  query.id = "sure";
  query.uncertainty = 0.1;
  EXPECT_EQ(client->Ask(query, [] { return "local"; }).why_local, "NO_GAIN");
  ASSERT_TRUE(explain("sure", &why).ok());
  EXPECT_EQ(why.verdict(), v1::VERDICT_LOCAL);
  EXPECT_GE(why.sites(0).key_s(), 0);
  EXPECT_EQ(why.sites(0).service().from(), "learned");
  EXPECT_EQ(why.sites(0).service().samples(), 1u);
  grpc::ClientContext context;
  v1::EpochsResponse epochs;
  ASSERT_TRUE(admin->Epochs(&context, {}, &epochs).ok());
  ASSERT_EQ(epochs.epochs_size(), 2);
  EXPECT_EQ(epochs.epochs(0).offloaded(), 1u);
  EXPECT_DOUBLE_EQ(epochs.epochs(1).local_s(), 0.001);
}

TEST_F(DaemonTest, AdminExplainSaysWhatStoodInAQuerysWay) {
  backend_.set_script([](Exchange& e) { e.WaitForRelease() && e.Head() && e.Token("x") && e.Finish(); });
  config_.sites[0].max_queries = 1;
  config_.limits.mandatory_wait = absl::ZeroDuration();
  StartDaemon();
  auto admin = v1::Admin::NewStub(
      grpc::CreateChannel(absl::StrCat("127.0.0.1:", daemon_->admin_port()), grpc::InsecureChannelCredentials()));
  const auto explain = [&](const std::string& id) {
    grpc::ClientContext context;
    v1::ExplainRequest request;
    v1::ExplainResponse why;
    request.set_query_id(id);
    EXPECT_TRUE(admin->Explain(&context, request, &why).ok());
    return why.sites_size() == 1 ? why.sites(0).eligibility() : "?";
  };
  RawSession unlinked(Channel());
  unlinked.Hello("unlinked");
  EXPECT_TRUE(unlinked.Read().has_welcome());
  unlinked.Query("no link", 0.5);
  EXPECT_EQ(unlinked.Read().decision().reason(), v1::REASON_NO_LINK);
  EXPECT_EQ(explain("no link"), "NO_LINK");

  RawSession hurried(Channel());
  hurried.Open("hurried");
  v1::DeviceFrame frame;
  frame.mutable_query()->set_query_id("deadline");
  frame.mutable_query()->set_uncertainty(0.5);
  frame.mutable_query()->set_prompt_bits(2000000);
  frame.mutable_query()->set_local_delay_s(1);
  frame.mutable_query()->set_max_output_tokens(1000);
  frame.mutable_query()->set_expected_output_tokens(1000);  // 6 s
  frame.mutable_query()->set_deadline_s(3);
  hurried.Send(frame);
  EXPECT_EQ(hurried.Read().decision().reason(), v1::REASON_DEADLINE);
  EXPECT_EQ(explain("deadline"), "DEADLINE");

  RawSession first(Channel()), second(Channel());
  first.OpenAndAsk("runs");
  second.Open("second");
  second.Query("full", 0.5);
  EXPECT_EQ(second.Read().decision().reason(), v1::REASON_SITE_FULL);
  EXPECT_EQ(explain("full"), "SITE_FULL");

  grpc::ClientContext context;
  v1::DrainSiteRequest drain;
  v1::DrainSiteResponse drained;
  drain.set_site("a");
  ASSERT_TRUE(admin->DrainSite(&context, drain, &drained).ok());
  second.Query("draining", 0.5);
  EXPECT_EQ(second.Read().decision().reason(), v1::REASON_SITE_DRAINING);
  EXPECT_EQ(explain("draining"), "SITE_DRAINING");
  backend_.Release();
}

// Where uplinks are measured, by goad: no report, and yet a link.
TEST_F(DaemonTest, ADeviceThatReportsNothingIsOffloadedAndItsUploadsAreSeen) {
  config_.sites[0].uplink.model = sched::UplinkModel::kMeasured;
  StartDaemon();
  auto admin = v1::Admin::NewStub(
      grpc::CreateChannel(absl::StrCat("127.0.0.1:", daemon_->admin_port()), grpc::InsecureChannelCredentials()));
  auto client = Client::Connect({.address = address_, .device_name = "reports nothing"});
  for (int k = 0; k < 3; ++k) {
    const Answer answer = client->Ask(Unsure(), {});
    ASSERT_EQ(answer.source, Answer::Source::kEdge) << answer.why_local << answer.detail;
    EXPECT_GT(answer.decision.queue, absl::ZeroDuration());
  }
  WaitUntil([&] {
    client->Ask(Unsure(), {});  // an epoch brings the median up to date, once a second
    return Metric("goad_uplink_devices") == 1;
  });
  grpc::ClientContext context;
  v1::SitesResponse sites;
  ASSERT_TRUE(admin->Sites(&context, {}, &sites).ok());
  EXPECT_EQ(sites.uplink().devices(), 1u);
  EXPECT_GT(sites.uplink().uplink_bps(), 0);
}

TEST_F(DaemonTest, PlannerDecidesWithoutChangingAnything) {
  StartDaemon();
  auto planner = v1::Planner::NewStub(
      grpc::CreateChannel(absl::StrCat("127.0.0.1:", daemon_->admin_port()), grpc::InsecureChannelCredentials()));
  v1::PlanRequest request;
  request.set_tau(0.5);
  auto* site = request.add_sites();
  site->set_bandwidth_hz(8);
  site->set_noise_w(1);
  site->set_compute_flops(4);
  site->set_max_share_flops(2);
  auto* candidate = request.add_candidates();
  candidate->set_uncertainty(0.9);
  candidate->set_prompt_bits(8);
  candidate->set_tx_power_w(1);
  candidate->set_local_delay_s(1);
  candidate->set_edge_work_flop(2);
  candidate->add_gain(1);
  v1::PlanResponse response;
  grpc::ClientContext good, bad, large, device;
  ASSERT_TRUE(planner->Plan(&good, request, &response).ok());
  EXPECT_EQ(response.decisions(0).verdict(), v1::VERDICT_OFFLOAD);
  EXPECT_DOUBLE_EQ(response.total_s(), 2);
  response.Clear();
  request.mutable_candidates(0)->set_uncertainty(7);
  EXPECT_EQ(planner->Plan(&bad, request, &response).error_message(), "candidates[0].uncertainty: 7 is not in 0..1");
  request.set_policy("optimal");
  request.mutable_candidates(0)->set_uncertainty(0.9);
  grpc::ClientContext small, many;
  ASSERT_TRUE(planner->Plan(&small, request, &response).ok());
  for (int k = 0; k < 12; ++k) *request.add_candidates() = request.candidates(0);
  EXPECT_EQ(planner->Plan(&many, request, &response).error_message(),
            "candidates: 13 are more than the 12 that this policy can decide on");
  request.set_policy("reference");
  for (int k = 0; k < 3000; ++k) *request.add_candidates() = request.candidates(0);
  EXPECT_EQ(planner->Plan(&large, request, &response).error_code(), grpc::RESOURCE_EXHAUSTED);
  auto on_device_port = v1::Planner::NewStub(Channel());
  EXPECT_EQ(on_device_port->Plan(&device, request, &response).error_code(), grpc::UNIMPLEMENTED);
}

TEST_F(DaemonTest, EveryDecisionIsInTheDecisionLog) {
  config_.decision_log.path = testing::TempDir() + "/goad_decisions_test.jsonl";
  config_.decision_log.snapshot_every = 1;
  std::remove(config_.decision_log.path.c_str());
  StartDaemon();
  auto client = Connect();
  for (int k = 0; k < 5; ++k) client->Ask(Unsure(), {});
  client.reset();
  // Two at once from one radio: the second is declined without asking the policy.
  RawSession session(Channel());
  session.Open();
  session.Query("uploading", 0.95);
  ASSERT_EQ(session.Read().decision().verdict(), v1::VERDICT_OFFLOAD);
  session.Query("behind", 0.1);
  ASSERT_EQ(session.Read().decision().reason(), v1::REASON_UPLINK_BUSY);
  session.Cancel();
  daemon_->DrainAndStop();
  std::ifstream in(config_.decision_log.path);
  int decisions = 0, snapshots = 0, outcomes = 0;
  for (std::string line; std::getline(in, line);) {
    decisions += line.find("\"kind\":\"decision\"") != std::string::npos;
    snapshots += line.find("\"kind\":\"snapshot\"") != std::string::npos;
    outcomes += line.find("\"kind\":\"outcome\"") != std::string::npos;
    EXPECT_EQ(line.find("why?"), std::string::npos) << "a prompt in the log";
  }
  EXPECT_EQ(decisions, 7);
  EXPECT_EQ(snapshots, 6);
  EXPECT_EQ(outcomes, 6);  // of those that were sent to a site
}

}  // namespace
}  // namespace goad::server
