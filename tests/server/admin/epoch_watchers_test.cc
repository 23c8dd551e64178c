#include "server/admin/epoch_watchers.h"

#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"

namespace goad::server {
namespace {

std::shared_ptr<const EpochRecord> Epoch(uint64_t number) {
  auto record = std::make_shared<EpochRecord>();
  record->snapshot.epoch = number;
  return record;
}

// A transport that is told when a write is done, and checks what gRPC demands: one write at a time, one Finish, nothing
// after it.
class FakeWatch final : public EpochWatch {
 public:
  explicit FakeWatch(bool reads_at_once = false) : reads_at_once_(reads_at_once) {}
  void Done(bool ok) {
    writing_ = false;
    WriteDone(ok);
  }
  std::atomic<uint64_t> written{0}, last_epoch{0}, last_dropped{0};
  std::atomic<bool> writing_{false}, finished_{false};

 private:
  void StartWriting(const v1::EpochSummary& summary) override {
    EXPECT_FALSE(finished_);
    EXPECT_FALSE(writing_);
    EXPECT_GT(summary.epoch(), last_epoch);
    last_dropped = summary.dropped();
    last_epoch = summary.epoch();
    ++written;
    writing_ = true;  // last: whoever sees it may end the write, and another begins
    if (reads_at_once_) Done(true);
  }
  void Finish() override {
    EXPECT_FALSE(writing_);
    EXPECT_FALSE(finished_.exchange(true));
  }

  const bool reads_at_once_;
};

class Marker final : public Pumped {
 public:
  void Pump() override { passed_.Notify(); }
  void Wait() { passed_.WaitForNotification(); }

 private:
  absl::Notification passed_;
};

// Returns when the pump is through with what it was doing.
void Settle(PumpThread* pump) {
  auto marker = std::make_shared<Marker>();
  pump->Wake(marker);
  marker->Wait();
}

TEST(EpochWatchersTest, AWatcherThatDoesNotReadHoldsSoManyAndIsToldOfTheRest) {
  EpochFeed feed;
  PumpThread pump("test-pump");
  const auto watchers = EpochWatchers::Make(&feed, &pump);
  const auto stalled = std::make_shared<FakeWatch>(), reader = std::make_shared<FakeWatch>(/*reads_at_once=*/true);
  watchers->Add(stalled);
  watchers->Add(reader);
  constexpr uint64_t kEpochs = 1000, kHeld = EpochWatch::kMostWaiting + 1;
  for (uint64_t k = 1; k <= kEpochs; ++k) {
    feed.Publish(Epoch(k));
    while (reader->last_epoch < k) std::this_thread::yield();
  }
  Settle(&pump);
  EXPECT_EQ(reader->written, kEpochs);
  EXPECT_EQ(reader->last_dropped, 0u);
  EXPECT_EQ(stalled->written, 1u);
  while (stalled->writing_) stalled->Done(true);  // it reads again
  EXPECT_EQ(stalled->written, kHeld);
  EXPECT_EQ(stalled->last_epoch, kHeld);
  EXPECT_EQ(stalled->last_dropped, kEpochs - kHeld);
}

TEST(EpochWatchersTest, WhatIsLostBeforeThePumpIsCountedForEverybody) {
  EpochFeed feed;
  PumpThread pump("test-pump");
  const auto watchers = EpochWatchers::Make(&feed, &pump);
  const auto reader = std::make_shared<FakeWatch>(/*reads_at_once=*/true);
  watchers->Add(reader);
  // The pump is busy with somebody else meanwhile.
  class Busy final : public Pumped {
   public:
    void Pump() override {
      begun.Notify();
      over.WaitForNotification();
    }
    absl::Notification begun, over;
  };
  const auto busy = std::make_shared<Busy>();
  pump.Wake(busy);
  busy->begun.WaitForNotification();
  for (uint64_t k = 1; k <= 1000; ++k) feed.Publish(Epoch(k));
  busy->over.Notify();
  while (reader->written < 256) std::this_thread::yield();
  feed.Publish(Epoch(1001));
  while (reader->last_epoch < 1001) std::this_thread::yield();
  EXPECT_EQ(reader->written, 257u);
  EXPECT_EQ(reader->last_dropped, 1000u - 256u);
}

TEST(EpochWatchersTest, OneThatIsCancelledEndsOnceAfterItsWrite) {
  EpochFeed feed;
  PumpThread pump("test-pump");
  const auto watchers = EpochWatchers::Make(&feed, &pump);
  const auto idle = std::make_shared<FakeWatch>(), writing = std::make_shared<FakeWatch>();
  watchers->Add(idle);
  idle->Cancel();
  EXPECT_TRUE(idle->finished_);
  watchers->Remove(idle.get());
  watchers->Remove(idle.get());
  watchers->Add(writing);
  for (uint64_t k = 1; k <= 3; ++k) feed.Publish(Epoch(k));
  while (!writing->writing_) std::this_thread::yield();
  writing->Cancel();
  EXPECT_FALSE(writing->finished_);
  writing->Done(false);
  EXPECT_TRUE(writing->finished_);
  feed.Publish(Epoch(4));
  Settle(&pump);
  EXPECT_EQ(writing->written, 1u);
}

// What gRPC's threads do at any moment, while epochs go by and the pump goes on.
TEST(EpochWatchersTest, WatchersComeAndGoWhileEpochsArePublished) {
  EpochFeed feed;
  auto pump = std::make_unique<PumpThread>("test-pump");
  auto watchers = EpochWatchers::Make(&feed, pump.get());
  std::atomic<bool> stop{false};
  std::thread engine([&] {
    for (uint64_t k = 1; !stop; ++k) {
      feed.Publish(Epoch(k));
      if (k % 8 == 0) std::this_thread::yield();
    }
  });
  std::vector<std::thread> callers;
  for (unsigned seed = 1; seed <= 3; ++seed) {
    callers.emplace_back([&, seed] {
      std::mt19937 random(seed);
      for (int life = 0; life < 300; ++life) {
        const auto watch = std::make_shared<FakeWatch>();
        watchers->Add(watch);
        std::thread writes([watch] {
          while (!watch->finished_) {
            if (watch->writing_) watch->Done(true);
            std::this_thread::yield();
          }
        });
        for (auto wait = random() % 200; wait > 0; --wait) std::this_thread::yield();
        watch->Cancel();
        writes.join();
        EXPECT_TRUE(watch->finished_);
        watchers->Remove(watch.get());
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  stop = true;
  engine.join();
  pump.reset();
  watchers.reset();
}

}  // namespace
}  // namespace goad::server
