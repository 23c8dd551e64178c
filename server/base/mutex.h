// std::mutex with clang's thread-safety annotations (checked by `tests/check.sh tidy`; gcc ignores them).
// Not absl::Mutex: Debian's is invisible to ThreadSanitizer. Locks are leaf-level: no callback, gRPC call, log line or
// second lock while one is held.
#ifndef GOAD_SERVER_BASE_MUTEX_H_
#define GOAD_SERVER_BASE_MUTEX_H_

#include <condition_variable>
#include <mutex>

#include "server/base/monotonic_time.h"

#if defined(__clang__)
#define GOAD_ATTRIBUTE(x) __attribute__((x))
#else
#define GOAD_ATTRIBUTE(x)
#endif
#define GOAD_GUARDED_BY(x) GOAD_ATTRIBUTE(guarded_by(x))
#define GOAD_REQUIRES(x) GOAD_ATTRIBUTE(requires_capability(x))

namespace goad::server {

class GOAD_ATTRIBUTE(capability("mutex")) Mutex {
 public:
  void Lock() GOAD_ATTRIBUTE(acquire_capability()) { mutex_.lock(); }
  void Unlock() GOAD_ATTRIBUTE(release_capability()) { mutex_.unlock(); }

  // REQUIRES: this is held. May wake early; callers loop.
  void WaitUntil(std::condition_variable& condition, MonotonicTime until) GOAD_REQUIRES(this) {
    std::unique_lock<std::mutex> lock(mutex_, std::adopt_lock);
    if (until == MonotonicTime::Infinite()) {
      condition.wait(lock);
    } else {
      condition.wait_for(lock, absl::ToChronoNanoseconds(until - MonotonicTime::Now()));
    }
    lock.release();
  }

 private:
  std::mutex mutex_;
};

class GOAD_ATTRIBUTE(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) GOAD_ATTRIBUTE(acquire_capability(mutex)) : mutex_(mutex) { mutex_.Lock(); }
  ~MutexLock() GOAD_ATTRIBUTE(release_capability()) { mutex_.Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_BASE_MUTEX_H_
