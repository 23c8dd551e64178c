// Random valid snapshots that exercise every production addition, and ties. The seed is printed by the caller.
#ifndef GOAD_TESTS_SUPPORT_RANDOM_SNAPSHOTS_H_
#define GOAD_TESTS_SUPPORT_RANDOM_SNAPSHOTS_H_

#include <cmath>
#include <random>

#include "scheduler/types.h"

namespace goad::sched {

class SnapshotMaker {
 public:
  explicit SnapshotMaker(uint64_t seed) : random_(seed) {}

  EpochSnapshot Make(size_t max_candidates, size_t max_sites) {
    EpochSnapshot snapshot;
    snapshot.seed = random_();
    const size_t n = Below(max_candidates + 1), m = 1 + Below(max_sites);
    snapshot.tau = Chance(0.2) ? Below(2) : std::floor(Uniform(0, 1) * 10) / 10;
    const bool coarse = Chance(0.3);  // few distinct values: many exact ties
    for (size_t j = 0; j < m; ++j) snapshot.sites.push_back(Site(coarse));
    if (Chance(0.3)) {
      for (size_t t = 0; t < 3; ++t)
        snapshot.tenant_caps.push_back(Chance(0.5) ? kUnlimited : static_cast<int>(Below(6)));
    }
    for (size_t i = 0; i < n; ++i) {
      snapshot.candidates.push_back(User(i, coarse));
      for (size_t j = 0; j < m; ++j) {
        const double gain = coarse         ? 1e-9 * (1 + Below(2))
                            : Chance(0.03) ? std::pow(10, Uniform(-29, -20))  // lost in the rounding of 1 + SINR
                                           : std::pow(10, Uniform(-12, -7));
        snapshot.gain.push_back(Chance(0.1) ? kUnknown : Chance(0.05) ? 0 : gain);
        snapshot.uplink_bps.push_back(Chance(0.1) ? kUnknown : coarse ? 1e6 : std::pow(10, Uniform(4, 8)));
      }
    }
    for (size_t k = Chance(0.3) ? Below(6) : 0; k > 0; --k) snapshot.residents.push_back(Carried(m, coarse));
    return snapshot;
  }

  bool Chance(double p) { return Uniform(0, 1) < p; }
  size_t Below(size_t n) { return static_cast<size_t>(random_() % n); }
  double Uniform(double low, double high) { return low + (high - low) * (random_() >> 11) * 0x1p-53; }

 private:
  SiteState Site(bool coarse) {
    SiteState site;
    site.bandwidth_hz = coarse ? 1e8 : Uniform(1e6, 2e8);
    site.noise_w = 4e-13;
    site.compute_flops = 1.513e16 * (coarse ? 1 : Uniform(0.1, 1.4));
    if (Chance(0.8)) site.max_share_flops = 1.513e15;
    if (Chance(0.3)) site.uplink = UplinkModel::kMeasured;
    site.uplink_shared = Chance(0.5);
    if (Chance(0.3)) {
      site.compute = ComputeModel::kBatching;
      if (Chance(0.5)) site.overhead_s = coarse ? 0.002 : Uniform(0, 0.01);
      site.prefill_tokens_per_s = Uniform(1000, 20000);
      site.token_time_s = coarse ? 0.001 : Uniform(0, 0.003);
      site.token_time_per_query_s = coarse ? 0.0001 : Uniform(0, 0.0004);
      site.backends = 1 + static_cast<int>(Below(3));
    }
    if (Chance(0.2)) site.work_flop_per_token = 1.6e10;
    if (Chance(0.3)) {
      site.active_uplinks = static_cast<int>(Below(4));
      site.active_queries = site.active_uplinks + static_cast<int>(Below(4));
      site.resident_interference_w = Chance(0.5) ? 0 : Uniform(0, 1e-9);
    }
    if (Chance(0.4)) site.max_queries = static_cast<int>(Below(12));
    site.accepting = !Chance(0.1);
    site.chat = !Chance(0.1);
    if (Chance(0.3)) {
      for (int& context : site.contexts) context = Chance(0.2) ? kCannot : Chance(0.5) ? 4096 : kUnlimited;
    }
    return site;
  }

  Resident Carried(size_t sites, bool coarse) {
    Resident resident{ToSite(Below(sites)), User(0, coarse)};
    if (Chance(0.5)) resident.query.prompt_bits = 0;
    resident.gain = std::pow(10, Uniform(-12, -7));
    resident.uplink_bps = std::pow(10, Uniform(4, 8));
    return resident;
  }

  Candidate User(size_t i, bool coarse) {
    Candidate user;
    user.id = QueryId{i};
    user.uncertainty = Chance(0.1) ? Below(2) : coarse ? 0.25 * (1 + Below(3)) : Uniform(0, 1);
    user.prompt_bits = Chance(0.1) ? 0 : coarse ? 400 : Uniform(200, 1200);
    if (Chance(0.3)) user.round_trip_s = coarse ? 0.004 : std::pow(10, Uniform(-9, -1));
    user.tx_power_w = coarse ? 0.25 : Uniform(0.05, 0.3);
    user.local_delay_s = Chance(0.05) ? 0 : coarse ? 0.03125 : Uniform(0.01, 0.08);
    user.edge_work_flop = 8 * user.local_delay_s * (coarse ? 9e13 : Uniform(4e13, 1.4e14));
    if (Chance(0.15)) user.deadline_s = Uniform(0.001, 0.05);
    user.prompt_tokens = 20 + static_cast<double>(Below(100));
    user.expected_output_tokens = static_cast<double>(Below(20));
    user.tenant = static_cast<int>(Below(3));
    user.must_offload = Chance(0.03);
    user.needs.chat = Chance(0.1);
    user.needs.tools = Chance(0.1);
    user.needs.images = Chance(0.05);
    user.needs.context_tokens = Chance(0.5) ? 0 : 4000 + static_cast<int>(Below(200));
    user.link_stale = Chance(0.1);
    if (Chance(0.05)) user.tau = Uniform(0, 1);
    return user;
  }

  std::mt19937_64 random_;
};

}  // namespace goad::sched

#endif  // GOAD_TESTS_SUPPORT_RANDOM_SNAPSHOTS_H_
