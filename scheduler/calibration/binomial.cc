#include "scheduler/calibration/binomial.h"

#include <math.h>  // lgamma_r: std::lgamma writes a global

#include <cmath>

namespace goad::calibration {
namespace {

double LogGamma(double x) {
  int sign = 0;
  return lgamma_r(x, &sign);
}

// The continued fraction of I_x(a, b), by Lentz's method; converges fast where x < (a + 1) / (a + b + 2).
double Fraction(double a, double b, double x) {
  constexpr double kTiny = 1e-300;
  const auto lifted = [](double value) { return std::abs(value) < kTiny ? kTiny : value; };
  double c = 1, d = 1 / lifted(1 - (a + b) * x / (a + 1)), value = d;
  for (int m = 1; m < 100000; ++m) {  // some sqrt(a + b) steps
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / lifted(1 + even * d);
    c = lifted(1 + even / c);
    value *= d * c;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / lifted(1 + odd * d);
    c = lifted(1 + odd / c);
    value *= d * c;
    if (std::abs(d * c - 1) < 1e-15) break;
  }
  return value;
}

// The rate p with P(at least `right` of `trials`) = I_p(right, trials - right + 1), which rises with p, at 1 -
// confidence; between whole numbers, too.
double Bound(double right, double trials, double confidence) {
  if (right <= 0) return 0;
  double low = 0, high = 1;
  while (high - low > 1e-13) {
    const double middle = low + (high - low) / 2;
    (IncompleteBeta(right, trials - right + 1, middle) <= 1 - confidence ? low : high) = middle;
  }
  return low;
}

}  // namespace

double IncompleteBeta(double a, double b, double x) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  const double log_front = LogGamma(a + b) - LogGamma(a) - LogGamma(b) + a * std::log(x) + b * std::log1p(-x);
  if (x < (a + 1) / (a + b + 2)) return std::exp(log_front) * Fraction(a, b, x) / a;
  return 1 - std::exp(log_front) * Fraction(b, a, 1 - x) / b;
}

double LowerBound(size_t right, size_t trials, double confidence) {
  return Bound(static_cast<double>(right), static_cast<double>(trials), confidence);
}

double UpperBound(size_t right, size_t trials, double confidence) {
  return 1 - LowerBound(trials - right, trials, confidence);
}

std::optional<size_t> TrialsFor(double rate, double target, double confidence) {
  constexpr size_t kMost = 100000000;
  const auto enough = [&](size_t trials) {
    return Bound(rate * static_cast<double>(trials), static_cast<double>(trials), confidence) >= target;
  };
  if (rate < target) return std::nullopt;
  size_t high = 1;
  while (!enough(high)) {
    if (high >= kMost) return std::nullopt;
    high *= 2;
  }
  size_t low = high / 2;  // not enough
  while (high - low > 1) {
    const size_t middle = low + (high - low) / 2;
    (enough(middle) ? high : low) = middle;
  }
  return high;
}

}  // namespace goad::calibration
