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
  void UseTls() { config_.listen.tls = {tls_ + "server.pem", tls_ + "server.key", tls_ + "ca.pem"}; }
  ClientOptions KnownDevice() const {
    return {.address = address_,
            .device_name = "tls",
            .root_ca_file = tls_ + "ca.pem",
            .certificate_file = tls_ + "device.pem",
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
      const std::string openings[] = {std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11),
                                      std::string(512, '\xFF'), ""};
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
  options.key_file = tls_ + "server.key";  // not its own: the SDK does not even try
  EXPECT_EQ(Client::Connect(options)->Ask(Unsure(), [] { return "local"; }).why_local, "INVALID_OPTIONS");
  EXPECT_EQ(Metric("goad_sessions"), 1);
  AskAFew(*known);
}

TEST_F(HostilePeers, FramesOfNoBytesAndOfTheLargestSizeAreAnErrorOfTheirOwnQuery) {
  StartDaemon();
  auto healthy = Connect();
  RawSession session(Channel());
  session.Open();
  ASSERT_TRUE(session.Send(v1::DeviceFrame()));  // 0 bytes on the wire
  EXPECT_TRUE(session.Read().has_protocol_error());
  v1::DeviceFrame large;  // fits into a frame, and exceeds limits.prompt
  large.mutable_prompt()->set_query_id("q");
  large.mutable_prompt()->set_text(std::string((3 << 20) + (64 << 10) - 64, 'x'));
  session.Query("q");
  EXPECT_EQ(session.Read().decision().verdict(), v1::VERDICT_OFFLOAD);
  ASSERT_TRUE(session.Send(large));
  const v1::ServerFrame refused = session.Read();
  EXPECT_TRUE(refused.has_failed() || refused.has_protocol_error()) << refused.ShortDebugString();
  session.Query("after");
  v1::ServerFrame frame = session.Read();
  while (frame.has_protocol_error() || frame.has_failed()) frame = session.Read();
  EXPECT_EQ(frame.decision().query_id(), "after") << frame.ShortDebugString();
  large.mutable_prompt()->set_text(std::string(4 << 20, 'x'));  // no frame any more: the end of that stream alone
  session.Send(large);
  EXPECT_EQ(session.Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  AskAFew(*healthy);
}

TEST_F(HostilePeers, ACompressedMessageIsUnimplementedAndUnpacksNothing) {
  StartDaemon();
  grpc::ClientContext context;
  context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  auto stub = v1::Offload::NewStub(Channel());
  v1::AskRequest bomb;
  bomb.mutable_query()->mutable_inline_prompt()->set_text(std::string(3 << 20, ' '));
  auto reader = stub->Ask(&context, bomb);
  v1::ServerFrame frame;
  EXPECT_FALSE(reader->Read(&frame));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(backend_.requests(), 0);
  AskAFew(*Connect());
}

TEST_F(HostilePeers, AStreamWithoutAHelloIsEnded) {
  StartDaemon();
  RawSession silent(Channel());
  const grpc::Status status = silent.Finish();  // within some 5 s
  EXPECT_NE(status.error_code(), grpc::StatusCode::OK);
  WaitUntil([this] { return Metric("goad_sessions") == 0; });
}

TEST_F(HostilePeers, MoreConnectionsThanAnAddressMayHaveAreClosedAndOthersGoOn) {
  config_.limits.connections = 100;
  config_.limits.connections_per_address = 40;
  StartDaemon();
  auto known = Connect();
  std::vector<int> flood;
  for (int k = 0; k < 200; ++k) flood.push_back(ConnectToLoopback(daemon_->listen_port()));
  WaitUntil([this] { return Metric("goad_connections_refused_total", "devices") > 0; });
  EXPECT_LE(Metric("goad_connections", "devices"), 41);
  AskAFew(*known);
  for (const int fd : flood) close(fd);
  WaitUntil([this] { return Metric("goad_connections", "devices") <= 2; });
}

TEST_F(HostilePeers, MoreStreamsThanAConnectionMayHaveWaitAndMoreCallsASecondCloseIt) {
  config_.limits.streams_per_connection = 4;
  StartDaemon();
  auto known = Connect();
  const auto channel = Channel();
  std::vector<std::unique_ptr<RawSession>> streams;
  for (int k = 0; k < 4; ++k) {
    streams.push_back(std::make_unique<RawSession>(channel));
    streams.back()->Open();
  }
  EXPECT_EQ(Metric("goad_sessions"), 5);
  for (auto& stream : streams) stream->Cancel();
  for (int k = 0; k < 40 && Metric("goad_connections_refused_total", "CALL_RATE") == 0; ++k) {
    RawSession reset(channel);
    reset.Hello();
    reset.Read();
    reset.Cancel();
    reset.Finish();
  }
  EXPECT_GT(Metric("goad_connections_refused_total", "CALL_RATE"), 0);
  AskAFew(*known);
}

// 16 KiB: an entry put into the HPACK table and named thousands of times. Settings are never acknowledged: gRPC's own
// bound on headers holds for peers that have.
TEST_F(HostilePeers, HeadersThatUnpackToThousandsCloseTheirConnection) {
  StartDaemon();
  auto known = Connect();
  std::string block;
  const auto literal = [&block](char kind, std::string_view name, std::string_view value) {
    block += kind;
    block += static_cast<char>(name.size());
    block += name;
    block += static_cast<char>(value.size());
    block += value;
  };
  literal('\0', ":method", "POST");
  literal('\0', ":scheme", "http");
  literal('\0', ":path", "/goad.v1.Offload/Session");
  literal('\0', ":authority", "x");
  literal('\0', "content-type", "application/grpc");
  literal('\0', "te", "trailers");
  literal('\x40', "a", "0123456789");
  block.append(16384 - block.size(), '\xbe');  // entry 62, the last that was put there
  std::string bytes = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  bytes.append("\0\0\0\4\0\0\0\0\0", 9);             // SETTINGS
  bytes.append("\0\x40\0\1\4\0\0\0\1", 9) += block;  // HEADERS of stream 1, END_HEADERS
  const int fd = ConnectToLoopback(daemon_->listen_port());
  ASSERT_EQ(send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
  EXPECT_TRUE(ClosedByGoad(fd));
  close(fd);
  WaitUntil([this] { return Metric("goad_connections_refused_total", "BYTE_RATE") > 0; });
  AskAFew(*known);
}

TEST_F(HostilePeers, HealthWatchesAreBounded) {
  StartDaemon();
  auto known = Connect();
  struct Watch {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<grpc::ByteBuffer>> reader;
    grpc::ByteBuffer first;
    bool answered = false;
  };
  const grpc::Slice none("", 0);
  const grpc::ByteBuffer request(&none, 1);
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  std::vector<std::unique_ptr<Watch>> watches;
  int answered = 0;
  for (int k = 0; k < 80; ++k) {
    if (k % 40 == 0) channels.push_back(Channel());
    watches.push_back(std::make_unique<Watch>());
    Watch& watch = *watches.back();
    watch.context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    watch.reader.reset(grpc::internal::ClientReaderFactory<grpc::ByteBuffer>::Create(
        channels.back().get(),
        grpc::internal::RpcMethod("/grpc.health.v1.Health/Watch", grpc::internal::RpcMethod::SERVER_STREAMING),
        &watch.context, request));
    answered += watch.reader->Read(&watch.first);
  }
  EXPECT_EQ(answered, 64);
  for (auto& watch : watches) watch->context.TryCancel();
  AskAFew(*known);
}

TEST_F(HostilePeers, TheDevicePortHasNoReflectionAndNoChannelz) {
  StartDaemon();
  for (const char* method :
       {"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "/grpc.channelz.v1.Channelz/GetServers"}) {
    const auto ask = [&](int port) {
      auto channel = grpc::CreateChannel("127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials());
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
      const grpc::Slice none("", 0);
      const grpc::ByteBuffer request(&none, 1);
      std::unique_ptr<grpc::ClientReader<grpc::ByteBuffer>> reader(
          grpc::internal::ClientReaderFactory<grpc::ByteBuffer>::Create(
              channel.get(), grpc::internal::RpcMethod(method, grpc::internal::RpcMethod::SERVER_STREAMING), &context,
              request));
      grpc::ByteBuffer response;
      while (reader->Read(&response)) {
      }
      return reader->Finish().error_code();
    };
    EXPECT_EQ(ask(daemon_->listen_port()), grpc::StatusCode::UNIMPLEMENTED) << method;
    EXPECT_NE(ask(daemon_->admin_port()), grpc::StatusCode::UNIMPLEMENTED) << method;
  }
}

TEST_F(HostilePeers, WhatADeviceWritesGrowsNoFrame) {
  StartDaemon();
  RawSession session(Channel());
  session.Open();
  v1::DeviceFrame frame;
  frame.mutable_link_report()->add_links()->set_site(std::string(3 << 20, 's'));
  session.Send(frame);
  v1::ServerFrame answer = session.Read();
  EXPECT_TRUE(answer.has_protocol_error());
  EXPECT_LT(answer.ByteSizeLong(), 1024u);
  frame.mutable_query()->set_query_id("a\nb");
  session.Send(frame);
  EXPECT_EQ(session.Read().protocol_error().error().field(), "query.query_id");
  session.Query("q");
  EXPECT_EQ(session.Read().decision().verdict(), v1::VERDICT_OFFLOAD);
  frame.mutable_prompt()->set_query_id("q");
  auto* message = frame.mutable_prompt()->mutable_chat()->add_messages();
  message->set_role(std::string(3 << 20, 'r'));
  session.Send(frame);
  answer = session.Read();
  EXPECT_TRUE(answer.has_failed());
  EXPECT_LT(answer.ByteSizeLong(), 1024u);
}

TEST_F(HostilePeers, WhoReadsNothingIsCutOffWhateverWaitsForIt) {
  config_.limits.slow_consumer = absl::Milliseconds(500);
  config_.limits.frames_per_second = 100000;
  StartDaemon();
  auto known = Connect();
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  RawSession session(grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), arguments));
  session.Open();
  v1::DeviceFrame bad;
  bad.mutable_cancel();
  bad.mutable_link_report()->add_links()->set_site("nowhere");
  for (int k = 0; k < 4000; ++k) session.Send(bad);  // a protocol error each, and nobody reads them
  WaitUntil([this] { return Metric("goad_sessions") == 1; });
  AskAFew(*known);
}

TEST_F(HostilePeers, AnotherTenantsQueryIdsAreOutOfReach) {
  config_.auth.required = true;
  config_.auth.tokens = {
      {"acme", absl::HexStringToBytes("2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b")},
      {"rival", absl::HexStringToBytes("9c0ee26e4a1fbb028187486a7ea91f81f8ab81fcf467cba75107dbd3a64244d7")}};
  backend_.set_script(
      [](Exchange& e) { e.Head() && e.Token("hi ") && e.WaitForRelease() && e.Token("there") && e.Finish(); });
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
  rival.Query("q", 0.95,
              "another question");  // neither acme's answer nor an error about another body: a query of its own
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
