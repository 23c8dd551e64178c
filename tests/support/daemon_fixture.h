// A daemon in this process, with scripted LLM servers behind it and raw gRPC streams and SDK clients before it.
#ifndef GOAD_TESTS_SUPPORT_DAEMON_FIXTURE_H_
#define GOAD_TESTS_SUPPORT_DAEMON_FIXTURE_H_

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>

#include "absl/strings/str_cat.h"
#include "goad/client.h"
#include "goad/v1/offload.grpc.pb.h"
#include "gtest/gtest.h"
#include "server/config/config_files.h"
#include "server/daemon/daemon.h"
#include "tests/fakes/fake_llm_server.h"

namespace goad::server {

constexpr absl::Duration kLong = absl::Seconds(20);  // nothing waits this long unless it is broken

// A device's stream, frame by frame, with blocking calls.
class RawSession {
 public:
  explicit RawSession(const std::shared_ptr<grpc::Channel>& channel, const std::string& token = "",
                      const std::string& traceparent = "")
      : stub_(v1::Offload::NewStub(channel)) {
    context_.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    if (!traceparent.empty()) context_.AddMetadata("traceparent", traceparent);
    if (!token.empty()) context_.AddMetadata("authorization", "Bearer " + token);
    stream_ = stub_->Session(&context_);
  }
  bool Send(const v1::DeviceFrame& frame) { return stream_->Write(frame); }
  void HalfClose() { stream_->WritesDone(); }
  void Cancel() { context_.TryCancel(); }
  // Default frame at the end of the stream.
  v1::ServerFrame Read() {
    v1::ServerFrame frame;
    return stream_->Read(&frame) ? frame : v1::ServerFrame();
  }
  grpc::Status Finish() {
    v1::ServerFrame rest;
    while (stream_->Read(&rest)) {
    }
    return stream_->Finish();
  }
  const grpc::ClientContext& context() const { return context_; }

  void Hello(const std::string& name = "") {
    v1::DeviceFrame frame;
    frame.mutable_hello()->set_protocol_version(1);
    frame.mutable_hello()->set_device_name(name);
    Send(frame);
  }
  void Links(double gain_db = -80) {
    v1::DeviceFrame frame;
    auto* link = frame.mutable_link_report()->add_links();
    link->set_site("a");
    link->set_gain_db(gain_db);
    Send(frame);
  }
  void Query(const std::string& id, double uncertainty = 0.95, const std::string& prompt = "why?") {
    v1::DeviceFrame frame;
    frame.mutable_query()->set_query_id(id);
    frame.mutable_query()->set_uncertainty(uncertainty);
    frame.mutable_query()->set_prompt_bits(8 * prompt.size());
    frame.mutable_query()->set_local_delay_s(0.0001);
    frame.mutable_query()->set_max_output_tokens(16);
    Send(frame);
  }
  void Prompt(const std::string& id, const std::string& text = "why?") {
    v1::DeviceFrame frame;
    frame.mutable_prompt()->set_query_id(id);
    frame.mutable_prompt()->set_text(text);
    Send(frame);
  }
  // Hello, links, and the Welcome read.
  void Open(const std::string& name = "") {
    Hello(name);
    EXPECT_TRUE(Read().has_welcome());
    Links();
  }
  // As a device that is unsure: opens, asks, gets OFFLOAD, uploads.
  void OpenAndAsk(const std::string& id) {
    Open();
    Query(id);
    EXPECT_EQ(Read().decision().verdict(), v1::VERDICT_OFFLOAD);
    Prompt(id);
  }

 private:
  std::unique_ptr<v1::Offload::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::DeviceFrame, v1::ServerFrame>> stream_;
};

class DaemonTest : public testing::Test {
 protected:
  DaemonTest() : backend_(&FakeLlmServer::Answer) {
    SiteConfig site;
    site.name = "a";
    site.uplink.model = sched::UplinkModel::kShannon;
    BackendConfig backend;
    backend.url = backend_.url();
    site.backends = {backend};
    config_.sites = {site};
    config_.listen.address = config_.admin_address = config_.metrics_address = "127.0.0.1:0";
    config_.dispatch.probe_period = absl::Milliseconds(50);
  }
  // A query that is offloaded when a site takes it.
  static goad::Query Unsure(const std::string& prompt = "why?") {
    goad::Query query;
    query.uncertainty = 0.95;
    query.prompt = prompt;
    query.local_delay = absl::Milliseconds(1);
    return query;
  }
  void StartDaemon(Daemon::Options options = {}) {
    Config config = config_;
    for (const ConfigProblem& problem : ReadConfigFiles(&config)) FAIL() << problem.path << ": " << problem.message;
    auto daemon = Daemon::Start(std::move(config), std::move(options));
    ASSERT_TRUE(daemon.ok()) << daemon.status();
    daemon_ = std::move(*daemon);
    address_ = absl::StrCat("127.0.0.1:", daemon_->listen_port());
    double backends = 0;
    for (const SiteConfig& site : config_.sites) backends += static_cast<double>(site.backends.size());
    WaitUntil([&] { return Metric("goad_backend_up") == backends; });
  }
  std::shared_ptr<grpc::Channel> Channel() {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), arguments);
  }
  std::unique_ptr<Client> Connect(const std::string& name = "device") {
    auto client = Client::Connect({.address = address_, .device_name = name});
    client->ReportLinks({{.site = "a", .gain_db = -80}});
    WaitUntil([&] { return client->connected(); });
    return client;
  }
  // Sum of the series of this family (or histogram part) whose labels contain `label`.
  double Metric(const std::string& name, const std::string& label = "");
  // Polls what has no event to wait for, such as a counter; fails the test after kLong.
  static void WaitUntil(const std::function<bool()>& condition);

  FakeLlmServer backend_;
  Config config_;
  std::unique_ptr<Daemon> daemon_;
  std::string address_;
};

}  // namespace goad::server

#endif  // GOAD_TESTS_SUPPORT_DAEMON_FIXTURE_H_
