// gRPC's own log, for the whole process: into ours, and bounded, because a peer that breaks off its handshakes makes a
// line of each.
#ifndef GOAD_SERVER_DAEMON_GRPC_LOG_H_
#define GOAD_SERVER_DAEMON_GRPC_LOG_H_

namespace goad::server {

// At most 10 lines in 10 s, as warnings; the first line after that says how many were left out. Thread-safe.
void ForwardGrpcLog();

}  // namespace goad::server

#endif  // GOAD_SERVER_DAEMON_GRPC_LOG_H_
