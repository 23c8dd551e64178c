// A rate with a burst, as a value: no clock of its own.
#ifndef GOAD_SERVER_BASE_TOKEN_BUCKET_H_
#define GOAD_SERVER_BASE_TOKEN_BUCKET_H_

#include <algorithm>

#include "server/base/monotonic_time.h"

namespace goad::server {

// A level that refills at `rate_per_s` up to `most`. An amount above `most` needs a full bucket and is paid for by
// those after it. Thread-compatible.
class TokenBucket {
 public:
  // Zero when it was taken, else the time until there is enough. A first call finds the bucket full.
  absl::Duration Take(double amount, double rate_per_s, double most, MonotonicTime now) {
    level_ = std::min(most, fresh_ ? most : level_ + rate_per_s * SecondsBetween(at_, now));
    fresh_ = false;
    at_ = now;
    const double needed = std::min(amount, most);
    if (level_ < needed) return absl::Seconds((needed - level_) / rate_per_s) + absl::Nanoseconds(1);
    level_ -= amount;
    return absl::ZeroDuration();
  }

 private:
  bool fresh_ = true;
  double level_ = 0;
  MonotonicTime at_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_BASE_TOKEN_BUCKET_H_
