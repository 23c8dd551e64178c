// Peers that mean no good, or have gone without a word: none of them harms another session.
#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "absl/strings/escaping.h"
#include "tests/fakes/loopback.h"
#include "tests/fakes/tcp_proxy.h"
#include "tests/support/daemon_fixture.h"

namespace goad::server {
namespace {

using Exchange = FakeLlmServer::Exchange;

class HostilePeers : public DaemonTest {
 protected:
  static void AskAFew(Client& client) {
    client.ReportLinks({{.site = "a", .gain_db = -80}});
    for (int k = 0; k < 10; ++k) ASSERT_EQ(client.Ask(Unsure(), {}).text, "hi there");
  }
  // Waits until goad has closed the connection, whatever it says before.
  static bool ClosedByGoad(int fd) {
    const MonotonicTime until = MonotonicTime::Now() + kLong;
    while (MonotonicTime::Now() < until) {
      pollfd waiting{fd, POLLIN, 0};
      if (poll(&waiting, 1, 100) <= 0) continue;
      char bytes[4096];
      if (recv(fd, bytes, sizeof bytes, 0) <= 0) return true;
    }
    return false;
  }
  void UseTls() {
    config_.listen.tls = {tls_ + "server.pem", tls_ + "server.key", tls_ + "ca.pem"};
  }
  ClientOptions KnownDevice() const {
    return {.address = address_, .device_name = "tls", .root_ca_file = tls_ + "ca.pem", .certificate_file = tls_ + "device.pem",
            .key_file = tls_ + "device.key"};
  }
  const std::string tls_ = std::string(GOAD_TEST_DATA) + "/tls/";
};

TEST_F(HostilePeers, ConnectionsThatNeverSpeakAreClosedAndHarmNobody) {
  StartDaemon();
  std::vector<int> silent;
  for (int k = 0; k < 300; ++k) {
    silent.push_back(ConnectToLoopback(daemon_->listen_port()));
    if (k % 2 == 1) send(silent.back(), "PRI * HT", 8, MSG_NOSIGNAL);  // half of an HTTP/2 preface
  }
  AskAFew(*Connect());
  for (const int fd : silent) {
    ASSERT_TRUE(ClosedByGoad(fd));
    close(fd);
  }
}

TEST_F(HostilePeers, AFloodOfTlsHandshakesHarmsNoSession) {
  UseTls();
  StartDaemon();
  auto client = Client::Connect(KnownDevice());
  WaitUntil([&] { return client->connected(); });
  std::atomic<bool> enough{false};
  std::atomic<int> handshakes{0};
  std::vector<std::thread> flood;
  for (int t = 0; t < 2; ++t) {
    flood.emplace_back([&, t] {
      // A TLS record that announces a ClientHello and breaks off, garbage, and a close at once.
      const std::string openings[] = {std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11), std::string(512, '\xFF'), ""};
      std::vector<int> open;
      for (size_t k = static_cast<size_t>(t); !enough; ++k) {
        const std::string& opening = openings[k % 3];
        open.push_back(ConnectToLoopback(daemon_->listen_port()));
        if (!opening.empty()) send(open.back(), opening.data(), opening.size(), MSG_NOSIGNAL);
        ++handshakes;
        if (open.size() < 100) continue;
        for (const int fd : open) close(fd);
        open.clear();
      }
      for (const int fd : open) close(fd);
    });
  }
  WaitUntil([&] { return handshakes > 200; });
  AskAFew(*client);
  enough = true;
  for (std::thread& thread : flood) thread.join();
  auto late = Client::Connect(KnownDevice());  // who comes afterwards gets in
  WaitUntil([&] { return late->connected(); });
  AskAFew(*late);
  std::printf("%d handshakes begun and broken off meanwhile\n", handshakes.load());
}

TEST_F(HostilePeers, WrongCertificatesComeNotInAndHarmNobody) {
  UseTls();
  StartDaemon();
  auto known = Client::Connect(KnownDevice());
  WaitUntil([&] { return known->connected(); });
  ClientOptions options = KnownDevice();
  options.certificate_file = tls_ + "stranger.pem";  // of an authority of its own
  options.key_file = tls_ + "stranger.key";
  EXPECT_EQ(Client::Connect(options)->Ask(Unsure(), [] { return "local"; }).why_local, "UNREACHABLE");
  options = KnownDevice();
  options.key_file = tls_ + "server.key";            // not its own: the SDK does not even try
  EXPECT_EQ(Client::Connect(options)->Ask(Unsure(), [] { return "local"; }).why_local, "INVALID_OPTIONS");
  EXPECT_EQ(Metric("goad_sessions"), 1);
  AskAFew(*known);
}

TEST_F(HostilePeers, FramesOfNoBytesAndOf4MiBAreAnErrorOfTheirOwnStream) {
  StartDaemon();
  auto healthy = Connect();
  RawSession session(Channel());
  session.Open();
  ASSERT_TRUE(session.Send(v1::DeviceFrame()));  // 0 bytes on the wire
  EXPECT_TRUE(session.Read().has_protocol_error());
  v1::DeviceFrame large;                         // fits into 4 MiB with its framing, and exceeds limits.prompt
  large.mutable_prompt()->set_query_id("q");
  large.mutable_prompt()->set_text(std::string((4 << 20) - 64, 'x'));
  ASSERT_LE(large.ByteSizeLong(), size_t{4} << 20);
  session.Query("q");
  EXPECT_EQ(session.Read().decision().verdict(), v1::VERDICT_OFFLOAD);
  ASSERT_TRUE(session.Send(large));
  const v1::ServerFrame refused = session.Read();
  EXPECT_TRUE(refused.has_failed() || refused.has_protocol_error()) << refused.ShortDebugString();
  session.Query("after");
  v1::ServerFrame frame = session.Read();
  while (frame.has_protocol_error() || frame.has_failed()) frame = session.Read();
  EXPECT_EQ(frame.decision().query_id(), "after") << frame.ShortDebugString();
  AskAFew(*healthy);
}

TEST_F(HostilePeers, AnotherTenantsQueryIdsAreOutOfReach) {
  config_.auth.required = true;
  config_.auth.tokens = {{"acme", absl::HexStringToBytes("2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b")},
                         {"rival", absl::HexStringToBytes("9c0ee26e4a1fbb028187486a7ea91f81f8ab81fcf467cba75107dbd3a64244d7")}};
  backend_.set_script([](Exchange& e) { e.Head() && e.Token("hi ") && e.WaitForRelease() && e.Token("there") && e.Finish(); });
  StartDaemon();
  RawSession acme(Channel(), "secret");
  acme.Open();
  acme.Query("q");
  EXPECT_EQ(acme.Read().decision().verdict(), v1::VERDICT_OFFLOAD);
  RawSession rival(Channel(), "other-secret");
  rival.Open();
  rival.Prompt("q", "mine now");  // acme's grant
  EXPECT_TRUE(rival.Read().has_protocol_error());
  acme.Prompt("q");
  EXPECT_EQ(acme.Read().tokens().text(), "hi ");
  v1::DeviceFrame cancel;
  cancel.mutable_cancel()->set_query_id("q");
  rival.Send(cancel);
  rival.Query("q", 0.95, "another question");  // neither acme's answer nor an error about another body: a query of its own
  v1::ServerFrame frame = rival.Read();
  if (frame.has_protocol_error()) frame = rival.Read();  // of the cancel
  EXPECT_EQ(frame.decision().verdict(), v1::VERDICT_OFFLOAD) << frame.ShortDebugString();
  EXPECT_EQ(backend_.requests(), 1);
  backend_.Release();
  EXPECT_EQ(acme.Read().tokens().text(), "there");
  EXPECT_TRUE(acme.Read().has_completed());
}

TEST_F(HostilePeers, DeviceVanishesWithSilentLossIsFoundByKeepaliveAndItsBackendCallAborted) {
  backend_.set_script([](Exchange& e) { e.Head() && e.Token("x") && e.ClientLeftWithin(absl::Seconds(60)); });
  config_.dispatch.between_tokens = absl::Seconds(60);
  StartDaemon();
  TcpProxy radio(daemon_->listen_port());
  address_ = radio.address();
  RawSession session(Channel());
  session.OpenAndAsk("q");
  EXPECT_EQ(session.Read().tokens().text(), "x");
  const MonotonicTime lost = MonotonicTime::Now();
  radio.GoSilent();
  while (backend_.clients_left() == 0 && MonotonicTime::Now() < lost + absl::Seconds(40)) std::this_thread::yield();
  EXPECT_EQ(backend_.clients_left(), 1);
  std::printf("found after %.1f s (keepalive: 10 s and 5 s)\n", SecondsBetween(lost, MonotonicTime::Now()));
  WaitUntil([this] { return Metric("goad_sessions") == 0 && Metric("goad_running_queries") == 0; });
  session.Cancel();
}

}  // namespace
}  // namespace goad::server
