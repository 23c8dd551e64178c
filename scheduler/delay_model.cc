#include "scheduler/delay_model.h"

#include <algorithm>
#include <cmath>

namespace goad::sched {

double UploadSeconds(const SiteState& site, const Candidate& candidate, double gain, double uplink_bps,
                     double interference_w, int uplinks) {
  if (candidate.prompt_bits == 0) return 0;
  double rate_bps = 0;
  if (site.uplink == UplinkModel::kMeasured) {
    rate_bps = site.uplink_shared ? uplink_bps / uplinks : uplink_bps;
  } else {
    const double sinr = candidate.tx_power_w * gain / (interference_w + site.noise_w);
    rate_bps = (site.bandwidth_hz / uplinks) * std::log2(1.0 + sinr);
  }
  return candidate.prompt_bits / rate_bps;
}

double ComputeSeconds(const SiteState& site, const Candidate& candidate, int queries) {
  if (site.compute == ComputeModel::kBatching) {
    const double per_backend = static_cast<double>(queries) / site.backends;
    return candidate.prompt_tokens / site.prefill_tokens_per_s +
           candidate.expected_output_tokens * (site.token_time_s + site.token_time_per_query_s * per_backend);
  }
  const double tokens = candidate.prompt_tokens + candidate.expected_output_tokens;
  const double work_flop = candidate.edge_work_flop + site.work_flop_per_token * tokens;
  return work_flop / std::min(site.max_share_flops, site.compute_flops / queries);
}

}  // namespace goad::sched
