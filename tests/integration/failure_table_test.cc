// DESIGN section 10, "What happens when", row by row with the row's words in the names. Rows that another test proves
// are named here as comments.
#include <fcntl.h>
#include <sys/resource.h>

#include <fstream>
#include <future>

#include "tests/support/daemon_fixture.h"

namespace goad::server {
namespace {

using Exchange = FakeLlmServer::Exchange;

class FailureTable : public DaemonTest {
 protected:
  // A second site with a server of its own that works.
  void AddSite(const std::string& url) {
    SiteConfig site = config_.sites[0];
    site.name = "b";
    site.backends[0].url = url;
    config_.sites.push_back(site);
  }
};

// --- goad is killed: daemon_test TheSdkAnswersLocallyWhenGoadDies; tests/chaos.sh with kill -9 -----------------------

TEST_F(FailureTable, GoadIsKilledAndComesBackTheSdkReconnectsAndAsksAgain) {
  config_.drain_timeout = absl::ZeroDuration();
  StartDaemon();
  config_.listen.address = address_;  // the same port again
  auto client = Connect();
  EXPECT_EQ(client->Ask(Unsure(), {}).text, "hi there");
  daemon_.reset();
  WaitUntil([&] { return !client->connected(); });
  EXPECT_EQ(client->Ask(Unsure(), [] { return "local"; }).text, "local");
  StartDaemon();
  WaitUntil([&] { return client->connected(); });
  client->ReportLinks({{.site = "a", .gain_db = -80}});  // what was measured before is too old by now
  EXPECT_EQ(client->Ask(Unsure(), {}).text, "hi there");
}

// --- device vanishes: daemon_test ALostStreamAbortsItsBackendCallWithin200ms; silent loss is HTTP/2 keepalive's

// --- backend refuses, hangs, dies mid-stream, sends garbage: failover before the first token, else Failed
//     answer_locally

struct BadBackend {
  const char* name;
  FakeLlmServer::Script script;
};
class BackendRow : public FailureTable, public testing::WithParamInterface<BadBackend> {};

TEST_P(BackendRow, BeforeTheFirstTokenAnotherSiteAnswers) {
  FakeLlmServer other(&FakeLlmServer::Answer);
  backend_.set_script(GetParam().script);
  config_.dispatch.first_byte = absl::Milliseconds(300);
  AddSite(other.url());
  StartDaemon();
  RawSession session(Channel());
  session.Open();  // a link to site a only
  session.Query("q");
  EXPECT_EQ(session.Read().decision().site(), "a");
  session.Prompt("q");
  EXPECT_EQ(session.Read().tokens().text_offset(), 0u);
  v1::ServerFrame frame;
  while ((frame = session.Read()).has_tokens()) {
  }
  ASSERT_TRUE(frame.has_completed()) << frame.ShortDebugString();
  EXPECT_EQ(frame.completed().site(), "b");
  EXPECT_EQ(other.requests(), 1);
  EXPECT_GE(Metric("goad_backend_failovers_total"), 1);
  WaitUntil([this] { return Metric("goad_running_queries") == 0; });
}

TEST_P(BackendRow, WithoutAnotherSiteItIsFailedAnswerLocallyAndTheCircuitOpens) {
  backend_.set_script(GetParam().script);
  config_.dispatch.first_byte = absl::Milliseconds(100);
  config_.dispatch.failures_to_open = 1;
  config_.dispatch.probe_period = absl::Seconds(100);
  StartDaemon();
  RawSession session(Channel());
  session.OpenAndAsk("q");
  const v1::ServerFrame failed = session.Read();
  ASSERT_TRUE(failed.has_failed()) << failed.ShortDebugString();
  EXPECT_TRUE(failed.failed().answer_locally());
  EXPECT_EQ(failed.failed().text_bytes(), 0u);
  WaitUntil([this] { return Metric("goad_backend_up") == 0; });
}

INSTANTIATE_TEST_SUITE_P(Backend, BackendRow,
                         testing::Values(BadBackend{"Refuses", [](Exchange& e) { e.Head(500); }},
                                         BadBackend{"Hangs", [](Exchange& e) { e.ClientLeftWithin(kLong); }},
                                         BadBackend{"DiesBeforeAToken", [](Exchange& e) { e.Head(); }},
                                         BadBackend{"SendsGarbage",
                                                    [](Exchange& e) { e.Head() && e.Send("data: garbage\n\n"); }}),
                         [](const auto& row) { return std::string(row.param.name); });

TEST_F(FailureTable, BackendDiesMidStreamIsFailedAnswerLocallyWithWhatWasSent) {
  backend_.set_script([](Exchange& e) { e.Head() && e.Token("half"); });
  StartDaemon();
  RawSession session(Channel());
  session.OpenAndAsk("q");
  EXPECT_EQ(session.Read().tokens().text(), "half");
  const v1::ServerFrame failed = session.Read();
  EXPECT_TRUE(failed.failed().answer_locally());
  EXPECT_EQ(failed.failed().text_bytes(), 4u);
}

// --- all sites down --------------------------------------------------------------------------------------------------

TEST_F(FailureTable, AllSitesDownEveryDecisionIsLocalWithNoSite) {
  config_.dispatch.failures_to_open = 1;
  auto dying = std::make_unique<FakeLlmServer>(&FakeLlmServer::Answer);
  config_.sites[0].backends[0].url = dying->url();
  StartDaemon();
  auto client = Connect();
  dying.reset();
  WaitUntil([this] { return Metric("goad_backend_up") == 0; });
  for (int k = 0; k < 5; ++k) EXPECT_EQ(client->Ask(Unsure(), [] { return "local"; }).why_local, "NO_SITE");
  EXPECT_EQ(Metric("goad_decisions_total", "NO_SITE"), 5);
}

// --- slow device: its backend read pauses, then is cancelled; no other session notices -------------------------------

TEST_F(FailureTable, SlowDeviceIsPausedThenCancelledAndNoOtherSessionNotices) {
  const std::string page(4096, 'x');
  backend_.set_script([&](Exchange& e) {
    if (e.body.find("endless") == std::string::npos) return FakeLlmServer::Answer(e);
    e.Head();
    while (e.Token(page)) {
    }
    e.ClientLeftWithin(kLong);
  });
  config_.limits.slow_consumer = absl::Milliseconds(300);
  config_.limits.link_max_age = absl::Minutes(1);  // the healthy one reports its link once
  StartDaemon();
  RawSession slow(Channel());
  slow.Open("slow");
  slow.Query("q", 0.95, "endless");
  EXPECT_EQ(slow.Read().decision().verdict(), v1::VERDICT_OFFLOAD);
  slow.Prompt("q", "endless");  // and reads no further
  auto healthy = Connect("healthy");
  // Either its answer is given up first, or its stream is ended: both have the same patience.
  while (Metric("goad_slow_consumers_total") + Metric("goad_refused_total", "SLOW_CONSUMER") == 0) {
    const Answer answer = healthy->Ask(Unsure(), {});
    ASSERT_EQ(answer.text, "hi there") << answer.why_local << " " << answer.detail;
  }
  WaitUntil([this] { return backend_.clients_left() >= 1; });
  WaitUntil([this] { return Metric("goad_running_queries") == 0; });
}

// --- NaN, negative, huge, unknown version, unknown site, other body under a known id:
//     daemon_test BadInputIsAnErrorWithFieldValueAndRangeAndTheSessionGoesOn,
//     TheSameQueryAgainIsToldAgainAndNeverRunsAgain
// --- clock jumps: simulation_test JumpingClock
// --- bad config: config_test, daemon_test AdminShowsAndTurns (a reload that is refused)
// --- port in use: daemon_test ASecondDaemonOnTheSamePortRefusesToStart -----------------------------------------------

TEST_F(FailureTable, DiskFullForTheDecisionLogServingGoesOn) {
  config_.decision_log.path = "/dev/full";
  config_.decision_log.snapshot_every = 1;
  StartDaemon();
  auto client = Connect();
  for (int k = 0; k < 3; ++k) EXPECT_EQ(client->Ask(Unsure(), {}).text, "hi there");
}

TEST_F(FailureTable, NoFileDescriptorsForBackendsIsFailedAnswerLocallyAndServingGoesOnAfterwards) {
  // The lowest 64 are ours, so that everything of the daemon is above them: a limit of 64 then refuses each new
  // descriptor, whichever of its own the daemon closes meanwhile (a probe's, say).
  constexpr int kOurs = 64;
  std::vector<int> ours;
  while (ours.empty() || ours.back() < kOurs) ours.push_back(open("/dev/null", O_RDONLY | O_CLOEXEC));
  StartDaemon();
  RawSession session(Channel());
  session.Open();
  session.Query("q");
  EXPECT_EQ(session.Read().decision().verdict(), v1::VERDICT_OFFLOAD);
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  const rlimit few{kOurs, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  session.Prompt("q");
  const v1::ServerFrame failed = session.Read();
  setrlimit(RLIMIT_NOFILE, &before);
  for (const int fd : ours) close(fd);
  ASSERT_TRUE(failed.has_failed()) << failed.ShortDebugString();
  EXPECT_TRUE(failed.failed().answer_locally());
  WaitUntil([this] { return Metric("goad_backend_up") == 1; });
  auto client = Connect();
  EXPECT_EQ(client->Ask(Unsure(), {}).text, "hi there");
}

}  // namespace
}  // namespace goad::server
