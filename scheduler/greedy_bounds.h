// Lower bounds of the greedy pass's keys, four sites at a time. Internal to greedy_pass. Nothing is decided by them:
// they say which exact looks would be in vain.
#ifndef GOAD_SCHEDULER_GREEDY_BOUNDS_H_
#define GOAD_SCHEDULER_GREEDY_BOUNDS_H_

#include <cstddef>

namespace goad::sched {

// A candidate as the bounds read it: these, then from kSignals on the received power p|h|^2 per site (W; NaN =
// unknown), padded to fours. kLocalRest is the local delay less the round trip, so that a record stays one cache line;
// kBits is -1 for candidates that only LoadState::Evaluate can judge.
enum RecordField : size_t { kLocalRest, kBits, kWork, kFactor, kSignals };

// What is read of four sites.
struct SiteBlock {
  double per_disturbance[4];  // 1 / disturbance; NaN = closed or not there
  double band_share_hz[4];
  double per_flops[4];  // 1 / share of the compute
};

// Of a record on every site, `blocks` fours of them; NaN where the link is unknown or the site closed.
void BoundKeysOf(const double* record, const SiteBlock* sites, size_t blocks, double* bounds);

// The least over the sites, of two records at once: one alone would wait for its divisions most of the time. +infinity
// when there is none.
void LeastBoundsOf(const double* const records[2], const SiteBlock* sites, size_t blocks, double least[2]);

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_GREEDY_BOUNDS_H_
