// Two goads that are neighbours, and a device of the SDK that moves, or whose goad dies or drains.
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <future>

#include "server/config/config_loader.h"
#include "tests/support/daemon_fixture.h"

namespace goad::server {
namespace {

class NeighboursTest : public DaemonTest {
 protected:
  NeighboursTest() : other_backend_(&FakeLlmServer::Answer) {}

  ~NeighboursTest() override { std::remove(file_.c_str()); }

  // Each has one site, "a" and "b", and knows of the other. A port is known only when it is there, so the first is told
  // of the second by a reload.
  void StartBoth() {
    WriteFile("[]");
    auto loaded = LoadConfig(file_);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    config_ = *loaded;
    StartDaemon({.config_path = file_});
    Config other = config_;
    other.sites[0].name = "b";
    other.sites[0].backends[0].url = other_backend_.url();
    other.neighbours = {{address_, {"a"}}};
    auto started = Daemon::Start(other, {});
    ASSERT_TRUE(started.ok()) << started.status();
    other_ = *std::move(started);
    other_address_ = absl::StrCat("127.0.0.1:", other_->listen_port());
    WriteFile(absl::StrCat("[{address: \"", other_address_, "\", sites: [b]}]"));
    const auto reloaded = daemon_->Reload();
    ASSERT_TRUE(reloaded.ok()) << reloaded.status();
  }
  void WriteFile(const std::string& neighbours) {
    std::ofstream(file_) << "listen: {address: \"127.0.0.1:0\"}\nadmin: {address: \"127.0.0.1:0\"}\n"
                         << "metrics: {address: \"127.0.0.1:0\"}\ndispatch: {probe_period: 50ms}\n"
                         << "limits: {link_max_age: 1s}\nneighbours: " << neighbours << "\n"
                         << "sites: [{name: a, uplink: {model: shannon}, backends: [{url: \"" << backend_.url()
                         << "\"}]}]\n";
  }
  std::unique_ptr<Client> ConnectTo(std::vector<std::string> addresses, std::vector<Link> links) {
    ClientOptions options;
    options.address = addresses.at(0);
    options.other_addresses.assign(addresses.begin() + 1, addresses.end());
    options.device_name = "device";
    options.return_after = absl::Milliseconds(200);
    auto client = Client::Connect(options);
    links_ = std::move(links);
    client->ReportLinks(links_);
    WaitUntil([&] { return client->connected(); });
    return client;
  }
  // Asks until the edge answers from this goad; every answer on the way is whole or says why.
  void ServedAt(Client& client, const std::string& address) {
    WaitUntil([&] {
      client.ReportLinks(links_);  // they get old within a second
      const Answer answer = client.Ask(Unsure(), {});
      if (answer.source != Answer::Source::kEdge) return false;
      EXPECT_EQ(answer.text, "hi there");
      return answer.goad == address;
    });
  }

  std::vector<Link> links_;  // that the device hears
  FakeLlmServer other_backend_;
  const std::string file_ = absl::StrCat(testing::TempDir(), "neighbours_", getpid(), ".yaml");
  std::unique_ptr<Daemon> other_;
  std::string other_address_;
};

TEST_F(NeighboursTest, ADeviceThatMovesIsSentToTheNeighbourAndBackAndWhatRunsIsFinished) {
  backend_.set_script([](FakeLlmServer::Exchange& e) {
    if (e.body.find("long") == std::string::npos) return FakeLlmServer::Answer(e);
    e.Head() && e.Token("begun ") && e.WaitForRelease() && e.Token("and finished") && e.Finish();
  });
  StartBoth();
  auto client = ConnectTo({address_}, {{.site = "a", .gain_db = -80}});
  WaitUntil([&] { return client->sites().size() == 2; });
  EXPECT_EQ(client->sites()[1].neighbour, other_address_);
  ServedAt(*client, address_);
  std::promise<void> begun;
  auto runs = std::async(std::launch::async, [&] {
    return client->Ask(Unsure("long"), {}, [&, once = false](const std::string&) mutable {
      if (!std::exchange(once, true)) begun.set_value();
    });
  });
  begun.get_future().wait();
  links_ = {{.site = "b", .gain_db = -80}};  // it walks: what it measured of the first site gets old
  WaitUntil([&] {
    client->ReportLinks(links_);
    return Metric("goad_sessions_sent_away_total") == 1;
  });
  ServedAt(*client, other_address_);
  backend_.Release();
  const Answer finished = runs.get();
  EXPECT_EQ(finished.text, "begun and finished");
  EXPECT_EQ(finished.goad, address_);
  WaitUntil([&] { return Metric("goad_sessions") == 0; });

  links_ = {{.site = "a", .gain_db = -80}};
  WaitUntil([&] {
    client->ReportLinks(links_);
    return Metric("goad_sessions") == 1;
  });
  ServedAt(*client, address_);
}

TEST_F(NeighboursTest, WhenItsGoadDiesADeviceIsServedByTheNextOneAndGoesBackWhenItIsThereAgain) {
  StartBoth();
  auto client = ConnectTo({other_address_, address_}, {{.site = "a", .gain_db = -80}, {.site = "b", .gain_db = -80}});
  ServedAt(*client, other_address_);
  const Config again = [&] {
    Config config = config_;
    config.listen.address = other_address_;
    config.sites[0].name = "b";
    config.sites[0].backends[0].url = other_backend_.url();
    config.neighbours = {{address_, {"a"}}};
    return config;
  }();
  other_.reset();
  ServedAt(*client, address_);
  auto started = Daemon::Start(again, {});
  ASSERT_TRUE(started.ok()) << started.status();
  other_ = *std::move(started);
  ServedAt(*client, other_address_);
}

TEST_F(NeighboursTest, WhenItsGoadDrainsADeviceOfOneAddressIsToldOfTheNeighbour) {
  StartBoth();
  auto client = ConnectTo({address_}, {{.site = "a", .gain_db = -80}, {.site = "b", .gain_db = -80}});
  ServedAt(*client, address_);
  auto drained = std::async(std::launch::async, [&] { daemon_->DrainAndStop(); });
  ServedAt(*client, other_address_);
  drained.get();
}

}  // namespace
}  // namespace goad::server
