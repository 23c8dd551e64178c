// Why a query was decided as it was, as a message.
#ifndef GOAD_SERVER_ADMIN_EXPLANATION_H_
#define GOAD_SERVER_ADMIN_EXPLANATION_H_

#include "goad/v1/admin.pb.h"
#include "server/telemetry/epoch_record.h"

namespace goad::server {

// What the policy saw and chose for candidate i.
void FillExplanation(const EpochRecord& record, size_t i, v1::ExplainResponse* response);
// Decided without asking it.
void FillExplanation(const EpochRecord& record, const EarlyDecline& early, v1::ExplainResponse* response);

}  // namespace goad::server

#endif  // GOAD_SERVER_ADMIN_EXPLANATION_H_
