// What operators are shown of the engine's tables, as messages.
#ifndef GOAD_SERVER_ADMIN_ROWS_H_
#define GOAD_SERVER_ADMIN_ROWS_H_

#include "goad/v1/admin.pb.h"
#include "server/engine/status.h"

namespace goad::server {

void FillStatus(const EngineStatus& engine, v1::StatusResponse* response);  // the engine's part of it

// `door`: what never came to the engine.
void FillTenant(const TenantRow& row, const TenantRefusals& door, v1::TenantStatus* tenant);

}  // namespace goad::server

#endif  // GOAD_SERVER_ADMIN_ROWS_H_
