// goad.v1.Planner: one plan at a time on a thread of its own, so that it never delays an epoch.
#ifndef GOAD_SERVER_PLANNER_PLANNER_SERVICE_H_
#define GOAD_SERVER_PLANNER_PLANNER_SERVICE_H_

#include <memory>

namespace grpc {
class Service;
}

namespace goad::server {

// Bounds: candidates x sites of a request, and one request at a time; what does not fit is RESOURCE_EXHAUSTED at once.
std::unique_ptr<grpc::Service> MakePlannerService();

}  // namespace goad::server

#endif  // GOAD_SERVER_PLANNER_PLANNER_SERVICE_H_
