// Monotone regression: pool adjacent violators, and the curve through what it finds. Pure, any thread.
#ifndef GOAD_SCHEDULER_CALIBRATION_MONOTONE_H_
#define GOAD_SCHEDULER_CALIBRATION_MONOTONE_H_

#include <vector>

namespace goad::calibration {

struct Sample {
  double x = 0, y = 0, weight = 1;  // weight above 0
};

struct Point {
  double x = 0, y = 0;
};

// The least squares with y not falling in x (Ayer et al., Annals of Mathematical Statistics 26, 1955): one point per
// level, at the weighted mean of the x and y in it. Samples of equal x are one. Levels that weigh less than
// `least_weight` are joined to the level above, the last one to that below. x strictly rising, y not falling; the
// order of `samples` does not matter but for rounding. REQUIRES: at least one sample, all finite.
std::vector<Point> FitMonotone(std::vector<Sample> samples, double least_weight);

// The curve through `points` at x: linear between them, level before the first and behind the last. Never falls in x,
// rounding included. REQUIRES: at least one point, x strictly rising, y not falling.
double ValueAt(const std::vector<Point>& points, double x);

}  // namespace goad::calibration

#endif  // GOAD_SCHEDULER_CALIBRATION_MONOTONE_H_
