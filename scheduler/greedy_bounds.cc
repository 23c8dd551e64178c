#include "scheduler/greedy_bounds.h"

#include "scheduler/types.h"
#include "scheduler/vector_log2.h"

namespace goad::sched {
namespace {

// The delay is lowered by this share: far above all roundings of a rough log2 (within 3e-7) and reciprocals.
constexpr double kVectorSlack = 1 - 1e-6;

// Added to that log2: 1 + SINR is rounded, and the SINR of the bound may differ from the exact one in its last bit.
constexpr double kLog2Slack = 1e-15;

// On block b of the sites.
GOAD_INLINE void BoundFour(const double* record, const SiteBlock* sites, size_t b, Four* bounds) {
  Four signal, per_disturbance, band, per_flops, log2;
  Load(record + kSignals + 4 * b, &signal);
  Load(sites[b].per_disturbance, &per_disturbance);
  Load(sites[b].band_share_hz, &band);
  Load(sites[b].per_flops, &per_flops);
  const Four sinr = signal * per_disturbance;
  Log2OnePlus<Series::kRough>(sinr, &log2);
  log2 += kLog2Slack + (sinr - sinr);  // the difference carries NaN
  const Four delay = record[kBits] / (band * log2) + record[kWork] * per_flops;
  *bounds = record[kFactor] * (delay * kVectorSlack - record[kLocalRest]);
}

}  // namespace

GOAD_WITH_AVX2 void BoundKeysOf(const double* record, const SiteBlock* sites, size_t blocks, double* bounds) {
  for (size_t b = 0; b < blocks; ++b) {
    Four four;
    BoundFour(record, sites, b, &four);
    Store(four, bounds + 4 * b);
  }
}

GOAD_WITH_AVX2 void LeastBoundsOf(const double* const records[2], const SiteBlock* sites, size_t blocks,
                                  double least[2]) {
  Four low[2] = {{kInfinity, kInfinity, kInfinity, kInfinity}, {kInfinity, kInfinity, kInfinity, kInfinity}};
  for (size_t b = 0; b < blocks; ++b) {
    Four four[2];
    BoundFour(records[0], sites, b, &four[0]);
    BoundFour(records[1], sites, b, &four[1]);
    for (int r = 0; r < 2; ++r) low[r] = four[r] < low[r] ? four[r] : low[r];  // NaN compares false
  }
  for (int r = 0; r < 2; ++r) {
    const double x = low[r][0] < low[r][1] ? low[r][0] : low[r][1], y = low[r][2] < low[r][3] ? low[r][2] : low[r][3];
    least[r] = x < y ? x : y;
  }
}

}  // namespace goad::sched
