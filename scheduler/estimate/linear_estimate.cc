#include "scheduler/estimate/linear_estimate.h"

#include <algorithm>
#include <cstdlib>

namespace goad::estimate {
namespace {

constexpr double kRidge = 0.3;          // samples that the coefficients' being as they are is worth
constexpr double kMostRise = 3;         // a sample counts as at most so many times what was predicted
constexpr double kMostFall = 3;         // and weighs as if it were at least the prediction divided by this
constexpr double kFarOff = 2;           // a sample above so many times what was predicted, or below its inverse,
constexpr int kChanged = 4;             // so many times in a row
constexpr double kOutdated = 0.5;       // makes what was before count so much less with each
constexpr double kLeastSeconds = 1e-6;  // predictions below count as this: from 0 there is no way up
constexpr double kLeastSquare = 1e-12;  // of a feature that was always 0: any ridge above 0 keeps its prior

}  // namespace

double LinearEstimate::Trust(double now_s) const {
  if (samples_ == 0) return 0;
  const double idle = std::max(0.0, now_s - last_s_) / kReturn_s;
  return std::max(0.0, 1 - idle * idle);
}

Vector LinearEstimate::At(const Vector& prior, double now_s) const {
  const double trust = Trust(now_s);
  Vector now;
  for (size_t k = 0; k < kFeatures; ++k) now[k] = trust * coefficients_[k] + (1 - trust) * prior[k];
  return now;
}

void LinearEstimate::Add(const Vector& features, double seconds, const Vector& prior, double now_s) {
  const double trust = Trust(now_s);
  const Vector before = At(prior, now_s);
  const double predicted_s = std::max(Dot(before, features), kLeastSeconds);
  const double value_s = std::min(seconds, kMostRise * predicted_s);
  const double weight = 1 / (predicted_s * std::max(value_s, predicted_s / kMostFall));
  samples_ = trust > 0 ? samples_ + 1 : 1;
  last_s_ = now_s;
  const bool above = seconds > kFarOff * predicted_s, below = kFarOff * seconds < predicted_s;
  streak_ = above ? std::max(streak_, 0) + 1 : below ? std::min(streak_, 0) - 1 : 0;
  const double kept = keep_ * trust * (std::abs(streak_) >= kChanged ? kOutdated : 1);
  const double newest = std::max(1 / static_cast<double>(samples_), 1 - keep_);
  for (size_t k = 0; k < kFeatures; ++k) {
    square_[k] += newest * (weight * features[k] * features[k] - square_[k]);
    const double ridge = (1 - kept) * kRidge * std::max(square_[k], kLeastSquare);
    const double aged = trust * b_[k] + (1 - trust) * Dot(a_[k], prior);  // moved towards the prior, as At does
    b_[k] = kept * aged + weight * features[k] * value_s + ridge * before[k];
    for (size_t l = 0; l < kFeatures; ++l) a_[k][l] = kept * a_[k][l] + weight * features[k] * features[l];
    a_[k][k] += ridge;
  }
  coefficients_ = SolveNonNegative(a_, b_);
}

}  // namespace goad::estimate
