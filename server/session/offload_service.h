// goad.v1.Offload over gRPC's callback API: thin adapters between streams and session cores.
#ifndef GOAD_SERVER_SESSION_OFFLOAD_SERVICE_H_
#define GOAD_SERVER_SESSION_OFFLOAD_SERVICE_H_

#include <atomic>
#include <memory>

#include "server/listener/connection_table.h"
#include "server/session/session_core.h"

namespace grpc {
class Service;
}

namespace goad::server {

struct OffloadPorts {
  SessionPorts session;
  DispatchPort* dispatch = nullptr;  // to resume backend reads; not owned
  std::atomic<uint64_t>* next_session_id = nullptr;
  std::function<std::shared_ptr<Connection>(const std::string& peer)> connection;  // null for one that is not counted
};

// The service; register it with a grpc::ServerBuilder. `ports` outlive it.
std::unique_ptr<grpc::Service> MakeOffloadService(const OffloadPorts& ports);

}  // namespace goad::server

#endif  // GOAD_SERVER_SESSION_OFFLOAD_SERVICE_H_
