// The paper's delay model with its production variants: upload over a shared uplink, compute on a shared site.
//
// The one scalar path: each formula stands here and nowhere else, so that whoever computes a delay (every policy, the
// reference included) gets equal bits from equal arguments. The parts have names because passes and searches hoist
// them. What greedy_bounds and relocation_tables make four at a time is near enough for a bound; nobody is told such a
// number. Pure functions of their arguments. REQUIRES: who includes this is compiled with -ffp-contract=off.
#ifndef GOAD_SCHEDULER_DELAY_MODEL_H_
#define GOAD_SCHEDULER_DELAY_MODEL_H_

#include <algorithm>
#include <cmath>

#include "scheduler/types.h"

namespace goad::sched {

// --- kShannon ------------------------------------------------------------------------------------------------------

// What each of `uplinks` (>= 1) who share the uplink gets: B/n, Hz.
inline double BandShareHz(const SiteState& site, int uplinks) { return site.bandwidth_hz / uplinks; }

// What a signal has to stand out from; `interference_w` is received from those who transmit to other sites.
inline double DisturbanceW(const SiteState& site, double interference_w) { return interference_w + site.noise_w; }

// log2(1 + SINR), bit/s/Hz. Literal: a SINR below 1.1e-16 gives 0.
inline double SpectralEfficiency(double signal_w, double disturbance_w) {
  return std::log2(1.0 + signal_w / disturbance_w);
}

// Paper, eq. for d^comm: seconds to send `bits` received with `signal_w` = p |h|^2; +infinity when the rate is 0.
inline double ShannonSeconds(double bits, double band_share_hz, double signal_w, double disturbance_w) {
  return bits / (band_share_hz * SpectralEfficiency(signal_w, disturbance_w));
}

// --- kMeasured -----------------------------------------------------------------------------------------------------

// Seconds to send `bits` when the device alone gets uplink_bps and `uplinks` (>= 1, this one included) transmit.
inline double MeasuredSeconds(const SiteState& site, double bits, double uplink_bps, int uplinks) {
  return bits / (site.uplink_shared ? uplink_bps / uplinks : uplink_bps);
}

// --- kEqualShare ---------------------------------------------------------------------------------------------------

// All that the site has to do for the candidate, FLOP.
inline double WorkFlop(const SiteState& site, const Candidate& candidate) {
  return candidate.edge_work_flop +
         site.work_flop_per_token * (candidate.prompt_tokens + candidate.expected_output_tokens);
}

// What each of `queries` (>= 1) running on the site gets: min(Cmax, C/n), FLOP/s.
inline double ShareFlops(const SiteState& site, int queries) {
  return std::min(site.max_share_flops, site.compute_flops / queries);
}

// Paper, eq. for d^comp.
inline double WorkSeconds(double work_flop, double share_flops) { return work_flop / share_flops; }

// --- kBatching -----------------------------------------------------------------------------------------------------

// What every query costs, prefill, then each output token in turn, dearer with every query on the same backend;
// `queries` >= 0.
inline double BatchingSeconds(const SiteState& site, const Candidate& candidate, int queries) {
  const double per_backend = static_cast<double>(queries) / site.backends;
  return site.overhead_s + candidate.prompt_tokens / site.prefill_tokens_per_s +
         candidate.expected_output_tokens * (site.token_time_s + site.token_time_per_query_s * per_backend);
}

// --- a candidate on a site, whatever its models --------------------------------------------------------------------

// Seconds to upload candidate.prompt_bits to `site` when `uplinks` (>= 1, this one included) share it: a round trip,
// and the bits at their rate; 0 when there is nothing to upload. kShannon reads gain and interference, kMeasured reads
// uplink_bps.
inline double UploadSeconds(const SiteState& site, const Candidate& candidate, double gain, double uplink_bps,
                            double interference_w, int uplinks) {
  if (candidate.prompt_bits == 0) return 0;
  if (site.uplink == UplinkModel::kMeasured) {
    return candidate.round_trip_s + MeasuredSeconds(site, candidate.prompt_bits, uplink_bps, uplinks);
  }
  return candidate.round_trip_s + ShannonSeconds(candidate.prompt_bits, BandShareHz(site, uplinks),
                                                 candidate.tx_power_w * gain, DisturbanceW(site, interference_w));
}

// Seconds to compute the answer when `queries` (>= 1, this one included) run on `site`.
inline double ComputeSeconds(const SiteState& site, const Candidate& candidate, int queries) {
  if (site.compute == ComputeModel::kBatching) return BatchingSeconds(site, candidate, queries);
  return WorkSeconds(WorkFlop(site, candidate), ShareFlops(site, queries));
}

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_DELAY_MODEL_H_
