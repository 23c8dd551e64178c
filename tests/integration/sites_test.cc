// Sites and backends are added, removed, drained and resumed while answers run; nobody notices who need not.
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "goad/v1/admin.grpc.pb.h"
#include "server/config/config_loader.h"
#include "tests/support/daemon_fixture.h"

namespace goad::server {
namespace {

using Exchange = FakeLlmServer::Exchange;

class SitesTest : public DaemonTest {
 protected:
  SitesTest() : file_(testing::TempDir() + "goad-sites-XXXXXX") { close(mkstemp(file_.data())); }
  ~SitesTest() override { unlink(file_.c_str()); }

  struct Site {
    std::string name;
    std::vector<std::string> urls;
    int slots = 4;
  };
  void Write(const std::vector<Site>& sites) {
    std::ofstream out(file_);
    out << "listen: {address: \"127.0.0.1:0\"}\nadmin: {address: \"127.0.0.1:0\"}\n"
        << "metrics: {address: \"127.0.0.1:0\"}\ndispatch: {probe_period: 50ms}\nsites:\n";
    for (const Site& site : sites) {
      out << "  - name: " << site.name << "\n    uplink: {model: shannon, bandwidth: 100MHz}\n    backends:\n";
      for (const std::string& url : site.urls)
        out << "      - {url: \"" << url << "\", model: " << site.name << ", slots: " << site.slots << "}\n";
    }
  }
  void StartFromFile() {
    auto config = LoadConfig(file_);
    ASSERT_TRUE(config.ok()) << config.status();
    config_ = *config;
    StartDaemon({.config_path = file_});
  }
  std::unique_ptr<v1::Admin::Stub> Admin() {
    return v1::Admin::NewStub(
        grpc::CreateChannel(absl::StrCat("127.0.0.1:", daemon_->admin_port()), grpc::InsecureChannelCredentials()));
  }
  grpc::Status Drain(const std::string& site, const std::string& backend, bool resume = false) {
    v1::DrainSiteRequest request;
    request.set_site(site);
    request.set_backend(backend);
    request.set_resume(resume);
    v1::DrainSiteResponse response;
    grpc::ClientContext context;
    return Admin()->DrainSite(&context, request, &response);
  }
  // "a:2 b(removed):0": the sites that Admin.Sites lists, with their backends.
  std::string Listed() {
    v1::SitesResponse sites;
    grpc::ClientContext context;
    EXPECT_TRUE(Admin()->Sites(&context, v1::SitesRequest(), &sites).ok());
    std::string text;
    for (const v1::SiteStatus& site : sites.sites()) {
      absl::StrAppend(&text, text.empty() ? "" : " ", site.name(), site.removed() ? "(removed)" : "",
                      site.draining() ? "(draining)" : "", ":", site.backends_size());
    }
    return text;
  }
  static void Links(RawSession& session, const std::vector<std::string>& sites) {
    v1::DeviceFrame frame;
    for (const std::string& site : sites) {
      v1::SiteLink& link = *frame.mutable_link_report()->add_links();
      link.set_site(site);
      link.set_gain_db(-80);
    }
    session.Send(frame);
  }

  std::string file_;
  FakeLlmServer second_{&FakeLlmServer::Answer};
};

TEST_F(SitesTest, AReloadAddsAndRemovesSitesUnderRunningAnswers) {
  backend_.set_script(
      [](Exchange& e) { e.Head() && e.Token("hi ") && e.WaitForRelease() && e.Token("there") && e.Finish(); });
  Write({{"a", {backend_.url()}}});
  StartFromFile();
  RawSession session(Channel());
  session.OpenAndAsk("on-a");
  EXPECT_EQ(session.Read().tokens().text(), "hi ");

  Write({{"b", {second_.url()}, 3}});
  ASSERT_TRUE(daemon_->Reload().ok());
  const v1::ServerFrame heard = session.Read();
  ASSERT_TRUE(heard.has_sites()) << heard.ShortDebugString();
  ASSERT_EQ(heard.sites().sites_size(), 1);
  EXPECT_EQ(heard.sites().sites(0).name(), "b");
  EXPECT_EQ(Metric("goad_backend_up", "site=\"a\""), 0) << "no series any more";
  WaitUntil([this] { return Metric("goad_backend_up", "site=\"b\"") == 1; });
  EXPECT_EQ(Listed(), "a(removed):1 b:1");
  const v1::ServerFrame able = session.Read();  // and once more when it is known what the new one can
  ASSERT_TRUE(able.has_sites()) << able.ShortDebugString();
  EXPECT_EQ(able.sites().sites(0).abilities_size(), 1);

  Links(session, {"a", "b"});
  EXPECT_EQ(session.Read().protocol_error().error().reason(), "UNKNOWN_SITE");
  session.Query("on-b");
  const v1::ServerFrame decision = session.Read();
  EXPECT_EQ(decision.decision().site(), "b") << decision.ShortDebugString();
  session.Prompt("on-b");
  for (v1::ServerFrame frame = session.Read(); !frame.has_completed(); frame = session.Read()) {
    ASSERT_TRUE(frame.has_tokens()) << frame.ShortDebugString();
  }
  backend_.Release();  // the answer on the removed site was never touched
  EXPECT_EQ(session.Read().tokens().text(), "there");
  const v1::ServerFrame whole = session.Read();
  EXPECT_EQ(whole.completed().site(), "a") << whole.ShortDebugString();
  WaitUntil([this] { return Listed() == "b:1"; });

  Write({{"b", {second_.url()}, 2}, {"a", {backend_.url(), second_.url()}}});
  ASSERT_TRUE(daemon_->Reload().ok());
  WaitUntil([this] { return Metric("goad_backend_up") == 3; });
  EXPECT_EQ(Listed(), "a:2 b:1");
}

TEST_F(SitesTest, AnAskHearsNothingButItsOwnAnswer) {
  backend_.set_script(
      [](Exchange& e) { e.Head() && e.Token("hi ") && e.WaitForRelease() && e.Token("there") && e.Finish(); });
  Write({{"a", {backend_.url()}}});
  StartFromFile();
  v1::AskRequest ask;
  ask.add_links()->set_site("a");
  ask.mutable_links(0)->set_gain_db(-80);
  ask.mutable_query()->mutable_inline_prompt()->set_text("why?");
  ask.mutable_query()->set_prompt_tokens(2);
  grpc::ClientContext context;
  const auto stub = v1::Offload::NewStub(Channel());
  const auto reader = stub->Ask(&context, ask);
  v1::ServerFrame frame;
  ASSERT_TRUE(reader->Read(&frame));
  ASSERT_TRUE(reader->Read(&frame));
  EXPECT_EQ(frame.tokens().text(), "hi ");
  Write({{"a", {backend_.url()}}, {"b", {second_.url()}}});
  ASSERT_TRUE(daemon_->Reload().ok());
  backend_.Release();
  while (reader->Read(&frame)) EXPECT_FALSE(frame.has_sites());
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(SitesTest, ADrainedSiteFinishesWhatItHasAndSaysWhyItTakesNothing) {
  backend_.set_script(
      [](Exchange& e) { e.Head() && e.Token("hi ") && e.WaitForRelease() && e.Token("there") && e.Finish(); });
  Write({{"a", {backend_.url()}}});
  StartFromFile();
  RawSession session(Channel());
  session.OpenAndAsk("running");
  EXPECT_EQ(session.Read().tokens().text(), "hi ");
  ASSERT_TRUE(Drain("a", "").ok());
  session.Query("refused");
  EXPECT_EQ(session.Read().decision().reason(), v1::REASON_SITE_DRAINING);
  ASSERT_TRUE(daemon_->Reload().ok());  // a reload leaves it so
  EXPECT_EQ(Listed(), "a(draining):1");
  backend_.Release();
  EXPECT_EQ(session.Read().tokens().text(), "there");
  EXPECT_TRUE(session.Read().has_completed());
  ASSERT_TRUE(Drain("a", "", /*resume=*/true).ok());
  session.Query("taken");
  EXPECT_EQ(session.Read().decision().verdict(), v1::VERDICT_OFFLOAD);
  EXPECT_EQ(Drain("nowhere", "").error_code(), grpc::StatusCode::NOT_FOUND);
  ASSERT_TRUE(Drain("a", backend_.url()).ok());
  EXPECT_EQ(Listed(), "a:1");
  session.Prompt("taken");
  EXPECT_EQ(session.Read().tokens().text(), "hi ") << "admitted before";
  session.Query("refused too");
  EXPECT_EQ(session.Read().decision().reason(), v1::REASON_SITE_DRAINING);
  backend_.Release();
}

TEST_F(SitesTest, ADrainedSiteSaysSoWhenItsServerIsStopped) {
  auto server = std::make_unique<FakeLlmServer>(&FakeLlmServer::Answer);
  Write({{"a", {server->url()}}});
  StartFromFile();
  RawSession session(Channel());
  session.Open();
  ASSERT_TRUE(Drain("a", "").ok());
  session.Query("drained");
  EXPECT_EQ(session.Read().decision().reason(), v1::REASON_SITE_DRAINING);
  server.reset();
  WaitUntil([this] { return Metric("goad_backend_up", "site=\"a\"") == 0; });
  session.Query("stopped");
  EXPECT_EQ(session.Read().decision().reason(), v1::REASON_SITE_DRAINING);
}

TEST_F(SitesTest, ReloadsUnderLoadLoseNothingAndEndNoStream) {
  Write({{"a", {backend_.url()}}, {"b", {second_.url()}}});
  StartFromFile();
  std::atomic<bool> over{false};
  std::atomic<int> edge{0}, local{0}, wrong{0};
  std::vector<std::unique_ptr<Client>> clients;
  std::vector<std::thread> askers;
  for (int k = 0; k < 4; ++k) clients.push_back(Connect(absl::StrCat("device-", k)));
  for (auto& client : clients) {
    askers.emplace_back([&, client = client.get()] {
      while (!over) {
        for (const char* site : {"a", "b", "c"}) client->ReportLinks({{.site = site, .gain_db = -80}});
        const Answer answer = client->Ask(Unsure(), [] { return "local"; });
        if (answer.source == Answer::Source::kEdge) {
          wrong += answer.text != "hi there";
          ++edge;
        } else {
          wrong += answer.why_local == "STREAM_LOST" || answer.why_local == "UNREACHABLE" || answer.text != "local";
          ++local;
        }
      }
    });
  }
  for (int round = 0; round < 12; ++round) {
    const int before = edge;
    switch (round % 4) {
      case 0: Write({{"a", {backend_.url()}}, {"b", {second_.url()}}, {"c", {backend_.url()}, 2}}); break;
      case 1: Write({{"a", {backend_.url()}, 1}, {"c", {backend_.url()}, 2}}); break;
      case 2: Write({{"c", {second_.url(), backend_.url()}, 2}}); break;
      case 3: Write({{"b", {second_.url()}, 3}, {"a", {backend_.url()}}}); break;
    }
    EXPECT_TRUE(daemon_->Reload().ok());
    WaitUntil([&] { return edge > before + 20; });
  }
  over = true;
  for (std::thread& asker : askers) asker.join();
  EXPECT_EQ(wrong, 0) << edge << " at the edge, " << local << " local";
  EXPECT_EQ(Metric("goad_sessions"), 4);
  EXPECT_EQ(Metric("goad_late_terminals_total"), 0);
  std::printf("%d at the edge, %d local\n", edge.load(), local.load());
}

}  // namespace
}  // namespace goad::server
