// The paper's delay model with its production variants: upload over a shared uplink, compute on a shared site.
// The one scalar path: every policy, the reference included, gets its delays from these two functions, so that equal
// states give equal bits. Pure functions of their arguments; compiled with -ffp-contract=off.
#ifndef GOAD_SCHEDULER_DELAY_MODEL_H_
#define GOAD_SCHEDULER_DELAY_MODEL_H_

#include "scheduler/types.h"

namespace goad::sched {

// Seconds to upload candidate.prompt_bits to `site` when `uplinks` (>= 1, this one included) share it.
// kShannon (paper, eq. for d^comm): bits / ((B/n) log2(1 + p*gain / (interference + noise))); +inf when the rate is 0.
//   `interference_w` counts those who transmit to other sites. log2(1+x) is literal: x below 1.1e-16 gives rate 0.
// kMeasured: bits / (uplink_bps / (shared ? n : 1)); gain and interference are not read.
// 0 when there is nothing to upload.
double UploadSeconds(const SiteState& site, const Candidate& candidate, double gain, double uplink_bps,
                     double interference_w, int uplinks);

// Seconds to compute the answer when `queries` (>= 1, this one included) run on `site`.
// kEqualShare (paper, eq. for d^comp): work / min(Cmax, C/n). kBatching: see ComputeModel.
double ComputeSeconds(const SiteState& site, const Candidate& candidate, int queries);

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_DELAY_MODEL_H_
