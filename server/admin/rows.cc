#include "server/admin/rows.h"

namespace goad::server {

void FillStatus(const EngineStatus& engine, v1::StatusResponse* response) {
  response->set_policy(engine.policy);
  response->set_policy_overridden(engine.policy_overridden);
  response->set_policy_trial_left_s(engine.policy_trial_left_s);
  response->set_tau(engine.tau);
  response->set_tau_overridden(engine.tau_overridden);
  response->set_epochs(engine.epochs);
  response->set_pending_queries(static_cast<uint64_t>(engine.pending));
  response->set_granted_queries(static_cast<uint64_t>(engine.granted));
  response->set_running_queries(static_cast<uint64_t>(engine.running));
  response->set_draining(engine.draining);
}

void FillCertificate(const calibration::Certificate& certificate, v1::Certificate* out) {
  out->set_accuracy(certificate.accuracy);
  out->set_confidence(certificate.confidence);
  out->set_value_tau(certificate.value_tau);
  out->set_bound(certificate.bound);
  out->set_labels(certificate.labels);
  out->set_share(certificate.share);
}

void FillPromise(const PromiseState& promise, const PolicyConfig& policy, const EngineStatus& engine,
                 v1::PromiseResponse* response) {
  if (!promise.certificate || policy.curves == nullptr) return;
  FillCertificate(*promise.certificate, response->mutable_certificate());
  response->set_tau(engine.tau);
  response->set_tau_overridden(engine.tau_overridden);
  response->set_decisions(promise.decisions);
  response->set_offloaded(promise.offloaded);
  response->set_forced(promise.forced);
  response->set_forced_local(promise.forced_local);
  response->set_forced_failed(promise.forced_failed);
  for (size_t k = 0; k < promise.rated.size(); ++k) {
    v1::RatedAnswers& rated = *response->add_rated();
    rated.set_by(kAnsweredBy[k]);
    rated.set_answers(promise.rated[k].answers);
    rated.set_error(promise.rated[k].error);
  }
  response->set_evidence(promise.evidence);
  response->set_alarm_at(promise.alarm_at);
  response->set_broken(promise.broken);
  for (const calibration::Curve& curve : *policy.curves) {
    v1::ToldTau& tau = *response->add_taus();
    tau.set_metric(curve.metric);
    tau.set_model(curve.model);
    tau.set_kind(curve.kind);
    tau.set_tau(curve.TauFor(engine.tau));
  }
}

void FillTenant(const TenantRow& row, const TenantRefusals& door, v1::TenantStatus* tenant) {
  tenant->set_name(row.config.name);
  tenant->set_weight(row.config.weight);
  tenant->set_active_queries(static_cast<uint32_t>(row.active));
  tenant->set_max_queries(static_cast<uint32_t>(row.config.max_queries));
  tenant->set_queries_per_second(row.config.queries_per_second);
  tenant->set_prompt_tokens_per_minute(row.config.prompt_tokens_per_minute);
  tenant->set_max_offloaded_share(row.config.max_offloaded_share);
  tenant->set_decisions(row.decisions);
  tenant->set_offloaded(row.offloaded);
  tenant->set_recent_offloaded_share(row.recent_share);
  for (size_t limit = 0; limit < row.refused.size(); ++limit) {
    const uint64_t queries = row.refused[limit] + door[limit];
    if (queries == 0) continue;
    v1::TenantRefusals& refused = *tenant->add_refused();
    refused.set_limit(ToString(static_cast<TenantLimit>(limit)));
    refused.set_queries(queries);
  }
}

}  // namespace goad::server
