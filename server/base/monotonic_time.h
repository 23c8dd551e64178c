// Points on the monotonic clock, for every interval in the daemon. Wall time (absl::Time) is for people only.
#ifndef GOAD_SERVER_BASE_MONOTONIC_TIME_H_
#define GOAD_SERVER_BASE_MONOTONIC_TIME_H_

#include <chrono>

#include "absl/time/time.h"

namespace goad::server {

// Immutable value. Arithmetic saturates at Infinite(), which means "never".
class MonotonicTime {
 public:
  constexpr MonotonicTime() = default;
  static MonotonicTime Now() {
    return MonotonicTime(absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch()));
  }
  static MonotonicTime Infinite() { return MonotonicTime(absl::InfiniteDuration()); }
  // For tests and the simulator: a point `since` after an arbitrary origin.
  static MonotonicTime FromOrigin(absl::Duration since) { return MonotonicTime(since); }

  friend MonotonicTime operator+(MonotonicTime t, absl::Duration d) { return MonotonicTime(t.since_ + d); }
  friend MonotonicTime operator-(MonotonicTime t, absl::Duration d) { return MonotonicTime(t.since_ - d); }
  friend absl::Duration operator-(MonotonicTime a, MonotonicTime b) { return a.since_ - b.since_; }
  friend bool operator<(MonotonicTime a, MonotonicTime b) { return a.since_ < b.since_; }
  friend bool operator<=(MonotonicTime a, MonotonicTime b) { return a.since_ <= b.since_; }
  friend bool operator>(MonotonicTime a, MonotonicTime b) { return b < a; }
  friend bool operator>=(MonotonicTime a, MonotonicTime b) { return b <= a; }
  friend bool operator==(MonotonicTime a, MonotonicTime b) { return a.since_ == b.since_; }
  friend bool operator!=(MonotonicTime a, MonotonicTime b) { return !(a == b); }

 private:
  constexpr explicit MonotonicTime(absl::Duration since) : since_(since) {}
  absl::Duration since_;
};

inline double SecondsBetween(MonotonicTime from, MonotonicTime to) { return absl::ToDoubleSeconds(to - from); }

}  // namespace goad::server

#endif  // GOAD_SERVER_BASE_MONOTONIC_TIME_H_
