// Who watches epochs (Admin.WatchEpochs), apart from gRPC. The engine thread only queues a record and wakes the pump;
// the pump makes one summary of it for everybody and starts the writes; what follows a write goes on from its end.
#ifndef GOAD_SERVER_ADMIN_EPOCH_WATCHERS_H_
#define GOAD_SERVER_ADMIN_EPOCH_WATCHERS_H_

#include <deque>
#include <memory>
#include <unordered_map>

#include "goad/v1/admin.pb.h"
#include "server/base/mutex.h"
#include "server/base/pump.h"
#include "server/telemetry/epoch_feed.h"

namespace goad::server {

v1::EpochSummary Summarise(const EpochRecord& record);

// One watcher: a bounded queue of summaries, which all watchers share, at most one write in flight, and one end. A
// watcher that does not read holds kMostWaiting summaries and a write; what comes then is dropped and counted.
// Thread-safe; the transport's two functions are called by one thread at a time and without a lock.
class EpochWatch {
 public:
  static constexpr size_t kMostWaiting = 256;

  virtual ~EpochWatch() = default;
  // `missed`: epochs before this one that came to nobody. True when a write was started.
  bool Offer(std::shared_ptr<const v1::EpochSummary> summary, uint64_t missed);
  void WriteDone(bool ok);
  void Cancel();

 private:
  virtual void StartWriting(const v1::EpochSummary& summary) = 0;  // which stays as it is until WriteDone
  virtual void Finish() = 0;                                       // once, and nothing is started after it
  bool GoOn();                                                     // true when a write was started

  Mutex mutex_;
  std::deque<std::shared_ptr<const v1::EpochSummary>> waiting_ GOAD_GUARDED_BY(mutex_);
  uint64_t dropped_ GOAD_GUARDED_BY(mutex_) = 0;
  bool writing_ GOAD_GUARDED_BY(mutex_) = false;
  bool cancelled_ GOAD_GUARDED_BY(mutex_) = false;
  bool finished_ GOAD_GUARDED_BY(mutex_) = false;
  v1::EpochSummary out_;  // of the write in flight: belongs to whoever set writing_
};

// Thread-safe. Holds each watcher from Add to Remove. Writes are started in groups with pauses between them: gRPC's few
// threads serve devices, too, and a device's frame would wait behind the ends of as many writes as there are watchers.
// When watchers are too many for the epochs that come, whole epochs are dropped, and counted for each.
class EpochWatchers final : public Pumped {
 public:
  // `feed` and `pump` are not owned. No record may be published once `pump` is gone.
  static std::shared_ptr<EpochWatchers> Make(EpochFeed* feed, PumpThread* pump);

  ~EpochWatchers() override;

  void Add(std::shared_ptr<EpochWatch> watch);
  void Remove(const EpochWatch* watch);  // may free it
  void Pump() override;                  // on the pump thread only: one epoch, so that other work comes between two

 private:
  explicit EpochWatchers(PumpThread* pump) : pump_(pump) {}

  PumpThread* const pump_;
  std::weak_ptr<EpochWatchers> self_;  // constant after Make, as the next
  std::shared_ptr<EpochSubscription> subscription_;
  uint64_t missed_ = 0;  // of the subscription, as told; the pump thread's own

  Mutex mutex_;
  std::unordered_map<const EpochWatch*, std::shared_ptr<EpochWatch>> watches_ GOAD_GUARDED_BY(mutex_);
};

}  // namespace goad::server

#endif  // GOAD_SERVER_ADMIN_EPOCH_WATCHERS_H_
