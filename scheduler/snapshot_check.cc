#include "scheduler/snapshot_check.h"

#include <cmath>

#include "absl/strings/str_cat.h"

namespace goad::sched {
namespace {

// Collects the first problem; later checks are then free.
class Checker {
 public:
  explicit Checker(const char* list, size_t index) : list_(list), index_(index) {}

  Checker& Want(bool ok, const char* field, double value, const char* range) {
    if (!ok && status_.ok()) {
      status_ =
          absl::InvalidArgumentError(absl::StrCat(list_, "[", index_, "].", field, ": ", value, " is not ", range));
    }
    return *this;
  }
  Checker& NonNegative(const char* field, double value) {
    return Want(std::isfinite(value) && value >= 0, field, value, "finite and >= 0");
  }
  Checker& Positive(const char* field, double value) {
    return Want(std::isfinite(value) && value > 0, field, value, "finite and > 0");
  }
  const absl::Status& status() const { return status_; }

 private:
  const char* list_;
  size_t index_;
  absl::Status status_;
};

absl::Status CheckSite(const SiteState& site, size_t j) {
  Checker check("sites", j);
  if (site.uplink == UplinkModel::kShannon) {
    check.Positive("bandwidth_hz", site.bandwidth_hz).Positive("noise_w", site.noise_w);
  }
  if (site.compute == ComputeModel::kEqualShare) {
    check.Positive("compute_flops", site.compute_flops)
        .Want(site.max_share_flops > 0, "max_share_flops", site.max_share_flops, "> 0")
        .NonNegative("work_flop_per_token", site.work_flop_per_token);
  } else {
    check.NonNegative("overhead_s", site.overhead_s)
        .Positive("prefill_tokens_per_s", site.prefill_tokens_per_s)
        .NonNegative("token_time_s", site.token_time_s)
        .NonNegative("token_time_per_query_s", site.token_time_per_query_s)
        .Want(site.backends >= 1, "backends", site.backends, ">= 1");
  }
  return check.Want(site.active_uplinks >= 0, "active_uplinks", site.active_uplinks, ">= 0")
      .Want(site.active_queries >= 0, "active_queries", site.active_queries, ">= 0")
      .NonNegative("resident_interference_w", site.resident_interference_w)
      .Want(site.max_queries >= 0, "max_queries", site.max_queries, ">= 0")
      .status();
}

Checker& CheckQuery(Checker& check, const Candidate& c) {
  return check.Want(c.uncertainty >= 0 && c.uncertainty <= 1, "uncertainty", c.uncertainty, "in 0..1")
      .Want(std::isnan(c.tau) || (c.tau >= 0 && c.tau <= 1), "tau", c.tau, "in 0..1")
      .NonNegative("prompt_bits", c.prompt_bits)
      .NonNegative("round_trip_s", c.round_trip_s)
      .NonNegative("tx_power_w", c.tx_power_w)
      .NonNegative("local_delay_s", c.local_delay_s)
      .NonNegative("edge_work_flop", c.edge_work_flop)
      .NonNegative("prompt_tokens", c.prompt_tokens)
      .NonNegative("context_tokens", c.needs.context_tokens)
      .NonNegative("expected_output_tokens", c.expected_output_tokens);
}

absl::Status CheckResident(const EpochSnapshot& snapshot, size_t k) {
  const Resident& resident = snapshot.residents[k];
  Checker check("residents", k);
  const double site = static_cast<double>(static_cast<int32_t>(resident.site));
  if (!(site >= 0 && ToIndex(resident.site) < snapshot.sites.size())) {
    return check.Want(false, "site", site, "an index into sites").status();
  }
  CheckQuery(check, resident.query);
  if (resident.query.prompt_bits > 0) {
    const bool radio = snapshot.sites[ToIndex(resident.site)].uplink == UplinkModel::kShannon;
    check.Positive(radio ? "gain" : "uplink_bps", radio ? resident.gain : resident.uplink_bps);
  }
  return check.status();
}

absl::Status CheckCandidate(const EpochSnapshot& snapshot, size_t i) {
  const Candidate& c = snapshot.candidates[i];
  Checker check("candidates", i);
  CheckQuery(check, c)
      .Want(c.deadline_s > 0, "deadline_s", c.deadline_s, "> 0")
      .Want(snapshot.tenant_caps.empty() ||
                (c.tenant >= 0 && static_cast<size_t>(c.tenant) < snapshot.tenant_caps.size()),
            "tenant", c.tenant, "an index into tenant_caps");
  for (size_t j = 0; j < snapshot.sites.size(); ++j) {
    const double gain = snapshot.Gain(i, j);
    check.Want(std::isnan(gain) || (std::isfinite(gain) && gain >= 0), "gain", gain, "finite and >= 0, or NaN");
    const double bps = snapshot.UplinkBps(i, j);
    check.Want(std::isnan(bps) || (std::isfinite(bps) && bps > 0), "uplink_bps", bps, "finite and > 0, or NaN");
  }
  return check.status();
}

}  // namespace

absl::Status CheckSnapshot(const EpochSnapshot& snapshot, SnapshotFault* fault) {
  SnapshotFault unasked;
  SnapshotFault& at = fault == nullptr ? unasked : *fault;
  at = {};
  const size_t pairs = snapshot.candidates.size() * snapshot.sites.size();
  if (snapshot.gain.size() != pairs) {
    return absl::InvalidArgumentError(
        absl::StrCat("gain: ", snapshot.gain.size(), " entries, want candidates x sites = ", pairs));
  }
  if (!snapshot.uplink_bps.empty() && snapshot.uplink_bps.size() != pairs) {
    return absl::InvalidArgumentError(absl::StrCat("uplink_bps: ", snapshot.uplink_bps.size(),
                                                   " entries, want none or candidates x sites = ", pairs));
  }
  if (!(snapshot.tau >= 0 && snapshot.tau <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat("tau: ", snapshot.tau, " is not in 0..1"));
  }
  for (size_t j = 0; j < snapshot.sites.size(); ++j) {
    at = {SnapshotFault::Part::kSite, j};
    if (absl::Status status = CheckSite(snapshot.sites[j], j); !status.ok()) return status;
  }
  for (size_t i = 0; i < snapshot.candidates.size(); ++i) {
    at = {SnapshotFault::Part::kCandidate, i};
    if (absl::Status status = CheckCandidate(snapshot, i); !status.ok()) return status;
  }
  for (size_t k = 0; k < snapshot.residents.size(); ++k) {
    at = {SnapshotFault::Part::kResident, k};
    if (absl::Status status = CheckResident(snapshot, k); !status.ok()) return status;
  }
  at = {};
  std::vector<bool> seen(snapshot.candidates.size());
  for (const uint32_t i : snapshot.sample) {
    if (i >= seen.size() || seen[i]) {
      return absl::InvalidArgumentError(absl::StrCat("sample: ", i, " is not a candidate or is listed twice"));
    }
    seen[i] = true;
  }
  return absl::OkStatus();
}

bool TakeOut(const SnapshotFault& fault, EpochSnapshot* snapshot) {
  const size_t sites = snapshot->sites.size();
  switch (fault.part) {
    case SnapshotFault::Part::kWhole: return false;
    case SnapshotFault::Part::kSite: {
      SiteState closed;
      closed.uplink = UplinkModel::kMeasured;
      closed.compute = ComputeModel::kBatching;
      closed.prefill_tokens_per_s = 1;
      closed.backends = 1;
      closed.max_queries = 0;
      closed.accepting = false;
      snapshot->sites[fault.index] = closed;
      return true;
    }
    case SnapshotFault::Part::kCandidate: {
      Candidate stays;
      stays.id = snapshot->candidates[fault.index].id;
      stays.prompt_bits = 1;  // to be uploaded, over no link
      if (snapshot->tenant_caps.size() == 0) stays.tenant = snapshot->candidates[fault.index].tenant;
      snapshot->candidates[fault.index] = stays;
      for (size_t j = 0; j < sites; ++j) {
        snapshot->gain[fault.index * sites + j] = kUnknown;
        if (!snapshot->uplink_bps.empty()) snapshot->uplink_bps[fault.index * sites + j] = kUnknown;
      }
      return true;
    }
    case SnapshotFault::Part::kResident:
      snapshot->residents.erase(snapshot->residents.begin() + static_cast<std::ptrdiff_t>(fault.index));
      return true;
  }
  return false;
}

}  // namespace goad::sched
