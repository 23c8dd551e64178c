// The epochs decided last, for Admin.Epochs and Admin.Explain.
#ifndef GOAD_SERVER_TELEMETRY_RECENT_EPOCHS_H_
#define GOAD_SERVER_TELEMETRY_RECENT_EPOCHS_H_

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/base/mutex.h"
#include "server/telemetry/epoch_record.h"

namespace goad::server {

// Bounded by decisions (and by epochs, where those have few): the oldest epochs go first. Thread-safe.
class RecentEpochs {
 public:
  static constexpr size_t kMostDecisions = 20000, kMostEpochs = 4096;

  void Add(std::shared_ptr<const EpochRecord> record) {
    MutexLock lock(mutex_);
    decisions_ += Decisions(*record);
    epochs_.push_back(std::move(record));
    while (epochs_.size() > 1 && (epochs_.size() > kMostEpochs || decisions_ > kMostDecisions)) {
      decisions_ -= Decisions(*epochs_.front());
      epochs_.pop_front();
    }
  }

  // The newest `count`, oldest first.
  std::vector<std::shared_ptr<const EpochRecord>> Last(size_t count) const {
    MutexLock lock(mutex_);
    return {epochs_.end() - static_cast<std::ptrdiff_t>(std::min(count, epochs_.size())), epochs_.end()};
  }

  // The newest epoch that decided a query of this name (or held it, when none has decided it). `candidate` is its place
  // in the snapshot; nullopt = it was declined without asking the policy (EpochRecord::early). Null when it is not
  // remembered.
  struct Found {
    std::shared_ptr<const EpochRecord> record;
    std::optional<size_t> candidate;
  };
  Found Find(const std::string& query_id) const {
    const auto all = Last(kMostEpochs);
    Found held;
    for (auto record = all.rbegin(); record != all.rend(); ++record) {
      for (const EarlyDecline& early : (*record)->early) {
        if (early.query_id == query_id) return {*record, std::nullopt};
      }
      for (size_t i = 0; i < (*record)->query_ids.size(); ++i) {
        if ((*record)->query_ids[i] != query_id) continue;
        if (!(*record)->held[i]) return {*record, i};
        if (held.record == nullptr) held = {*record, i};
      }
    }
    return held;
  }

 private:
  static size_t Decisions(const EpochRecord& record) { return record.query_ids.size() + record.early.size(); }

  mutable Mutex mutex_;
  std::deque<std::shared_ptr<const EpochRecord>> epochs_ GOAD_GUARDED_BY(mutex_);
  size_t decisions_ GOAD_GUARDED_BY(mutex_) = 0;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_TELEMETRY_RECENT_EPOCHS_H_
