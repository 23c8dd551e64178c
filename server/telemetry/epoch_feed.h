// Hands every decided epoch to whoever subscribed: the decision log, and who watches epochs (server/admin).
#ifndef GOAD_SERVER_TELEMETRY_EPOCH_FEED_H_
#define GOAD_SERVER_TELEMETRY_EPOCH_FEED_H_

#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "server/base/mutex.h"
#include "server/telemetry/epoch_record.h"

namespace goad::server {

// One subscriber's queue. Full: the newest epoch is dropped and counted. Thread-safe.
class EpochSubscription {
 public:
  EpochSubscription(size_t capacity, std::function<void()> on_new) : capacity_(capacity), on_new_(std::move(on_new)) {}

  std::shared_ptr<const EpochRecord> Pop() {
    MutexLock lock(mutex_);
    if (queue_.empty()) return nullptr;
    auto record = std::move(queue_.front());
    queue_.pop_front();
    return record;
  }
  uint64_t dropped() const {
    MutexLock lock(mutex_);
    return dropped_;
  }

 private:
  friend class EpochFeed;
  void Push(const std::shared_ptr<const EpochRecord>& record) {
    {
      MutexLock lock(mutex_);
      if (queue_.size() >= capacity_) {
        ++dropped_;
        return;
      }
      queue_.push_back(record);
    }
    on_new_();
  }

  const size_t capacity_;
  const std::function<void()> on_new_;  // on the engine thread; must not block
  mutable Mutex mutex_;
  std::deque<std::shared_ptr<const EpochRecord>> queue_ GOAD_GUARDED_BY(mutex_);
  uint64_t dropped_ GOAD_GUARDED_BY(mutex_) = 0;
};

// Thread-safe. A subscription ends when its holder lets go of it.
class EpochFeed {
 public:
  std::shared_ptr<EpochSubscription> Subscribe(size_t capacity, std::function<void()> on_new) {
    auto subscription = std::make_shared<EpochSubscription>(capacity, std::move(on_new));
    MutexLock lock(mutex_);
    subscriptions_.push_back(subscription);
    return subscription;
  }
  void Publish(const std::shared_ptr<const EpochRecord>& record) {
    std::vector<std::shared_ptr<EpochSubscription>> live;
    {
      MutexLock lock(mutex_);
      for (size_t k = 0; k < subscriptions_.size();) {
        if (auto subscription = subscriptions_[k].lock()) {
          live.push_back(std::move(subscription));
          ++k;
        } else {
          subscriptions_.erase(subscriptions_.begin() + static_cast<std::ptrdiff_t>(k));
        }
      }
    }
    for (const auto& subscription : live) subscription->Push(record);
  }

 private:
  Mutex mutex_;
  std::vector<std::weak_ptr<EpochSubscription>> subscriptions_ GOAD_GUARDED_BY(mutex_);
};

}  // namespace goad::server

#endif  // GOAD_SERVER_TELEMETRY_EPOCH_FEED_H_
