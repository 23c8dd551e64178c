// Whether a promised accuracy is kept, told from outcomes one by one: a test that stays valid however often one looks.
// Thread-compatible, pure.
#ifndef GOAD_SCHEDULER_CALIBRATION_ERROR_WATCH_H_
#define GOAD_SCHEDULER_CALIBRATION_ERROR_WATCH_H_

#include <cstddef>

namespace goad::calibration {

// E = prod(1 + l_t (X_t - m)): X_t the error of the t-th outcome, m the error that is allowed, l_t a bet made before
// X_t is seen. While the mean error, given what came before, is at most m, E is a nonnegative supermartingale, and
// reaches 1/(1 - confidence) ever with a probability of at most 1 - confidence (Ville; Ramdas et al., Statistical
// Science 38, 2023). What has been reached stays reached.
class ErrorWatch {
 public:
  // REQUIRES: both in (0, 1).
  ErrorWatch(double allowed_error, double confidence) : allowed_(allowed_error), confidence_(confidence) {}

  void Add(double error);  // 0..1

  size_t outcomes() const { return outcomes_; }
  double Evidence() const;  // E, at most 1e300
  double AlarmAt() const { return 1 / (1 - confidence_); }
  bool broken() const { return broken_; }

 private:
  double Bet() const;

  double allowed_, confidence_;
  size_t outcomes_ = 0;
  double mean_ = allowed_, variance_ = allowed_ * (1 - allowed_);  // of the errors lately
  double log_evidence_ = 0;
  bool broken_ = false;
};

}  // namespace goad::calibration

#endif  // GOAD_SCHEDULER_CALIBRATION_ERROR_WATCH_H_
