#include "scheduler/estimate/non_negative.h"

#include <cmath>

namespace goad::estimate {
namespace {

// Solves for the coefficients in `set` (bit k: x[k] is free), the others being 0, by Cholesky's decomposition. False
// when one is below 0.
bool SolveWithin(unsigned set, const Matrix& a, const Vector& b, Vector* x) {
  size_t free[kFeatures], count = 0;
  for (size_t k = 0; k < kFeatures; ++k) {
    if ((set >> k & 1) != 0) free[count++] = k;
  }
  double lower[kFeatures][kFeatures], y[kFeatures];
  for (size_t i = 0; i < count; ++i) {
    double rest = b[free[i]];
    for (size_t j = 0; j < i; ++j) {
      double sum = a[free[i]][free[j]];
      for (size_t k = 0; k < j; ++k) sum -= lower[i][k] * lower[j][k];
      lower[i][j] = sum / lower[j][j];
      rest -= lower[i][j] * y[j];
    }
    double sum = a[free[i]][free[i]];
    for (size_t k = 0; k < i; ++k) sum -= lower[i][k] * lower[i][k];
    if (!(sum > 0)) return false;  // not definite but for the rounding: smaller sets are left
    lower[i][i] = std::sqrt(sum);
    y[i] = rest / lower[i][i];
  }
  *x = {};
  for (size_t i = count; i-- > 0;) {
    double rest = y[i];
    for (size_t k = i + 1; k < count; ++k) rest -= lower[k][i] * (*x)[free[k]];
    (*x)[free[i]] = rest / lower[i][i];
    if (!((*x)[free[i]] >= 0)) return false;
  }
  return true;
}

}  // namespace

Vector SolveNonNegative(const Matrix& a, const Vector& b) {
  constexpr unsigned kAll = (1u << kFeatures) - 1;
  Vector best = {}, x;
  if (SolveWithin(kAll, a, b, &best)) return best;
  best = {};
  double least = 0;  // of x = 0
  for (unsigned set = 1; set < kAll; ++set) {
    if (!SolveWithin(set, a, b, &x)) continue;
    const double value = -Dot(b, x) / 2;  // at a solution x'Ax = b'x
    if (value < least) {
      least = value;
      best = x;
    }
  }
  return best;
}

}  // namespace goad::estimate
