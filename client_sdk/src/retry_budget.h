// How many questions of one client may be asked again, as gRPC's retry throttling has it (gRFC A6): each takes a retry,
// each edge answer gives a tenth of one back, so that a goad which keeps breaking off is not asked everything again and
// again. Pure.
#ifndef GOAD_CLIENT_SDK_SRC_RETRY_BUDGET_H_
#define GOAD_CLIENT_SDK_SRC_RETRY_BUDGET_H_

#include <algorithm>

namespace goad::internal {

// Thread-compatible. Ten retries to begin with and at most.
class RetryBudget {
 public:
  bool Take() {  // false: nothing is left
    if (tenths_ < kRetry) return false;
    tenths_ -= kRetry;
    return true;
  }
  void Earn() { tenths_ = std::min(tenths_ + kPerAnswer, kMost); }

 private:
  static constexpr int kRetry = 10, kPerAnswer = 1, kMost = 100;
  int tenths_ = kMost;
};

}  // namespace goad::internal

#endif  // GOAD_CLIENT_SDK_SRC_RETRY_BUDGET_H_
