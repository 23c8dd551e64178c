// What operators are shown of the engine's tables, as messages.
#ifndef GOAD_SERVER_ADMIN_ROWS_H_
#define GOAD_SERVER_ADMIN_ROWS_H_

#include "goad/v1/admin.pb.h"
#include "server/engine/status.h"
#include "server/telemetry/promise_watch.h"

namespace goad::server {

void FillStatus(const EngineStatus& engine, v1::StatusResponse* response);  // the engine's part of it

template <typename Times>  // ServiceTimes, or the site of a snapshot, which has the same numbers
void FillService(const Times& times, uint64_t samples, v1::ServiceTimes* service) {
  service->set_from(samples > 0 ? "learned" : "configured");
  service->set_samples(samples);
  service->set_overhead_s(times.overhead_s);
  service->set_prefill_tokens_per_s(times.prefill_tokens_per_s);
  service->set_token_time_s(times.token_time_s);
  service->set_token_time_per_query_s(times.token_time_per_query_s);
}

void FillCertificate(const calibration::Certificate& certificate, v1::Certificate* out);
// `policy`: in force.
void FillPromise(const PromiseState& promise, const PolicyConfig& policy, const EngineStatus& engine,
                 v1::PromiseResponse* response);
// `door`: what never came to the engine.
void FillTenant(const TenantRow& row, const TenantRefusals& door, v1::TenantStatus* tenant);

}  // namespace goad::server

#endif  // GOAD_SERVER_ADMIN_ROWS_H_
