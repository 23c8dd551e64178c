// How often the log may have a line that a peer can cause.
#ifndef GOAD_SERVER_BASE_LINE_LIMIT_H_
#define GOAD_SERVER_BASE_LINE_LIMIT_H_

#include <optional>
#include <utility>

#include "server/base/mutex.h"

namespace goad::server {

// At most kMost lines in kWindow. Thread-safe.
class LineLimit {
 public:
  static constexpr int kMost = 10;
  static constexpr absl::Duration kWindow = absl::Seconds(10);

  // Whether there may be one now, and how many were left out since the last.
  std::optional<int> Allow(MonotonicTime now) {
    MutexLock lock(mutex_);
    if (window_ends_ <= now) {
      window_ends_ = now + kWindow;
      lines_ = 0;
    }
    if (lines_ == kMost) {
      ++left_out_;
      return std::nullopt;
    }
    ++lines_;
    return std::exchange(left_out_, 0);
  }

 private:
  Mutex mutex_;
  MonotonicTime window_ends_ GOAD_GUARDED_BY(mutex_);
  int lines_ GOAD_GUARDED_BY(mutex_) = 0, left_out_ GOAD_GUARDED_BY(mutex_) = 0;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_BASE_LINE_LIMIT_H_
