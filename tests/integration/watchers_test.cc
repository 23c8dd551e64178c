// Admin.WatchEpochs and what else the admin pump answers, with watchers that do not read, come and go, or stay to the
// end.
#include <algorithm>
#include <atomic>
#include <random>
#include <thread>

#include "goad/v1/admin.grpc.pb.h"
#include "tests/support/daemon_fixture.h"

namespace goad::server {
namespace {

class WatchersTest : public DaemonTest {
 protected:
  // What the admin listener allows in a second, and some to spare.
  static constexpr int kConnections = 40, kCallsOfOne = 80;

  std::unique_ptr<v1::Admin::Stub> Admin() {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 1024);
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    return v1::Admin::NewStub(grpc::CreateCustomChannel(absl::StrCat("127.0.0.1:", daemon_->admin_port()),
                                                        grpc::InsecureChannelCredentials(), arguments));
  }
  struct Watcher {
    explicit Watcher(v1::Admin::Stub* stub) : stream(stub->WatchEpochs(&context, {})) {
      stream->WaitForInitialMetadata();
    }
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<v1::EpochSummary>> stream;
  };
  // One after the other: an epoch each.
  void Decide(RawSession* device, int first, int count) {
    for (int k = first; k < first + count; ++k) {
      device->Query(absl::StrCat("q", k), 0.1);
      ASSERT_TRUE(device->Read().has_decision());
    }
  }
};

TEST_F(WatchersTest, OneThatDoesNotReadDelaysNobodyAndIsToldWhatItMissed) {
  config_.epoch.min_period = absl::Milliseconds(1);
  StartDaemon();
  const auto stub = Admin();
  Watcher stalled(stub.get());
  Watcher reading(Admin().get());
  RawSession device(Channel());
  device.Open();
  constexpr int kEpochs = 600;
  std::thread reader([&] {
    v1::EpochSummary epoch;
    for (int k = 0; k < kEpochs; ++k) ASSERT_TRUE(reading.stream->Read(&epoch));
    EXPECT_EQ(epoch.dropped(), 0u);
  });
  Decide(&device, 0, kEpochs);
  reader.join();
  v1::EpochSummary epoch;
  uint64_t received = 0;
  // What it holds and what it missed are all there were; the last summary that was waiting may be older than the last
  // that was dropped, so one more epoch says it.
  Decide(&device, kEpochs, 1);
  while (epoch.epoch() < 1 || received + epoch.dropped() < kEpochs) {
    ASSERT_TRUE(stalled.stream->Read(&epoch));
    ++received;
  }
  EXPECT_GT(epoch.dropped(), 100u);
  EXPECT_LT(received, 500u);
}

TEST_F(WatchersTest, TheyComeAndGoWhileEpochsAreDecided) {
  config_.epoch.min_period = absl::Milliseconds(1);
  StartDaemon();
  std::vector<std::thread> callers;
  for (unsigned seed = 1; seed <= 4; ++seed) {
    callers.emplace_back([&, seed] {
      std::mt19937 random(seed);
      for (int connection = 0; connection < kConnections / 4; ++connection) {
        const auto stub = Admin();
        std::vector<std::unique_ptr<Watcher>> open;
        for (int k = 0; k < kCallsOfOne / 2; ++k) {
          open.push_back(std::make_unique<Watcher>(stub.get()));
          std::swap(open[random() % open.size()], open.back());
          Watcher& any = *open.back();
          v1::EpochSummary epoch;
          if (random() % 2 == 0) {
            EXPECT_TRUE(any.stream->Read(&epoch));
          } else {
            any.context.TryCancel();
            while (any.stream->Read(&epoch)) {
            }
            EXPECT_EQ(any.stream->Finish().error_code(), grpc::CANCELLED);
            open.pop_back();
          }
          grpc::ClientContext context;
          v1::StatusResponse status;
          EXPECT_TRUE(stub->Status(&context, {}, &status).ok());
        }
        for (const auto& watcher : open) watcher->context.TryCancel();
      }
    });
  }
  std::atomic<bool> over{false};
  std::thread epochs([&] {
    RawSession device(Channel());
    device.Open();
    for (int k = 0; !over; ++k) Decide(&device, k, 1);
  });
  for (std::thread& caller : callers) caller.join();
  over = true;
  epochs.join();
}

TEST_F(WatchersTest, StoppingEndsThemAllAndEveryQuestionIsAnswered) {
  StartDaemon();
  std::vector<std::unique_ptr<v1::Admin::Stub>> stubs;
  std::vector<std::unique_ptr<Watcher>> watchers;
  for (int k = 0; k < 40; ++k) {
    if (k % 10 == 0) stubs.push_back(Admin());
    watchers.push_back(std::make_unique<Watcher>(stubs.back().get()));
  }
  RawSession device(Channel());
  device.Open();
  std::vector<std::thread> threads;
  threads.emplace_back([&] {  // epochs to the end
    for (int k = 0;; ++k) {
      device.Query(absl::StrCat("q", k), 0.1);
      if (!device.Read().has_decision()) return;
    }
  });
  for (int k = 0; k < 40; k += 2) {  // every other one reads
    threads.emplace_back([&, k] {
      v1::EpochSummary epoch;
      while (watchers[static_cast<size_t>(k)]->stream->Read(&epoch)) {
      }
    });
  }
  std::vector<std::unique_ptr<v1::Admin::Stub>> asking;
  for (int k = 0; k < kConnections; ++k) asking.push_back(Admin());
  std::atomic<int> answered{0};
  threads.emplace_back([&] {  // answered, or refused because the daemon is gone; never left alone
    for (const auto& stub : asking) {
      for (int call = 0; call < kCallsOfOne; ++call) {
        grpc::ClientContext context;
        context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
        v1::SitesResponse sites;
        const grpc::Status status = stub->Sites(&context, {}, &sites);
        EXPECT_NE(status.error_code(), grpc::DEADLINE_EXCEEDED);
        if (!status.ok()) return;
        ++answered;
      }
    }
  });
  WaitUntil([&] { return answered > 20 && Metric("goad_epoch_duration_seconds_count") > 20; });
  daemon_.reset();
  for (std::thread& thread : threads) thread.join();
  for (const auto& watcher : watchers) {
    v1::EpochSummary epoch;
    while (watcher->stream->Read(&epoch)) {
    }
    EXPECT_FALSE(watcher->stream->Finish().ok());
  }
}

}  // namespace
}  // namespace goad::server
