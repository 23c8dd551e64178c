// How long a healthy device waits for its decision alone, and beside many sessions of which half are idle and half have stopped
// reading with answers waiting for them. Everything in one process on loopback. Prints, asserts nothing.
//
//   stalled_readers_bench [SESSIONS=1000] [QUESTIONS=500]
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "server/telemetry/metrics.h"
#include "spdlog/spdlog.h"
#include "tests/support/daemon_fixture.h"

namespace goad::server {
namespace {

class Bench final : public DaemonTest {
 public:
  void TestBody() override {}

  void Run(int sessions, int questions) {
    StartDaemon();
    std::printf("epoch.period %s, min_period %s\n", absl::FormatDuration(config_.epoch.period).c_str(),
                absl::FormatDuration(config_.epoch.min_period).c_str());
    Ask("alone", questions);
    std::vector<std::unique_ptr<RawSession>> others;
    for (int k = 0; k < sessions; ++k) {
      grpc::ChannelArguments arguments;
      arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection each
      arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 1024);
      arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
      others.push_back(std::make_unique<RawSession>(grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), arguments)));
      others.back()->Open();
      if (k % 2 == 0) continue;
      for (int frame = 0; frame < 400; ++frame) others.back()->Send(v1::DeviceFrame());  // a ProtocolError each, none of them read
    }
    WaitUntil([&] { return Metric("goad_refused_total") >= sessions / 2 * 400; });
    std::printf("%d sessions beside it: half idle, half not reading; %.0f kB wait for them in goad\n", sessions, Metric("goad_outbox_bytes") / 1e3);
    Ask("beside them", questions);
    std::fflush(stdout);
    _exit(0);  // without waiting for streams that nobody reads
  }

 private:
  void Ask(const char* name, int questions) {
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
    const auto at = [&](double p) { return waits_ms[static_cast<size_t>(p * static_cast<double>(waits_ms.size() - 1))]; };
    std::printf("%-12s %d questions one after the other: decision after ms p50 %.2f p99 %.2f max %.2f\n", name, questions, at(0.5), at(0.99),
                at(1));
  }
};

}  // namespace
}  // namespace goad::server

int main(int argc, char** argv) {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  spdlog::set_level(spdlog::level::warn);
  goad::server::Bench().Run(argc > 1 ? std::atoi(argv[1]) : 1000, argc > 2 ? std::atoi(argv[2]) : 500);
}
