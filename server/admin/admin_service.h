// goad.v1.Admin over gRPC: what the operator sees and turns. On the admin listener only.
#ifndef GOAD_SERVER_ADMIN_ADMIN_SERVICE_H_
#define GOAD_SERVER_ADMIN_ADMIN_SERVICE_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/pump.h"
#include "server/config/config_store.h"
#include "server/engine/inbox.h"
#include "server/engine/status.h"
#include "server/telemetry/epoch_feed.h"
#include "server/telemetry/promise_watch.h"
#include "server/telemetry/recent_epochs.h"

namespace grpc {
class Service;
}

namespace goad::server {

struct AdminPorts {  // not owned, outlive the service
  const ConfigStore* config = nullptr;
  Inbox* inbox = nullptr;
  PumpThread* pump = nullptr;  // where replies that come from the engine and writes to watchers are started
  EpochFeed* epochs = nullptr;
  const RecentEpochs* recent = nullptr;
  MonotonicTime started;
  struct Reloaded {
    uint64_t version = 0;
    std::vector<std::string> warnings;
  };
  // The daemon connects these to the rooms that Admin may not include.
  std::function<std::vector<SessionRow>(size_t limit)> sessions;
  std::function<size_t()> session_count;
  // false when there is none of this name. `by`, here and below: who wants it, for the log.
  std::function<bool(const std::string& session, const std::string& by)> kick;
  std::function<BackendRows()> backends;
  std::function<absl::Status(const std::string& name)> check_policy;
  std::function<absl::StatusOr<Reloaded>(const std::string& by)> reload;
  struct ConfigFile {
    std::string path, difference, last_error;  // as Admin.Status has them
    MonotonicTime last_reload;
  };
  std::function<ConfigFile()> config_file;  // reads it
  // `backend`: a URL or a place; empty = the whole site. NOT_FOUND names those there are.
  std::function<absl::Status(const std::string& site, const std::string& backend, bool drained, const std::string& by)>
      drain_site;
  std::function<void(const std::string& by)> drain;     // starts it and returns
  std::function<std::vector<std::string>()> processes;  // that are connected to the unix socket; see Acceptor
  // Queries of this tenant that its rates turned away at the door.
  std::function<TenantRefusals(const std::string& tenant)> tenant_refusals;
  std::function<PromiseState()> promise;
  std::string listen_address;  // of the device listener
};

std::unique_ptr<grpc::Service> MakeAdminService(AdminPorts ports);

}  // namespace goad::server

#endif  // GOAD_SERVER_ADMIN_ADMIN_SERVICE_H_
