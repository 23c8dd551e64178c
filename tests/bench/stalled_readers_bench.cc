// How long a healthy device waits for its decision: alone; beside watchers of epochs (goadctl watch) that read, and of
// which half do not; beside many sessions of which half are idle and half have stopped reading with answers waiting for
// them. Everything on loopback, the watchers in a process of their own that gives way to this one. Prints, asserts
// nothing.
//
//   stalled_readers_bench [SESSIONS=1000] [QUESTIONS=500] [WATCHERS=200]
#include <grpcpp/grpcpp.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "goad/v1/admin.grpc.pb.h"
#include "server/telemetry/metrics.h"
#include "spdlog/spdlog.h"
#include "tests/support/daemon_fixture.h"

namespace goad::server {
namespace {

grpc::ChannelArguments ASmallWindow() {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection each
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 1024);
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  return arguments;
}

// One WatchEpochs call, read by gRPC's threads or not at all.
class Watcher final : public grpc::ClientReadReactor<v1::EpochSummary> {
 public:
  Watcher(v1::Admin::Stub* stub, bool reads) : reads_(reads) {
    stub->async()->WatchEpochs(&context_, &request_, this);
    if (reads_) StartRead(&epoch_);
    AddHold();
    StartCall();
  }
  void OnReadInitialMetadataDone(bool) override { watching_.Notify(); }
  void OnReadDone(bool ok) override {
    if (ok && reads_) StartRead(&epoch_);
  }
  void WaitUntilWatching() { watching_.WaitForNotification(); }

 private:
  const bool reads_;
  grpc::ClientContext context_;
  v1::WatchEpochsRequest request_;
  v1::EpochSummary epoch_;
  absl::Notification watching_;
};

class Bench final : public DaemonTest {
 public:
  explicit Bench(std::string program) : program_(std::move(program)) {}
  void TestBody() override {}

  void Run(int sessions, int questions, int watchers) {
    StartDaemon();
    std::printf("epoch.period %s, min_period %s\n", absl::FormatDuration(config_.epoch.period).c_str(),
                absl::FormatDuration(config_.epoch.min_period).c_str());
    Ask("alone", questions);
    AskBesideWatchers(absl::StrCat(watchers, " watchers"), watchers, /*stalled=*/0, questions);
    AskBesideWatchers(absl::StrCat(watchers, " watchers, half stalled"), watchers, watchers / 2, questions);
    std::vector<std::unique_ptr<RawSession>> others;
    for (int k = 0; k < sessions; ++k) {
      others.push_back(std::make_unique<RawSession>(
          grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), ASmallWindow())));
      others.back()->Open();
      if (k % 2 == 0) continue;
      for (int frame = 0; frame < 400; ++frame)
        others.back()->Send(v1::DeviceFrame());  // a ProtocolError each, none of them read
    }
    WaitUntil([&] { return Metric("goad_refused_total") >= sessions / 2 * 400; });
    std::printf("%d sessions beside it: half idle, half not reading; %.0f kB wait for them in goad\n", sessions,
                Metric("goad_outbox_bytes") / 1e3);
    Ask("beside them", questions);
    std::fflush(stdout);
    _exit(0);  // without waiting for streams that nobody reads
  }

 private:
  void AskBesideWatchers(const std::string& name, int watchers, int stalled, int questions) {
    const std::string command =
        absl::StrCat("nice -n 19 ", program_, " watch 127.0.0.1:", daemon_->admin_port(), " ", watchers, " ", stalled);
    std::FILE* const others = popen(command.c_str(), "r");
    int pid = 0;
    if (others == nullptr || std::fscanf(others, "%d", &pid) != 1) std::abort();  // all of them watch
    Ask(name, questions);
    kill(pid, SIGKILL);
    pclose(others);
  }

  void Ask(const std::string& name, int questions) {
    RawSession device(Channel());
    device.Open();
    std::vector<double> waits_ms;
    for (int k = 0; k < questions; ++k) {
      const MonotonicTime asked = MonotonicTime::Now();
      device.Query(absl::StrCat(name, k), 0.1);
      if (!device.Read().has_decision()) std::abort();
      waits_ms.push_back(1e3 * SecondsBetween(asked, MonotonicTime::Now()));
    }
    std::sort(waits_ms.begin(), waits_ms.end());
    const auto at = [&](double p) {
      return waits_ms[static_cast<size_t>(p * static_cast<double>(waits_ms.size() - 1))];
    };
    std::printf("%-28s %d questions one after the other: decision after ms p50 %.2f p99 %.2f max %.2f\n", name.c_str(),
                questions, at(0.5), at(0.99), at(1));
    std::fflush(stdout);
  }

  const std::string program_;
};

// A process of watchers: says its pid when all of them watch, and stays.
void WatchForever(const std::string& address, int watchers, int stalled) {
  constexpr int kOfOneConnection = 10;
  std::vector<std::unique_ptr<v1::Admin::Stub>> stubs;
  std::vector<std::unique_ptr<Watcher>> all;
  for (int k = 0; k < watchers; ++k) {
    if (k % kOfOneConnection == 0) {
      stubs.push_back(
          v1::Admin::NewStub(grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), ASmallWindow())));
    }
    all.push_back(std::make_unique<Watcher>(stubs.back().get(), /*reads=*/k >= stalled));
  }
  for (const auto& watcher : all) watcher->WaitUntilWatching();
  std::printf("%d\n", getpid());
  std::fflush(stdout);
  pause();
}

}  // namespace
}  // namespace goad::server

int main(int argc, char** argv) {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  spdlog::set_level(spdlog::level::warn);
  if (argc == 5 && std::string(argv[1]) == "watch") {
    goad::server::WatchForever(argv[2], std::atoi(argv[3]), std::atoi(argv[4]));
  }
  goad::server::Bench(argv[0]).Run(argc > 1 ? std::atoi(argv[1]) : 1000, argc > 2 ? std::atoi(argv[2]) : 500,
                                   argc > 3 ? std::atoi(argv[3]) : 200);
}
