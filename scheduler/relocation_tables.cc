#include "scheduler/relocation_tables.h"

#include <algorithm>
#include <cmath>

#include "scheduler/delay_model.h"
#include "scheduler/vector_log2.h"

namespace goad::sched {
namespace {

GOAD_WITH_AVX2 double InterferenceCostOf(const double* row, const SiteLanes* sites, size_t blocks) {
  Four sum = {};
  for (size_t b = 0; b < blocks; ++b) {
    Four signal, uplinks, slope;
    Load(row + 4 * (kRowFields * b + kSignal), &signal);
    Load(sites[b].uplinks, &uplinks);
    Load(sites[b].slope, &slope);
    sum += uplinks * slope * signal;
  }
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

GOAD_WITH_AVX2 void MoveDeltasOf(const double* row, const SiteLanes* sites, size_t blocks, const Leaving& leaving,
                                 double* delta_s, double* own_s) {
  for (size_t b = 0; b < blocks; ++b) {
    const double* lanes = row + 4 * kRowFields * b;
    const SiteLanes& site = sites[b];
    Four signal, weight, base, load, noise, disturbance, shannon, uplinks, term, slope, site_load, factor, next, closed;
    Load(lanes + 4 * kSignal, &signal);
    Load(lanes + 4 * kWeight, &weight);
    Load(lanes + 4 * kBase, &base);
    Load(lanes + 4 * kLoad, &load);
    Load(site.noise_w, &noise);
    Load(site.disturbance_w, &disturbance);
    Load(site.shannon, &shannon);
    Load(site.uplinks, &uplinks);
    Load(site.term_s, &term);
    Load(site.slope, &slope);
    Load(site.load, &site_load);
    Load(site.factor, &factor);
    Load(site.next_factor, &next);
    Load(site.closed_s, &closed);
    const Four change = -leaving.radiates * signal;  // of the disturbance there: it stops interfering
    const Four quiet = disturbance + change;
    const Four after = quiet > noise ? quiet : noise;
    Four log2;
    Log2OnePlus<Series::kFine>(signal / after, &log2);
    const Four own = weight / (log2 * shannon + (1.0 - shannon));
    const Four join = (uplinks + leaving.transmits) * (term + slope * change + own) - uplinks * term +
                      next * (site_load + load) - factor * site_load + base + closed;
    const Four others =
        (leaving.transmits * shannon - leaving.radiates) * (leaving.elsewhere_s - uplinks * slope * signal);
    Store(leaving.leave_s + leaving.radiating_s * shannon + join + others, delta_s + 4 * b);
    Store(own, own_s + 4 * b);
  }
}

}  // namespace

void RowTable::AddCandidate(const EpochSnapshot& snapshot, size_t i) {
  AddRow();
  const Candidate& candidate = snapshot.candidates[i];
  for (size_t j = 0; j < snapshot.sites.size(); ++j) {
    const SiteState& site = snapshot.sites[j];
    const double uplink_bps = snapshot.UplinkBps(i, j);
    Fill(j, site, candidate, snapshot.Gain(i, j), uplink_bps);
    const bool linked = candidate.prompt_bits == 0 ||
                        (site.uplink == UplinkModel::kShannon ? Last(j, kSignal) > 0 : !std::isnan(uplink_bps));
    const bool able = (!candidate.needs.chat || site.chat) && site.Can(candidate.needs);
    if (!linked || !site.accepting || !able) Last(j, kBase) = kInfinity;
  }
}

void RowTable::AddResident(const EpochSnapshot& snapshot, const Resident& resident) {
  AddRow();
  const size_t j = ToIndex(resident.site);
  Fill(j, snapshot.sites[j], resident.query, resident.gain, resident.uplink_bps);
}

// Of a query that can go nowhere yet.
void RowTable::AddRow() {
  ++rows_;
  values_.resize(values_.size() + row_size_);
  for (size_t j = 0; j < row_size_ / kRowFields; ++j) Last(j, kBase) = kInfinity;
}

void RowTable::Fill(size_t j, const SiteState& site, const Candidate& query, double gain, double uplink_bps) {
  double &signal_w = Last(j, kSignal), &weight_s = Last(j, kWeight), &base_s = Last(j, kBase), &load = Last(j, kLoad);
  base_s = 0;
  if (query.prompt_bits == 0) {
    signal_w = 1;  // never received anywhere; with weight 0 any number gives an upload of 0 s
  } else {
    signal_w = std::isnan(gain) ? 0 : query.tx_power_w * gain;
    base_s = query.round_trip_s;
    if (site.uplink == UplinkModel::kShannon) {
      signal_w = std::min(signal_w, kMostSinr * site.noise_w);
      weight_s = query.prompt_bits / BandShareHz(site, 1);
    } else {
      (site.uplink_shared ? weight_s : base_s) += MeasuredSeconds(site, query.prompt_bits, uplink_bps, 1);
    }
  }
  if (site.compute == ComputeModel::kBatching) {
    base_s += BatchingSeconds(site, query, 0);
    load = query.expected_output_tokens * site.token_time_per_query_s;
  } else {
    load = WorkFlop(site, query);
  }
}

double InterferenceCost(const double* row, const SiteTable& sites) {
  return InterferenceCostOf(row, sites.blocks().data(), sites.blocks().size());
}

void MoveDeltas(const double* row, const SiteTable& sites, const Leaving& leaving, double* delta_s, double* own_s) {
  MoveDeltasOf(row, sites.blocks().data(), sites.blocks().size(), leaving, delta_s, own_s);
}

GOAD_WITH_AVX2 void TermsOf(const double* signal_w, const double* weight_s, size_t padded, double disturbance_w,
                            double* own_s, double* own_slope, double* sum_s, double* sum_slope) {
  Four sum = {}, slopes = {};
  const double per_disturbance = 1 / disturbance_w;
  for (size_t k = 0; k < padded; k += 4) {
    Four signal, weight, log2;
    Load(signal_w + k, &signal);
    Load(weight_s + k, &weight);
    Log2OnePlus<Series::kFine>(signal * per_disturbance, &log2);
    const Four per_log2 = 1.0 / log2;
    const Four own = weight * per_log2;
    const Four slope = own * per_log2 * M_LOG2E * signal * per_disturbance / (disturbance_w + signal);
    sum += own;
    slopes += slope;
    Store(own, own_s + k);
    Store(slope, own_slope + k);
  }
  *sum_s = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  *sum_slope = (slopes[0] + slopes[1]) + (slopes[2] + slopes[3]);
}

}  // namespace goad::sched
