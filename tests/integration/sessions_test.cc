// Who may stay: reloads, operators and age end sessions; what crosses a Goodbye is answered.
#include <unistd.h>

#include <fstream>
#include <set>
#include <thread>

#include "absl/strings/escaping.h"
#include "goad/v1/admin.grpc.pb.h"
#include "server/config/config_loader.h"
#include "tests/fakes/tcp_proxy.h"
#include "tests/support/daemon_fixture.h"

namespace goad::server {
namespace {

class SessionsTest : public DaemonTest {
 protected:
  SessionsTest() : directory_(testing::TempDir() + "goad-sessions-XXXXXX") {
    if (mkdtemp(directory_.data()) == nullptr) ADD_FAILURE() << "no folder";
  }
  ~SessionsTest() override {
    for (const char* file : {"/goad.yaml", "/tokens"}) unlink((directory_ + file).c_str());
    rmdir(directory_.c_str());
  }
  void Write(const char* file, const std::string& text) { std::ofstream(directory_ + file) << text; }
  // As a configuration file, so that a reload can change it.
  void Configure(const std::string& more) {
    Write("/goad.yaml",
          absl::StrCat(
              "listen: {address: \"127.0.0.1:0\"}\nadmin: {address: \"127.0.0.1:0\"}\nmetrics: {address: "
              "\"127.0.0.1:0\"}\n",
              "dispatch: {probe_period: 50ms}\nsites:\n  - name: a\n    uplink: {model: shannon, bandwidth: 100MHz}\n",
              "    backends: [{url: \"", backend_.url(), "\"}]\n", more));
  }
  void StartFromFile() {
    auto config = LoadConfig(directory_ + "/goad.yaml");
    ASSERT_TRUE(config.ok()) << config.status();
    config_ = *config;
    StartDaemon({.config_path = directory_ + "/goad.yaml"});
  }
  v1::SessionsResponse Sessions() {
    v1::SessionsResponse response;
    grpc::ClientContext context;
    EXPECT_TRUE(Admin()->Sessions(&context, v1::SessionsRequest(), &response).ok());
    return response;
  }
  std::unique_ptr<v1::Admin::Stub> Admin() {
    return v1::Admin::NewStub(
        grpc::CreateChannel(absl::StrCat("127.0.0.1:", daemon_->admin_port()), grpc::InsecureChannelCredentials()));
  }
  std::string directory_;
  // sha256 of "secret" and of "other-secret"
  const std::string secret_ = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
  const std::string other_ = "9c0ee26e4a1fbb028187486a7ea91f81f8ab81fcf467cba75107dbd3a64244d7";
};

TEST_F(SessionsTest, ARemovedTokenEndsItsSessionsAtTheReloadAndNoOthers) {
  const std::string auth =
      absl::StrCat("auth: {tokens_file: \"", directory_, "/tokens\"}\ntenants: [{name: acme}, {name: rival}]\n");
  Write("/tokens", absl::StrCat("acme:", secret_, "\nrival:", other_, "\n"));
  Configure(auth);
  StartFromFile();
  RawSession acme(Channel(), "secret"), rival(Channel(), "other-secret");
  acme.Open();
  rival.Open();
  std::set<std::string> tenants;
  const v1::SessionsResponse sessions = Sessions();
  for (const auto& session : sessions.sessions()) tenants.insert(session.tenant());
  EXPECT_EQ(tenants, (std::set<std::string>{"acme", "rival"}));
  Write("/tokens", absl::StrCat("rival:", other_, "\n"));
  ASSERT_TRUE(daemon_->Reload().ok());
  EXPECT_EQ(acme.Finish().error_code(), grpc::StatusCode::UNAUTHENTICATED);
  rival.Query("q");
  EXPECT_EQ(rival.Read().decision().verdict(), v1::VERDICT_OFFLOAD);
}

TEST_F(SessionsTest, TheHashOfTheEmptyTokenIsRefused) {
  Write("/tokens", "acme:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n");
  Configure(absl::StrCat("auth: {tokens_file: \"", directory_, "/tokens\"}\ntenants: [{name: acme}]\n"));
  const auto config = LoadConfig(directory_ + "/goad.yaml");
  ASSERT_FALSE(config.ok());
  EXPECT_NE(config.status().message().find("empty token"), std::string::npos) << config.status();
}

TEST_F(SessionsTest, AnOperatorEndsOneSession) {
  StartDaemon();
  RawSession first(Channel()), second(Channel());
  first.Open("first");
  second.Open("second");
  v1::KickRequest request;
  const v1::SessionsResponse sessions = Sessions();
  for (const auto& session : sessions.sessions()) {
    if (session.device_name() == "first") request.set_session_id(session.session_id());
  }
  v1::KickResponse response;
  {
    grpc::ClientContext context;
    EXPECT_TRUE(Admin()->Kick(&context, request, &response).ok());
  }
  EXPECT_EQ(first.Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  grpc::ClientContext again;
  EXPECT_EQ(Admin()->Kick(&again, request, &response).error_code(), grpc::StatusCode::NOT_FOUND);
  second.Query("q");
  EXPECT_EQ(second.Read().decision().verdict(), v1::VERDICT_OFFLOAD);
}

// From an app's options to what operators see, and to the number that goad makes.
TEST_F(SessionsTest, OperatorsSeeWhatASessionsUncertaintyIs) {
  config_.policy.tau = 0.5;
  StartDaemon();
  const auto client = Client::Connect({.address = address_,
                                       .device_name = "d",
                                       .local_model = "small-1b",
                                       .uncertainty = {UncertaintyMetric::kMaxProbability, 0, 10, "", "chat"}});
  WaitUntil([&] { return client->connected(); });
  const v1::SessionsResponse sessions = Sessions();
  ASSERT_EQ(sessions.sessions_size(), 1);
  const v1::SessionInfo& session = sessions.sessions(0);
  EXPECT_EQ(session.uncertainty_metric(), v1::UNCERTAINTY_METRIC_MAX_PROBABILITY);
  EXPECT_EQ(session.uncertainty_candidates(), 10u);
  EXPECT_EQ(session.local_model(), "small-1b");
  EXPECT_EQ(session.prompt_form(), "chat");
  client->ReportLinks({{.site = "a", .gain_db = -80}});
  Query query;
  query.prompt = "why?";
  query.first_token = {{"a", 0.6}, {"b", 0.4}};  // 0.4; the margin is 0.8 and above tau
  const Answer answer = client->Ask(query, [] { return std::string("local"); });
  EXPECT_EQ(answer.decision.reason, "NO_GAIN");

  const auto declares = Client::Connect({.address = address_,
                                         .device_name = "e",
                                         .uncertainty = {.metric = UncertaintyMetric::kDeclared, .method = "m"}});
  WaitUntil([&] { return declares->connected(); });
  EXPECT_EQ(declares->Ask(query, [] { return std::string("local"); }).why_local, "INVALID_QUERY");
  const v1::SessionsResponse both = Sessions();
  std::set<std::string> methods;
  for (const v1::SessionInfo& other : both.sessions()) methods.insert(other.uncertainty_method());
  EXPECT_EQ(methods, (std::set<std::string>{"", "m"}));
}

TEST_F(SessionsTest, AnOldSessionGetsAGoodbyeFinishesWhatRunsAndAnswersWhatCrossesIt) {
  config_.limits.session_max_age = absl::Seconds(1);
  backend_.set_script([](FakeLlmServer::Exchange& e) {
    e.Head() && e.Token("hi ") && e.WaitForRelease() && e.Token("there") && e.Finish();
  });
  StartDaemon();
  RawSession session(Channel());
  session.OpenAndAsk("runs");
  EXPECT_EQ(session.Read().tokens().text(), "hi ");
  EXPECT_TRUE(session.Read().has_goodbye());
  session.Query("crosses");
  const v1::ServerFrame crossed = session.Read();
  EXPECT_EQ(crossed.decision().reason(), v1::REASON_DRAINING) << crossed.ShortDebugString();
  EXPECT_GT(crossed.decision().retry_after_s(), 0);
  backend_.Release();
  EXPECT_EQ(session.Read().tokens().text(), "there");
  EXPECT_TRUE(session.Read().has_completed());
  EXPECT_EQ(session.Finish().error_code(),
            grpc::StatusCode::UNAVAILABLE);  // it did not half-close: nothing is lost in silence
}

TEST_F(SessionsTest, WhoIsRefusedForNowHearsTheSameUntilItMayAskAgain) {
  config_.tenants.resize(1);
  config_.tenants[0].name = kDefaultTenant;
  config_.tenants[0].queries_per_second = 1;
  config_.limits.retry_after = absl::Milliseconds(200);
  StartDaemon();
  RawSession session(Channel());
  session.Open();
  session.Query("first");
  EXPECT_EQ(session.Read().decision().verdict(), v1::VERDICT_OFFLOAD);
  session.Prompt("first");
  v1::ServerFrame frame = session.Read();
  while (!frame.has_completed()) frame = session.Read();
  session.Query("second");
  const v1::ServerFrame refused = session.Read();
  EXPECT_EQ(refused.decision().reason(), v1::REASON_QUOTA);
  const double wait_s = refused.decision().retry_after_s();
  EXPECT_GT(wait_s, 0);
  const MonotonicTime may = MonotonicTime::Now() + absl::Seconds(wait_s);
  session.Query("second");
  v1::ServerFrame again = session.Read();
  EXPECT_EQ(again.SerializeAsString(), refused.SerializeAsString());
  while (MonotonicTime::Now() < may) std::this_thread::yield();
  session.Links();
  session.Query("second");
  again = session.Read();
  EXPECT_EQ(again.decision().verdict(), v1::VERDICT_OFFLOAD) << again.ShortDebugString();
}

// The next read waits for the decision's write, but not for a decision that is long in coming.
TEST_F(SessionsTest, WhatADeviceSendsWhileItsQueryIsHeldIsReadSoon) {
  config_.limits.mandatory_wait = absl::Seconds(50);
  StartDaemon();
  RawSession device(Channel());
  device.Hello();
  EXPECT_TRUE(device.Read().has_welcome());
  device.Query("held");  // forced, and it has reported no link
  v1::DeviceFrame cancel;
  cancel.mutable_cancel()->set_query_id("held");
  device.Send(cancel);
  EXPECT_EQ(device.Read().cancelled().query_id(), "held");
  device.Query("held too");
  device.Links();
  const v1::ServerFrame decision = device.Read();
  EXPECT_EQ(decision.decision().query_id(), "held too") << decision.ShortDebugString();
  EXPECT_EQ(decision.decision().verdict(), v1::VERDICT_OFFLOAD);
}

// Between the decision's way to the stream and its write: whoever writes then must not touch what is gone.
TEST_F(SessionsTest, StreamsThatAreCancelledAtTheirDecisionHarmNothing) {
  config_.limits.streams_per_connection = 100000;  // a second
  StartDaemon();
  std::vector<std::thread> devices;
  for (int d = 0; d < 4; ++d) {
    devices.emplace_back([this, d] {
      const auto channel = Channel();
      for (int k = 0; k < 200; ++k) {
        RawSession device(channel);
        device.Hello();
        if (!device.Read().has_welcome()) continue;
        device.Query("q", 0.5);
        std::this_thread::sleep_for(std::chrono::microseconds(1000 + (d * 200 + k) * 37 % 4000));  // about an epoch
        device.Cancel();
      }
    });
  }
  for (std::thread& device : devices) device.join();
  RawSession last(Channel());
  last.OpenAndAsk("after them");
}

TEST_F(SessionsTest, QuestionsAskedAtOnceAreAllAnswered) {
  StartDaemon();
  RawSession device(Channel());
  device.Open();
  for (int k = 0; k < 4; ++k) device.Query(absl::StrCat("q", k), 0.1);
  std::set<std::string> answered;
  for (int k = 0; k < 4; ++k) answered.insert(device.Read().decision().query_id());
  EXPECT_EQ(answered, (std::set<std::string>{"q0", "q1", "q2", "q3"}));
}

TEST_F(SessionsTest, ASecondPromptHoweverBadLeavesTheRunningAnswerAlone) {
  backend_.set_script([](FakeLlmServer::Exchange& e) {
    e.Head() && e.Token("hi ") && e.WaitForRelease() && e.Token("there") && e.Finish();
  });
  StartDaemon();
  RawSession session(Channel());
  session.OpenAndAsk("q");
  EXPECT_EQ(session.Read().tokens().text(), "hi ");
  session.Prompt("q", "");  // malformed
  EXPECT_EQ(session.Read().protocol_error().error().reason(), "PROMPT_TWICE");
  session.Prompt("q", std::string(10000, 'x'));  // too large
  EXPECT_EQ(session.Read().protocol_error().error().reason(), "PROMPT_TWICE");
  backend_.Release();
  EXPECT_EQ(session.Read().tokens().text(), "there");
  EXPECT_TRUE(session.Read().has_completed());
}

TEST_F(SessionsTest, AReportWithASiteThatIsGoneCountsForTheOthers) {
  StartDaemon();
  RawSession session(Channel());
  session.Hello();
  EXPECT_TRUE(session.Read().has_welcome());
  v1::DeviceFrame frame;
  auto* gone = frame.mutable_link_report()->add_links();
  gone->set_site("gone");
  gone->set_gain_db(-70);
  auto* there = frame.mutable_link_report()->add_links();
  there->set_site("a");
  there->set_gain_db(-80);
  session.Send(frame);
  EXPECT_EQ(session.Read().protocol_error().error().reason(), "UNKNOWN_SITE");
  session.Query("q");
  EXPECT_EQ(session.Read().decision().verdict(), v1::VERDICT_OFFLOAD);
}

TEST_F(SessionsTest, ACertificatesAlternativeNamesSayWhoseItIs) {
  const std::string tls = std::string(GOAD_TEST_DATA) + "/tls/";
  config_.listen.tls = {tls + "server.pem", tls + "server.key", tls + "ca.pem"};
  config_.tenants.resize(1);
  config_.tenants[0].name = "acme";
  config_.tenants[0].certificates = {"device.test"};
  StartDaemon();
  const auto client = Client::Connect({.address = address_,
                                       .device_name = "d",
                                       .root_ca_file = tls + "ca.pem",
                                       .certificate_file = tls + "device.pem",
                                       .key_file = tls + "device.key"});
  WaitUntil([&] { return client->connected(); });
  ASSERT_EQ(Sessions().sessions_size(), 1);
  EXPECT_EQ(Sessions().sessions(0).tenant(), "acme");
}

TEST_F(SessionsTest, WithoutCredentialsADevicesNameIsOnlyAName) {
  Configure("");
  StartFromFile();
  RawSession victim(Channel());
  victim.OpenAndAsk("q");
  victim.Read();
  // The same name from the same address is the same device; from another it is somebody else's.
  TcpProxy elsewhere(daemon_->listen_port(), "127.0.0.7");
  address_ = elsewhere.address();
  RawSession other(Channel());
  other.Open();
  other.Query("q", 0.95, "another question");
  EXPECT_TRUE(other.Read().has_decision());
}

}  // namespace
}  // namespace goad::server
