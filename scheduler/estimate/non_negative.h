// Least squares with non-negative coefficients, in the four dimensions that goad's estimates have.
#ifndef GOAD_SCHEDULER_ESTIMATE_NON_NEGATIVE_H_
#define GOAD_SCHEDULER_ESTIMATE_NON_NEGATIVE_H_

#include <array>
#include <cstddef>

namespace goad::estimate {

inline constexpr size_t kFeatures = 4;
using Vector = std::array<double, kFeatures>;
using Matrix = std::array<Vector, kFeatures>;

inline double Dot(const Vector& a, const Vector& b) {
  double sum = 0;
  for (size_t k = 0; k < kFeatures; ++k) sum += a[k] * b[k];
  return sum;
}

// The x >= 0 that makes x'Ax / 2 - b'x least. Exact: of the 16 sets of coefficients that may be above 0 one is the
// right one (Lawson and Hanson, Solving Least Squares Problems, 1974, chapter 23, find it by search; with four it is
// found by looking at all), and mostly it is the first one tried. Pure. REQUIRES: `a` symmetric and positive definite,
// all finite.
Vector SolveNonNegative(const Matrix& a, const Vector& b);

}  // namespace goad::estimate

#endif  // GOAD_SCHEDULER_ESTIMATE_NON_NEGATIVE_H_
