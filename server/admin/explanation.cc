#include "server/admin/explanation.h"

#include <cmath>

#include "scheduler/explain.h"
#include "server/admin/rows.h"
#include "server/wire/enums.h"

namespace goad::server {
namespace {

const char* ToString(sched::Eligibility eligibility) {
  switch (eligibility) {
    case sched::Eligibility::kNoSite: return "NO_SITE";
    case sched::Eligibility::kNotAble: return "NOT_ABLE";
    case sched::Eligibility::kSiteDraining: return "SITE_DRAINING";
    case sched::Eligibility::kNoLink: return "NO_LINK";
    case sched::Eligibility::kSiteFull: return "SITE_FULL";
    case sched::Eligibility::kQuota: return "QUOTA";
    case sched::Eligibility::kDeadline: return "DEADLINE";
    case sched::Eligibility::kEligible: return "ELIGIBLE";
  }
  return "";
}

}  // namespace

void FillExplanation(const EpochRecord& record, size_t i, v1::ExplainResponse* response) {
  const sched::Candidate& candidate = record.snapshot.candidates[i];
  const sched::Decision& decision = record.result.decisions[i];
  if (!record.held[i]) {
    response->set_verdict(ToWire(decision.verdict));
  }
  response->set_reason(ToWire(decision.reason));
  response->set_site(record.SiteName(decision.site));
  response->set_uncertainty(record.uncertainties[i]);
  response->set_tau(record.snapshot.TauOf(i));
  if (record.HasValues()) response->set_value(candidate.uncertainty);
  response->set_forced(record.snapshot.Forced(i));
  response->set_local_delay_s(candidate.local_delay_s);
  response->set_prompt_bits(candidate.prompt_bits);
  response->set_candidate(static_cast<uint32_t>(i));
  response->set_candidates(static_cast<uint32_t>(record.snapshot.candidates.size()));
  response->set_predicted_upload_s(decision.predicted_upload_s);
  response->set_predicted_compute_s(decision.predicted_compute_s);
  response->set_round_trip_s(candidate.round_trip_s);
  response->set_needs(ToString(candidate.needs));
  response->set_others_decided(!record.chosen_in_order);
  const sched::Explanation explanation =
      sched::Explain(record.snapshot, record.result.order, i, response->others_decided());
  response->set_assigned_before(static_cast<uint32_t>(explanation.assigned_before));
  for (size_t j = 0; j < explanation.sites.size(); ++j) {
    const sched::SiteCost& cost = explanation.sites[j];
    v1::SiteCost& row = *response->add_sites();
    row.set_site(record.SiteName(sched::ToSite(j)));
    row.set_eligibility(ToString(cost.cost.eligibility));
    row.set_upload_s(cost.cost.upload_s);
    row.set_compute_s(cost.cost.compute_s);
    row.set_delta_s(cost.delta_s);
    row.set_key_s(cost.key_s);
    row.set_queries(static_cast<uint32_t>(cost.queries));
    row.set_uplinks(static_cast<uint32_t>(cost.uplinks));
    row.set_interference_w(cost.interference_w);
    if (const double bps = record.snapshot.UplinkBps(i, j); !std::isnan(bps)) row.set_uplink_bps(bps);
    if (record.snapshot.sites[j].compute == sched::ComputeModel::kBatching) {
      FillService(record.snapshot.sites[j], record.service_samples[j], row.mutable_service());
    }
  }
}

void FillExplanation(const EpochRecord& record, const EarlyDecline& early, v1::ExplainResponse* response) {
  response->set_verdict(v1::VERDICT_LOCAL);
  response->set_reason(ToWire(early.reason));
  response->set_uncertainty(early.uncertainty);
  response->set_tau(early.tau);
  if (record.HasValues()) response->set_value(early.value);
  response->set_local_delay_s(early.local_delay_s);
}

}  // namespace goad::server
