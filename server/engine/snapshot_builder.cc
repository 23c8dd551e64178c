#include "server/engine/snapshot_builder.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

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
  site.contexts = load.contexts;
  return site;
}

bool IsStale(const LinkMeasurement& link, absl::Duration max_age, MonotonicTime now) {
  return link.site != sched::SiteIndex::kNone && now - link.measured_at > max_age;
}

double UsableGain(const LinkMeasurement& link, absl::Duration max_age, MonotonicTime now) {
  return IsStale(link, max_age, now) || !(link.gain > 0) ? sched::kUnknown : link.gain;
}

bool IsMeasured(const SiteConfig& site) { return site.uplink.model == sched::UplinkModel::kMeasured; }

// The prompts of each session that are on their way or may be sent after this epoch, where a device's own uploads share
// what it has to itself; elsewhere nobody asks.
class OwnUploads {
 public:
  explicit OwnUploads(const SnapshotInputs& inputs) {
    const auto& sites = inputs.config.sites;
    if (std::none_of(sites.begin(), sites.end(), [](const auto& s) { return IsMeasured(s) && !s.uplink.shared; }))
      return;
    for (const Query* query : inputs.residents) counts_[query->session] += query->state == QueryState::kGranted;
    for (const Query* query : inputs.candidates) counts_[query->session] += query->transmits();
  }
  int Of(const Query& query) const { return std::max(1, counts_.at(query.session)); }

 private:
  std::unordered_map<SessionId, int> counts_;
};

// A device's rate to a measured site: what it reported lately, else what goad has seen of it.
double UplinkBps(const SnapshotInputs& inputs, const OwnUploads& uploads, const Query& query, size_t site,
                 const UplinkTimes& seen, MonotonicTime now) {
  const LinkMeasurement& link = inputs.links.Of(query.session)[site];
  const bool reported = !std::isnan(link.uplink_bps) && !IsStale(link, inputs.config.limits.link_max_age, now);
  const double bps = reported ? link.uplink_bps : seen.uplink_bps;
  return inputs.config.sites[site].uplink.shared ? bps : bps / uploads.Of(query);
}

sched::Candidate MakeCandidate(const Query& query) {
  const QueryMeta& meta = query.meta;
  sched::Candidate candidate;
  candidate.id = query.id;
  candidate.uncertainty = query.value;
  candidate.prompt_bits = meta.prompt_bits;
  candidate.tx_power_w = meta.tx_power_w;
  candidate.local_delay_s = meta.local_delay_s;
  candidate.prompt_tokens = meta.prompt_tokens;
  candidate.expected_output_tokens = query.expected_output_tokens;
  candidate.must_offload = meta.must_offload;
  candidate.needs = meta.needs;
  if (meta.edge_work_flop) candidate.edge_work_flop = *meta.edge_work_flop;
  return candidate;
}

// What the prediction leaves of something that began at `since`.
double LeftOf(MonotonicTime since, double predicted_s, MonotonicTime now) {
  const double elapsed_s = SecondsBetween(since, now);
  return elapsed_s < predicted_s ? 1 - elapsed_s / predicted_s : 0;
}

// A query that is uploading or running: what it interferes with, and what is left of it.
void AddResident(const SnapshotInputs& inputs, const OwnUploads& uploads, const Query& query, MonotonicTime now,
                 sched::EpochSnapshot* snapshot) {
  const size_t at = sched::ToIndex(query.site);
  const bool radio = !IsMeasured(inputs.config.sites[at]);
  const LinkTable::Row links = inputs.links.Of(query.session);
  sched::Resident resident{query.site, MakeCandidate(query)};
  if (query.state == QueryState::kGranted && query.transmits()) {
    for (size_t j = 0; j < inputs.config.sites.size(); ++j) {
      const double gain = UsableGain(links[j], inputs.config.limits.link_max_age, now);
      if (j == at) resident.gain = gain;
      if (radio && j != at && !std::isnan(gain)) {
        snapshot->sites[j].resident_interference_w += query.meta.tx_power_w * gain;
      }
    }
    const UplinkTimes seen = inputs.uplinks.Of(query.device, now);
    if (!radio) resident.uplink_bps = UplinkBps(inputs, uploads, query, at, seen, now);
    if (!radio) resident.query.round_trip_s = seen.round_trip_s;
  }
  if (query.state == QueryState::kRunning) {
    const double left = LeftOf(query.dispatched, query.predicted_compute_s, now);
    resident.query.prompt_bits = 0;
    resident.query.prompt_tokens *= left;
    resident.query.expected_output_tokens *= left;
    resident.query.edge_work_flop *= left;
  } else {
    const double left = LeftOf(query.decided, query.predicted_upload_s, now);
    resident.query.prompt_bits *= left;
    resident.query.round_trip_s *= left;
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

  const OwnUploads uploads(inputs);
  for (const Query* query : inputs.residents) AddResident(inputs, uploads, *query, now, &snapshot);

  snapshot.candidates.reserve(inputs.candidates.size());
  snapshot.gain.reserve(inputs.candidates.size() * sites);
  snapshot.uplink_bps.reserve(inputs.candidates.size() * sites);
  for (const Query* query : inputs.candidates) {
    sched::Candidate candidate = MakeCandidate(*query);
    if (query->tau != inputs.tau) candidate.tau = query->tau;
    candidate.deadline_s = absl::ToDoubleSeconds(query->deadline() - now);
    const LinkTable::Row links = inputs.links.Of(query->session);
    const UplinkTimes seen = query->transmits() ? inputs.uplinks.Of(query->device, now) : UplinkTimes();
    candidate.round_trip_s = seen.round_trip_s;
    for (size_t j = 0; j < sites; ++j) {
      const bool measured = IsMeasured(config.sites[j]);
      candidate.link_stale |= !measured && IsStale(links[j], max_age, now);
      snapshot.gain.push_back(UsableGain(links[j], max_age, now));
      snapshot.uplink_bps.push_back(measured && query->transmits() ? UplinkBps(inputs, uploads, *query, j, seen, now)
                                                                   : sched::kUnknown);
    }
    snapshot.candidates.push_back(candidate);
  }
  return snapshot;
}

}  // namespace goad::server
