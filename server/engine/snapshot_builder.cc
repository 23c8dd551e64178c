#include "server/engine/snapshot_builder.h"

#include <algorithm>
#include <cmath>

namespace goad::server {
namespace {

sched::SiteState MakeSite(const SiteConfig& config, const SiteLoad& load) {
  sched::SiteState site;
  site.uplink = config.uplink.model;
  site.uplink_shared = config.uplink.shared;
  site.bandwidth_hz = config.uplink.bandwidth_hz;
  site.noise_w = config.uplink.NoiseWatts();
  site.compute = config.compute.model;
  site.compute_flops = config.compute.capacity_flops;
  site.max_share_flops = config.compute.max_share_flops;
  site.work_flop_per_token = 2 * config.compute.parameters;
  site.prefill_tokens_per_s = config.compute.prefill_tokens_per_s;
  site.token_time_s = config.compute.token_time_s;
  site.token_time_per_query_s = config.compute.token_time_per_query_s;
  site.backends = std::max(1, load.backends_up);
  site.active_uplinks = load.active_uplinks;
  site.active_queries = load.active_queries;
  site.max_queries = load.EffectiveMax(config);
  site.accepting = load.backends_up > 0;
  site.chat = std::any_of(config.backends.begin(), config.backends.end(),
                          [](const BackendConfig& backend) { return backend.api == BackendApi::kChat; });
  return site;
}

double UsableGain(const LinkMeasurement& link, absl::Duration max_age, MonotonicTime now) {
  if (link.site == sched::SiteIndex::kNone || now - link.measured_at > max_age || !(link.gain > 0)) {
    return sched::kUnknown;
  }
  return link.gain;
}

}  // namespace

sched::EpochSnapshot BuildSnapshot(const SnapshotInputs& inputs, MonotonicTime now) {
  const Config& config = inputs.config;
  const size_t sites = config.sites.size();
  const absl::Duration max_age = config.limits.link_max_age;
  sched::EpochSnapshot snapshot;
  snapshot.epoch = inputs.epoch;
  snapshot.tau = inputs.tau;
  snapshot.seed = inputs.epoch;
  for (size_t j = 0; j < sites; ++j) snapshot.sites.push_back(MakeSite(config.sites[j], inputs.sites[j]));

  for (const Query* query : inputs.uploading) {
    const auto* links = inputs.links.Find(query->session);
    if (links == nullptr || config.sites[sched::ToIndex(query->site)].uplink.model != sched::UplinkModel::kShannon) continue;
    for (size_t j = 0; j < sites; ++j) {
      const double gain = UsableGain((*links)[j], max_age, now);
      if (sched::ToSite(j) != query->site && !std::isnan(gain)) {
        snapshot.sites[j].resident_interference_w += query->meta.tx_power_w * gain;
      }
    }
  }

  snapshot.candidates.reserve(inputs.candidates.size());
  snapshot.gain.reserve(inputs.candidates.size() * sites);
  snapshot.uplink_bps.reserve(inputs.candidates.size() * sites);
  for (const Query* query : inputs.candidates) {
    const QueryMeta& meta = query->meta;
    sched::Candidate candidate;
    candidate.id = query->id;
    candidate.uncertainty = meta.uncertainty;
    candidate.prompt_bits = meta.prompt_bits;
    candidate.tx_power_w = meta.tx_power_w;
    candidate.local_delay_s = meta.local_delay_s;
    candidate.deadline_s = absl::ToDoubleSeconds(query->deadline() - now);
    candidate.prompt_tokens = meta.prompt_tokens;
    candidate.expected_output_tokens =
        std::min<double>(meta.max_output_tokens, meta.expected_output_tokens
                                                     ? static_cast<double>(*meta.expected_output_tokens)
                                                     : inputs.expected_output_tokens);
    candidate.must_offload = meta.must_offload;
    candidate.chat = meta.chat;
    if (meta.edge_work_flop) candidate.edge_work_flop = *meta.edge_work_flop;
    const auto* links = inputs.links.Find(query->session);
    for (size_t j = 0; j < sites; ++j) {
      const LinkMeasurement link = links == nullptr ? LinkMeasurement{} : (*links)[j];
      const bool stale = link.site != sched::SiteIndex::kNone && now - link.measured_at > max_age;
      candidate.link_stale |= stale;
      snapshot.gain.push_back(UsableGain(link, max_age, now));
      snapshot.uplink_bps.push_back(stale ? sched::kUnknown : link.uplink_bps);
    }
    snapshot.candidates.push_back(candidate);
  }
  return snapshot;
}

}  // namespace goad::server
