// The SDK against a daemon of this process: what one call of an app does wrong costs nobody else, and the app hears of
// it.
#include <future>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "tests/support/daemon_fixture.h"

namespace goad::server {
namespace {

class SdkTest : public DaemonTest {
 protected:
  ClientOptions Listening() {
    ClientOptions options{.address = address_, .device_name = "app"};
    options.on_problem = [this](const Problem& problem) {
      std::lock_guard<std::mutex> lock(mutex_);
      problems_.push_back(problem);
    };
    return options;
  }
  std::unique_ptr<Client> ConnectListening(const ClientOptions& options) {
    auto client = Client::Connect(options);
    client->ReportLinks({{.site = "a", .gain_db = -80}});
    WaitUntil([&] { return client->connected(); });
    return client;
  }
  // Waits for a problem of this code; its words.
  std::string Told(const std::string& code) {
    std::string detail;
    WaitUntil([&] {
      std::lock_guard<std::mutex> lock(mutex_);
      for (const auto& problem : problems_) {
        if (problem.code == code) detail = problem.detail;
      }
      return !detail.empty();
    });
    return detail;
  }

 private:
  std::mutex mutex_;
  std::vector<goad::Problem> problems_;
};

TEST_F(SdkTest, ABadCallFailsAloneWhileAnotherGoesOn) {
  backend_.set_script([](FakeLlmServer::Exchange& e) {
    e.Head() && e.Token("hi ") && e.WaitForRelease() && e.Token("there") && e.Finish();
  });
  StartDaemon();
  auto client = ConnectListening(Listening());
  std::promise<void> talking;
  auto good = std::async(std::launch::async, [&] {
    return client->Ask(Unsure(), {}, [&, once = false](const std::string&) mutable {
      if (!std::exchange(once, true)) talking.set_value();
    });
  });
  talking.get_future().wait();
  const auto detail = [&](goad::Query query) {
    const Answer answer = client->Ask(std::move(query), [] { return "local"; });
    EXPECT_EQ(answer.why_local, "INVALID_QUERY");
    EXPECT_EQ(answer.text, "local");
    return answer.detail;
  };
  EXPECT_EQ(detail(Unsure("caf\xe9")), "prompt: is not UTF-8 at byte 3");
  goad::Query query = Unsure();
  query.stop = {"\xff"};
  EXPECT_EQ(detail(query), "stop[0]: is not UTF-8 at byte 0");
  query = Unsure();
  query.id = std::string(65, 'x');
  EXPECT_EQ(detail(query), "id: 65 bytes, want 1..64");
  query = Unsure();
  query.id = "\xe9";
  EXPECT_EQ(detail(query), "id: is not UTF-8 at byte 0");
  query = Unsure(std::string(config_.limits.prompt_bytes + 1, 'x'));
  EXPECT_EQ(detail(query),
            absl::StrCat("prompt: ", config_.limits.prompt_bytes + 1, " bytes, want 1..", config_.limits.prompt_bytes));
  query = Unsure();  // parts of characters: another daemon may take no such text, the number it takes
  query.uncertainty.reset();
  query.first_token = {{"\xe4", 0.9}, {"\xe5", 0.1}};
  query.local_delay = absl::ZeroDuration();
  EXPECT_EQ(client->Ask(query, [] { return "local"; }).why_local, "NO_GAIN");
  const Answer thrown = client->Ask(
      Unsure("talk"), [] { return "local"; }, [](const std::string&) { throw std::runtime_error("no"); });
  EXPECT_EQ(thrown.why_local, "CALLBACK_FAILED");
  EXPECT_EQ(thrown.detail, "exception: no");
  client->ReportLinks({{.site = "\xff", .gain_db = -80}});
  EXPECT_EQ(Told("LINK_REFUSED"), "site: is not UTF-8 at byte 0");
  client->ReportLinks({{.site = "nowhere", .gain_db = -80}});
  EXPECT_NE(Told("PROTOCOL_ERROR").find("nowhere"), std::string::npos);
  client->ReportLocal("\xff", absl::Seconds(1));
  EXPECT_EQ(Told("REPORT_REFUSED"), "id: is not UTF-8 at byte 0");
  backend_.Release();
  backend_.Release();
  const Answer answer = good.get();
  EXPECT_EQ(answer.source, Answer::Source::kEdge) << answer.why_local << " " << answer.detail;
  EXPECT_EQ(answer.text, "hi there");
}

TEST_F(SdkTest, MoreThanTheSessionMayHaveWaitAndAreAnswered) {
  config_.limits.queries_per_session = 1;
  StartDaemon();
  auto client = ConnectListening(Listening());
  ASSERT_TRUE(client->limits());
  EXPECT_EQ(client->limits()->queries_per_session, 1);
  std::vector<std::promise<Answer>> answers(6);
  for (auto& promise : answers) {
    goad::Query query = Unsure();
    query.deadline = kLong;
    client->AskAsync(query, {.on_done = [&](const Answer& answer) { promise.set_value(answer); }});
  }
  for (auto& promise : answers) {
    const Answer answer = promise.get_future().get();
    EXPECT_EQ(answer.source, Answer::Source::kEdge) << answer.why_local << " " << answer.detail;
  }
}

TEST_F(SdkTest, AnAuthorityThatDidNotSignGoadIsTold) {
  const std::string dir = std::string(GOAD_TEST_DATA) + "/tls/";
  config_.listen.tls = {dir + "server.pem", dir + "server.key", ""};
  StartDaemon();
  ClientOptions options = Listening();
  options.root_ca_file = dir + "device.pem";  // a good certificate, of nobody's authority
  auto client = Client::Connect(options);
  EXPECT_TRUE(client->status().ok());
  EXPECT_EQ(client->Ask(Unsure(), [] { return "local"; }).why_local, "UNREACHABLE");
  const std::string told = Told("UNREACHABLE");
  EXPECT_NE(told.find(address_), std::string::npos) << told;
  options.root_ca_file = dir + "ca.pem";
  auto trusting = ConnectListening(options);
  EXPECT_EQ(trusting->Ask(Unsure(), {}).text, "hi there");
}

TEST_F(SdkTest, ADrainingGoadCostsNoWaitAndIsTold) {
  backend_.set_script([](FakeLlmServer::Exchange& e) { e.Head() && e.Token("x") && e.WaitForRelease() && e.Finish(); });
  StartDaemon();
  ClientOptions options = Listening();
  options.decision_budget = absl::Minutes(1);  // a wait would be seen
  auto client = ConnectListening(options);
  std::promise<void> talking;
  auto running = std::async(
      std::launch::async, [&] { return client->Ask(Unsure(), {}, [&](const std::string&) { talking.set_value(); }); });
  talking.get_future().wait();
  std::thread drain([this] { daemon_->DrainAndStop(); });
  Told("GOODBYE");
  const Answer answer = client->Ask(Unsure(), [] { return "local"; });
  EXPECT_EQ(answer.why_local, "DRAINING");
  backend_.Release();
  EXPECT_EQ(running.get().source, Answer::Source::kEdge);
  drain.join();
  Told("UNREACHABLE");
  EXPECT_EQ(client->Ask(Unsure(), [] { return "local"; }).why_local, "UNREACHABLE");
}

}  // namespace
}  // namespace goad::server
