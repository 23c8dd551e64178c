// The paper's radio as an emulation: users on a square, free-space path gain, Rayleigh fading. Pure; seeded.
#ifndef GOAD_SCHEDULER_WORKLOAD_RADIO_H_
#define GOAD_SCHEDULER_WORKLOAD_RADIO_H_

#include <cstddef>
#include <random>
#include <vector>

namespace goad::sched {

// One user at a fixed random place on a 500 m square; sites at (125|375, 125|375), further ones wherever (j mod 4)
// says. Power gain |h|^2 = (c / (4 pi f d))^2 * E, f = 3.5 GHz, E ~ Exp(1) (a Rayleigh amplitude squared), drawn anew
// by each Fade. Thread-compatible.
class EmulatedRadio {
 public:
  EmulatedRadio(std::mt19937_64& random, size_t sites);
  std::vector<double> Fade(std::mt19937_64& random) const;  // per site, linear

 private:
  std::vector<double> path_gain_;
};

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_WORKLOAD_RADIO_H_
