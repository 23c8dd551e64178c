// What a count of right answers says of the rate behind it: exact one-sided bounds. Pure, any thread.
#ifndef GOAD_SCHEDULER_CALIBRATION_BINOMIAL_H_
#define GOAD_SCHEDULER_CALIBRATION_BINOMIAL_H_

#include <cstddef>
#include <optional>

namespace goad::calibration {

// The regularised incomplete beta function I_x(a, b), to 1e-12. REQUIRES: a > 0, b > 0, x in 0..1.
double IncompleteBeta(double a, double b, double x);

// Clopper and Pearson (Biometrika 26, 1934), one-sided: a rate below LowerBound gives `right` or more of `trials` with
// a probability of at most 1 - confidence; a rate above UpperBound gives `right` or fewer likewise. LowerBound of 0
// right is 0, UpperBound of all right is 1; both rise with `right`. REQUIRES: right <= trials, trials >= 1, confidence
// in (0, 1).
double LowerBound(size_t right, size_t trials, double confidence);
double UpperBound(size_t right, size_t trials, double confidence);

// The least number of trials of which a share of `rate` right, taken as it is between whole numbers, has a LowerBound
// of at least `target`; nothing where 100 million are too few. REQUIRES: rate and target in 0..1, confidence in (0, 1).
std::optional<size_t> TrialsFor(double rate, double target, double confidence);

}  // namespace goad::calibration

#endif  // GOAD_SCHEDULER_CALIBRATION_BINOMIAL_H_
