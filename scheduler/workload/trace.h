// Recorded traces: when questions came and how long they were, and how fast an uplink was. Comma-separated values with
// a header; columns are found by name, in any order, others are passed over. Pure.
#ifndef GOAD_SCHEDULER_WORKLOAD_TRACE_H_
#define GOAD_SCHEDULER_WORKLOAD_TRACE_H_

#include <cstddef>
#include <istream>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace goad::sched {

// More of any is refused.
inline constexpr size_t kMostTraceRows = 5'000'000;
inline constexpr size_t kMostTraceLine = 4096;  // bytes
inline constexpr size_t kMostTraceBytes = size_t{256} << 20;

struct Arrival {
  double time_s = 0;                         // since the first one; never less than the one before
  int prompt_tokens = 0, output_tokens = 0;  // 0..1e6
};

// Columns time_s, prompt_tokens, output_tokens. INVALID_ARGUMENT names file, line and column: what is missing, no
// number, out of range or running backwards, or that there is no row.
absl::StatusOr<std::vector<Arrival>> ReadArrivals(std::istream& in, const std::string& source);

// A rate over time: a row's holds until the next one's time, the last one's as long as that before it (1 s where there
// is but one); then it begins again. Immutable, thread-safe.
class UplinkTrace {
 public:
  // Columns time_s (rising), uplink_bps (0..1e12, not all of them 0). INVALID_ARGUMENT as above.
  static absl::StatusOr<UplinkTrace> Read(std::istream& in, const std::string& source);

  double period_s() const { return start_s_.back(); }
  double mean_bps() const { return bits_.back() / period_s(); }
  // What could have been sent from 0 until `time_s` >= 0; and the earliest time by which so much could.
  double BitsUntil(double time_s) const;
  double TimeOf(double bits) const;

 private:
  std::vector<double> start_s_;  // of each step, the first at 0; and the end of the last
  std::vector<double> bits_;     // sent until then
};

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_WORKLOAD_TRACE_H_
