// The sockets of one listen address, bound and listening.
#ifndef GOAD_SERVER_LISTENER_BOUND_SOCKETS_H_
#define GOAD_SERVER_LISTENER_BOUND_SOCKETS_H_

#include <sys/socket.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace goad::server {

struct BoundSockets {
  std::vector<int> fds;   // non-blocking, close-on-exec; the caller closes them
  std::string unix_path;  // and removes this; empty = none
  int port = 0;           // of all of them; 0 for a unix socket
};

// "HOST:PORT" ("0.0.0.0" and "[::]" mean every address of both families) or "unix:PATH" (mode 0660; a socket file left
// there by a process that is gone is replaced). FAILED_PRECONDITION names `field` and what is in the way.
absl::StatusOr<BoundSockets> BindSockets(const char* field, const std::string& address);

absl::Status BindFailed(const char* field, const std::string& address, const std::string& what);
int PortOf(const sockaddr_storage& address);  // 0 for what has none

}  // namespace goad::server

#endif  // GOAD_SERVER_LISTENER_BOUND_SOCKETS_H_
