// What the process must have before gRPC starts: it aborts where it cannot have a descriptor, some memory or a thread.
#ifndef GOAD_SERVER_DAEMON_RESOURCES_H_
#define GOAD_SERVER_DAEMON_RESOURCES_H_

#include "absl/status/status.h"

namespace goad::server {

// RESOURCE_EXHAUSTED says which is short, what is left and who sets it.
absl::Status EnoughToStart();

}  // namespace goad::server

#endif  // GOAD_SERVER_DAEMON_RESOURCES_H_
