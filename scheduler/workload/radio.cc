#include "scheduler/workload/radio.h"

#include <algorithm>
#include <cmath>

namespace goad::sched {
namespace {

constexpr double kSquare_m = 500, kCarrier_hz = 3.5e9, kLight_m_s = 299792458.0, kClosest_m = 1;
constexpr double kSiteX[] = {125, 375, 125, 375}, kSiteY[] = {125, 375, 375, 125};

double Uniform(std::mt19937_64& random) { return static_cast<double>(random() >> 11) * 0x1p-53; }

}  // namespace

EmulatedRadio::EmulatedRadio(std::mt19937_64& random, size_t sites) {
  const double x = kSquare_m * Uniform(random), y = kSquare_m * Uniform(random);
  for (size_t j = 0; j < sites; ++j) {
    const double d = std::max(kClosest_m, std::hypot(x - kSiteX[j % 4], y - kSiteY[j % 4]));
    const double amplitude = kLight_m_s / (4 * M_PI * kCarrier_hz * d);
    path_gain_.push_back(amplitude * amplitude);
  }
}

std::vector<double> EmulatedRadio::Fade(std::mt19937_64& random) const {
  std::vector<double> gain;
  for (const double path : path_gain_) gain.push_back(path * -std::log(1 - Uniform(random)));
  return gain;
}

}  // namespace goad::sched
