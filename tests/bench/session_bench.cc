// Decisions over many connections, beside a bare gRPC echo that answers at once: what goad's sessions, inbox, epochs
// and writer cost on top of gRPC. Everything in one process on loopback, the devices included. Prints, asserts nothing.
//
//   session_bench [CONNECTIONS=1000] [ROUNDS=20]
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "goad/v1/offload.grpc.pb.h"
#include "server/daemon/daemon.h"
#include "spdlog/spdlog.h"
#include "tests/fakes/fake_llm_server.h"

namespace goad::server {
namespace {

// Answers every Query with a LOCAL decision, at once.
class EchoService final : public v1::Offload::CallbackService {
  class Reactor final : public grpc::ServerBidiReactor<v1::DeviceFrame, v1::ServerFrame> {
   public:
    Reactor() { StartRead(&in_); }
    void OnReadDone(bool ok) override {
      if (!ok) return Finish(grpc::Status::OK);
      if (in_.has_hello()) {
        out_.mutable_welcome();
      } else {
        out_.mutable_decision()->set_query_id(in_.query().query_id());
      }
      StartWrite(&out_);
    }
    void OnWriteDone(bool ok) override {
      if (ok) StartRead(&in_);
    }
    void OnDone() override { delete this; }

   private:
    v1::DeviceFrame in_;
    v1::ServerFrame out_;
  };
  grpc::ServerBidiReactor<v1::DeviceFrame, v1::ServerFrame>* Session(grpc::CallbackServerContext*) override {
    return new Reactor;
  }
};

struct Totals {
  std::mutex mutex;
  std::condition_variable changed;
  int ready = 0, done = 0;
  std::vector<double> waits_s;
};

// Asks one question after the other on a connection of its own.
class Device final : public grpc::ClientBidiReactor<v1::DeviceFrame, v1::ServerFrame> {
 public:
  Device(const std::string& address, int rounds, Totals* totals) : rounds_(rounds), totals_(totals) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    stub_ = v1::Offload::NewStub(grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
    stub_->async()->Session(&context_, this);
    out_.mutable_hello()->set_protocol_version(1);
    AddHold();
    StartWrite(&out_);
    StartRead(&in_);
    StartCall();
  }
  void Go() { Ask(); }
  void OnReadDone(bool ok) override {
    if (!ok) return;
    if (in_.has_welcome()) {
      std::lock_guard<std::mutex> lock(totals_->mutex);
      ++totals_->ready;
      totals_->changed.notify_one();
    } else {
      waits_s_.push_back(SecondsBetween(asked_, MonotonicTime::Now()));
    }
    StartRead(&in_);
    if (in_.has_welcome() || waits_s_.empty()) return;
    if (static_cast<int>(waits_s_.size()) < rounds_) return Ask();
    std::lock_guard<std::mutex> lock(totals_->mutex);
    totals_->waits_s.insert(totals_->waits_s.end(), waits_s_.begin(), waits_s_.end());
    ++totals_->done;
    totals_->changed.notify_one();
  }
  void OnWriteDone(bool) override { written_ = true; }
  void Stop() {
    context_.TryCancel();
    RemoveHold();
  }

 private:
  void Ask() {
    while (!written_) std::this_thread::yield();  // an answer may come before OnWriteDone of its question
    written_ = false;
    out_.Clear();
    v1::Query& query = *out_.mutable_query();
    query.set_query_id(absl::StrCat("q", waits_s_.size()));
    query.set_uncertainty(0.1);
    query.set_prompt_bits(800);
    query.set_prompt_tokens(50);
    asked_ = MonotonicTime::Now();
    StartWrite(&out_);
  }

  const int rounds_;
  Totals* const totals_;
  std::unique_ptr<v1::Offload::Stub> stub_;
  grpc::ClientContext context_;
  v1::DeviceFrame out_;
  v1::ServerFrame in_;
  std::atomic<bool> written_{false};
  MonotonicTime asked_;
  std::vector<double> waits_s_;
};

double Run(const char* name, const std::string& address, int connections, int rounds) {
  Totals totals;
  const MonotonicTime start = MonotonicTime::Now();
  auto* devices = new std::vector<std::unique_ptr<Device>>;  // outlives its streams' last callbacks
  for (int d = 0; d < connections; ++d) devices->push_back(std::make_unique<Device>(address, rounds, &totals));
  std::unique_lock<std::mutex> lock(totals.mutex);
  totals.changed.wait(lock, [&] { return totals.ready == connections; });
  const MonotonicTime open = MonotonicTime::Now();
  lock.unlock();
  for (auto& device : *devices) device->Go();
  lock.lock();
  totals.changed.wait(lock, [&] { return totals.done == connections; });
  const double seconds = SecondsBetween(open, MonotonicTime::Now());
  std::sort(totals.waits_s.begin(), totals.waits_s.end());
  const auto at = [&](double p) { return 1e3 * totals.waits_s[static_cast<size_t>(p * (totals.waits_s.size() - 1))]; };
  const double rate = totals.waits_s.size() / seconds;
  std::printf("%-14s %6d connections open in %5.2f s; %8.0f decisions/s; wait ms p50 %6.2f p99 %6.2f max %6.2f\n", name,
              connections, SecondsBetween(start, open), rate, at(0.5), at(0.99), at(1));
  lock.unlock();
  for (auto& device : *devices) device->Stop();
  return rate;
}

}  // namespace
}  // namespace goad::server

int main(int argc, char** argv) {
  using namespace goad::server;
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  spdlog::set_level(spdlog::level::warn);
  const int connections = argc > 1 ? std::atoi(argv[1]) : 1000, rounds = argc > 2 ? std::atoi(argv[2]) : 20;

  EchoService echo;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&echo);
  auto server = builder.BuildAndStart();

  FakeLlmServer backend(&FakeLlmServer::Answer);
  Config config;
  SiteConfig site;
  site.name = "a";
  BackendConfig backend_config;
  backend_config.url = backend.url();
  site.backends = {backend_config};
  config.sites = {site};
  config.listen.address = "127.0.0.1:0";
  config.admin_address = config.metrics_address = "";
  auto daemon = Daemon::Start(config, {});
  if (!daemon.ok()) {
    std::fprintf(stderr, "%s\n", daemon.status().ToString().c_str());
    return 1;
  }
  const double bare = Run("bare gRPC echo", absl::StrCat("127.0.0.1:", port), connections, rounds);
  const double goad = Run("goad", absl::StrCat("127.0.0.1:", (*daemon)->listen_port()), connections, rounds);
  std::printf(
      "goad decides %.2f times as fast as the bare echo answers (a device asks again when it has its answer; an "
      "epoch gathers for 2 to 20 ms)\n",
      goad / bare);
  std::fflush(stdout);
  _exit(0);  // streams are still being cancelled
}
