// Random epochs of the paper's experiment (arXiv 2602.07958, section on simulation settings; DESIGN section 7).
#ifndef GOAD_SCHEDULER_SIM_SCENARIO_H_
#define GOAD_SCHEDULER_SIM_SCENARIO_H_

#include <random>

#include "scheduler/types.h"

namespace goad::sched {

enum class Scaling {
  kPaper,      // capacities and bandwidth as in the paper, whatever the number of users
  kWithUsers,  // C_j grows as N/M and B_j as N^2/M from the paper's values at N = 100, M = 4 (for benches)
};

// One draw: users uniform on a 500 m square, free-space path gain at 3.5 GHz times Rayleigh, B = 100 MHz, P = 0.2 W, noise
// 4e-21 W/Hz, C_i = 91.06e12 U(0.5, 1.5), C_j = 10 * 1513e12 U(0.6, 1.4), Cmax = 1513e12, prompt bytes lognormal (median
// 420, sigma 0.45, clipped to 200..1200, divided by a bit rate as the published code does), local time lognormal (sigma 0.2)
// with mean 35.9 ms at the reference speed, alpha ~ Beta(1.4, 0.82), edge work 8 t_i C_i.
EpochSnapshot DrawEpoch(std::mt19937_64& random, size_t users, size_t sites, double tau, Scaling scaling);

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_SIM_SCENARIO_H_
