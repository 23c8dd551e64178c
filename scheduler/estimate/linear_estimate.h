// What something costs, learned from what it cost: seconds = the sum of feature x coefficient. Used for the service
// time of a site (1, prompt tokens, output tokens, output tokens x queries) and the upload of a device (1, bits).
#ifndef GOAD_SCHEDULER_ESTIMATE_LINEAR_ESTIMATE_H_
#define GOAD_SCHEDULER_ESTIMATE_LINEAR_ESTIMATE_H_

#include <cstdint>

#include "scheduler/estimate/non_negative.h"

namespace goad::estimate {

// Recursive least squares with these rules; README.md has why.
// - Coefficients are never below 0.
// - A sample weighs by its value: relative errors count, of what is measured and what was predicted in equal parts.
// - A sample counts as at most 3 times what was predicted: a wild one moves little, a doubling passes.
// - Four in a row that took more than twice, or less than half, of what was predicted are no wild samples any more:
//   from the fourth on what was before counts half with each.
// - Older samples fade: a new one leaves `keep` of their weight.
// - What fades is made up by a ridge towards the present coefficients: along what the samples do not tell apart the
//   coefficients stay as they are, at first as the prior has them, while their sum follows.
// - Without samples the coefficients return to the prior, and all is forgotten kReturn_s after the last one.
// Thread-compatible. No allocation; 0.2 to 0.5 us per sample. The prior is handed in, since it may itself be learned.
class LinearEstimate {
 public:
  static constexpr double kReturn_s = 60;

  // keep: above 0, below 1; some 1 / (1 - keep) samples count.
  explicit LinearEstimate(double keep) : keep_(keep) {}

  // `seconds` was measured for `features` at `now_s` (any origin; times do not run backwards). REQUIRES: everything
  // finite and >= 0.
  void Add(const Vector& features, double seconds, const Vector& prior, double now_s);

  // The coefficients now; the prior when there are no samples. Seconds per unit of each feature.
  Vector At(const Vector& prior, double now_s) const;

  // Samples since it last knew nothing; 0 = At gives the prior.
  uint64_t SamplesAt(double now_s) const { return Trust(now_s) > 0 ? samples_ : 0; }

 private:
  double Trust(double now_s) const;  // 1 at a sample, 0 from kReturn_s after it on

  double keep_;
  Matrix a_ = {};             // sum of weighted feature products, and of ridges
  Vector b_ = {};             // and of what they say of the value: the least squares are at a_ x = b_, but for x >= 0
  Vector square_ = {};        // running mean of each feature's weighted square: the scale of its ridge
  Vector coefficients_ = {};  // at the last sample
  double last_s_ = 0;         // when that was
  int streak_ = 0;            // samples in a row above twice the prediction; negative: below half of it
  uint64_t samples_ = 0;
};

}  // namespace goad::estimate

#endif  // GOAD_SCHEDULER_ESTIMATE_LINEAR_ESTIMATE_H_
