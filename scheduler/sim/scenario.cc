#include "scheduler/sim/scenario.h"

#include <algorithm>
#include <cmath>

#include "scheduler/workload/radio.h"

namespace goad::sched {
namespace {

constexpr double kReferenceFlops = 91.06e12;  // a device of speed 1
constexpr double kServerFlops = 1513e12;

double Beta(std::mt19937_64& random, double a, double b) {
  const double x = std::gamma_distribution<double>(a)(random), y = std::gamma_distribution<double>(b)(random);
  return x / (x + y);
}

}  // namespace

EpochSnapshot DrawEpoch(std::mt19937_64& random, size_t users, size_t sites, double tau, Scaling scaling) {
  const double n = static_cast<double>(users), m = static_cast<double>(sites);
  const double compute_scale = scaling == Scaling::kPaper ? 1 : (n / 100) * (4 / m);
  const double band_scale = scaling == Scaling::kPaper ? 1 : (n / 100) * (n / 100) * (4 / m);
  std::uniform_real_distribution<double> uniform(0, 1);
  EpochSnapshot snapshot;
  snapshot.tau = tau;
  snapshot.seed = random();
  for (size_t j = 0; j < sites; ++j) {
    SiteState site;
    site.bandwidth_hz = 100e6 * band_scale;
    site.noise_w = 4e-21 * 100e6;
    site.compute_flops = 10 * kServerFlops * (0.6 + 0.8 * uniform(random)) * compute_scale;
    site.max_share_flops = kServerFlops;
    snapshot.sites.push_back(site);
  }
  std::lognormal_distribution<double> bytes(std::log(420.0), 0.45), local(-0.5 * 0.2 * 0.2, 0.2);
  snapshot.candidates.reserve(users);
  snapshot.gain.reserve(users * sites);
  for (size_t i = 0; i < users; ++i) {
    const double flops = kReferenceFlops * (0.5 + uniform(random));
    Candidate candidate;
    candidate.id = QueryId{i};
    candidate.uncertainty = Beta(random, 1.4, 0.82);
    candidate.prompt_bits = std::clamp(bytes(random), 200.0, 1200.0);
    candidate.tx_power_w = 0.2;
    candidate.local_delay_s = 0.0359 * local(random) / (flops / kReferenceFlops);
    candidate.edge_work_flop = 8 * candidate.local_delay_s * flops;
    snapshot.candidates.push_back(candidate);
    const std::vector<double> gain = EmulatedRadio(random, sites).Fade(random);
    snapshot.gain.insert(snapshot.gain.end(), gain.begin(), gain.end());
  }
  return snapshot;
}

}  // namespace goad::sched
