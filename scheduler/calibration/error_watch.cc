#include "scheduler/calibration/error_watch.h"

#include <algorithm>
#include <cmath>

namespace goad::calibration {
namespace {

constexpr double kPrior = 10;     // outcomes that the start counts as
constexpr double kMemory = 200;   // outcomes that the mean and variance are of, about
constexpr double kMostBet = 0.5;  // of 1/m: no outcome takes more than half of E

}  // namespace

// aGRAPA (Waudby-Smith and Ramdas, JRSS B 86, 2024): about what makes log E grow fastest were the errors to go on as
// lately. 0 while they are no more than allowed.
double ErrorWatch::Bet() const {
  const double excess = mean_ - allowed_;
  return std::clamp(excess / (variance_ + excess * excess), 0.0, kMostBet / allowed_);
}

void ErrorWatch::Add(double error) {
  log_evidence_ += std::log1p(Bet() * (error - allowed_));
  broken_ |= log_evidence_ >= std::log(AlarmAt());
  ++outcomes_;
  const double weight = 1 / std::min(static_cast<double>(outcomes_) + kPrior, kMemory);
  const double off = error - mean_;
  mean_ += weight * off;
  variance_ += weight * (off * off - variance_);
}

double ErrorWatch::Evidence() const { return std::exp(std::min(log_evidence_, std::log(1e300))); }

}  // namespace goad::calibration
