#include "server/engine/snapshot_builder.h"

#include <algorithm>
#include <cmath>

namespace goad::server {
namespace {

sched::SiteState MakeSite(const SiteConfig& config, const SiteLoad& load, MonotonicTime now) {
  const ServiceTimes service = load.service.At(config.compute, now);
  sched::SiteState site;
  site.uplink = config.uplink.model;
  site.uplink_shared = config.uplink.shared;
  site.bandwidth_hz = config.uplink.bandwidth_hz;
  site.noise_w = config.uplink.NoiseWatts();
  site.compute = config.compute.model;
  site.compute_flops = config.compute.capacity_flops;
  site.max_share_flops = config.compute.max_share_flops;
  site.work_flop_per_token = 2 * config.compute.parameters;
  site.overhead_s = service.overhead_s;
  site.prefill_tokens_per_s = service.prefill_tokens_per_s;
  site.token_time_s = service.token_time_s;
  site.token_time_per_query_s = service.token_time_per_query_s;
  site.backends = load.ModelBackends();
  site.active_uplinks = load.active_uplinks;
  site.active_queries = load.active_queries;
  site.max_queries = load.EffectiveMax(config);
  site.accepting = load.backends_up > 0 && !config.presence.leaving();
  site.draining = config.presence.drained || load.backends_draining;
  site.chat = TakesChat(config);
  return site;
}

double UsableGain(const LinkMeasurement& link, absl::Duration max_age, MonotonicTime now) {
  if (link.site == sched::SiteIndex::kNone || now - link.measured_at > max_age || !(link.gain > 0)) {
    return sched::kUnknown;
  }
  return link.gain;
}

sched::Candidate MakeCandidate(const SnapshotInputs& inputs, const Query& query) {
  const QueryMeta& meta = query.meta;
  sched::Candidate candidate;
  candidate.id = query.id;
  candidate.uncertainty = meta.uncertainty;
  candidate.prompt_bits = meta.prompt_bits;
  candidate.tx_power_w = meta.tx_power_w;
  candidate.local_delay_s = meta.local_delay_s;
  candidate.prompt_tokens = meta.prompt_tokens;
  candidate.expected_output_tokens = std::min<double>(
      meta.max_output_tokens,
      meta.expected_output_tokens ? static_cast<double>(*meta.expected_output_tokens) : inputs.expected_output_tokens);
  candidate.must_offload = meta.must_offload;
  candidate.chat = meta.chat;
  if (meta.edge_work_flop) candidate.edge_work_flop = *meta.edge_work_flop;
  return candidate;
}

// What the prediction leaves of something that began at `since`.
double LeftOf(MonotonicTime since, double predicted_s, MonotonicTime now) {
  const double elapsed_s = SecondsBetween(since, now);
  return elapsed_s < predicted_s ? 1 - elapsed_s / predicted_s : 0;
}

// A query that is uploading or running: what it interferes with, and what is left of it.
void AddResident(const SnapshotInputs& inputs, const Query& query, MonotonicTime now, sched::EpochSnapshot* snapshot) {
  const size_t at = sched::ToIndex(query.site);
  const bool radio = inputs.config.sites[at].uplink.model == sched::UplinkModel::kShannon;
  const LinkTable::Row links = inputs.links.Of(query.session);
  sched::Resident resident{query.site, MakeCandidate(inputs, query)};
  if (query.state == QueryState::kGranted && query.transmits()) {
    for (size_t j = 0; j < inputs.config.sites.size(); ++j) {
      const double gain = UsableGain(links[j], inputs.config.limits.link_max_age, now);
      if (j == at) resident.gain = gain;
      if (radio && j != at && !std::isnan(gain)) {
        snapshot->sites[j].resident_interference_w += query.meta.tx_power_w * gain;
      }
    }
    resident.uplink_bps = links[at].uplink_bps;
  }
  if (query.state == QueryState::kRunning) {
    const double left = LeftOf(query.dispatched, query.predicted_compute_s, now);
    resident.query.prompt_bits = 0;
    resident.query.prompt_tokens *= left;
    resident.query.expected_output_tokens *= left;
    resident.query.edge_work_flop *= left;
  } else {
    resident.query.prompt_bits *= LeftOf(query.decided, query.predicted_upload_s, now);
    if (std::isnan(radio ? resident.gain : resident.uplink_bps))
      resident.query.prompt_bits = 0;  // nobody knows how long
  }
  snapshot->residents.push_back(resident);
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
  for (size_t j = 0; j < sites; ++j) snapshot.sites.push_back(MakeSite(config.sites[j], inputs.sites[j], now));

  for (const Query* query : inputs.residents) AddResident(inputs, *query, now, &snapshot);

  snapshot.candidates.reserve(inputs.candidates.size());
  snapshot.gain.reserve(inputs.candidates.size() * sites);
  snapshot.uplink_bps.reserve(inputs.candidates.size() * sites);
  for (const Query* query : inputs.candidates) {
    sched::Candidate candidate = MakeCandidate(inputs, *query);
    candidate.deadline_s = absl::ToDoubleSeconds(query->deadline() - now);
    const LinkTable::Row links = inputs.links.Of(query->session);
    for (size_t j = 0; j < sites; ++j) {
      const LinkMeasurement& link = links[j];
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
