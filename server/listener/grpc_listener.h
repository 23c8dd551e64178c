// A gRPC server on an Acceptor, with every bound that gRPC itself can hold.
#ifndef GOAD_SERVER_LISTENER_GRPC_LISTENER_H_
#define GOAD_SERVER_LISTENER_GRPC_LISTENER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/listener/acceptor.h"

namespace grpc {
class Server;
class ServerCredentials;
class Service;
}  // namespace grpc

namespace goad::server {

// Frames from devices: a prompt (at most 3 MiB) and what is around it.
inline constexpr int kMaxFrameBytes = (3 << 20) + (64 << 10);

struct GrpcListenerOptions {
  const char* field = "";  // names the listener in errors
  std::string address;
  ListenerLimits limits;
  ListenerMetrics metrics;
  std::shared_ptr<grpc::ServerCredentials> credentials;
  std::vector<grpc::Service*> services;  // not owned, outlive this
  int64_t memory_bytes = 256 << 20;      // of what gRPC holds for connections and their calls
  absl::Duration max_age =
      absl::InfiniteDuration();  // of a connection: then it takes no new calls; gRPC spreads it over a tenth
  absl::Duration idle = absl::InfiniteDuration();  // a connection without calls ends after this
  std::function<bool()> memory_short;              // see Acceptor::Start
  bool introspection = false;                      // reflection and channelz: they show other callers' connections
};

// Thread-safe.
class GrpcListener {
 public:
  // Bound, or FAILED_PRECONDITION says what is in the way. Accepts nobody before Begin.
  static absl::StatusOr<std::unique_ptr<GrpcListener>> Listen(GrpcListenerOptions options);
  ~GrpcListener();

  void Begin();

  void SetServing(const std::string& service, bool serving);  // grpc.health.v1
  void SetNothingServing();
  // Accepts nobody any more, gives calls that run until `grace` is over, then ends them. Idempotent.
  void Shutdown(absl::Duration grace);

  int port() const { return acceptor_->port(); }
  Acceptor& acceptor() { return *acceptor_; }

 private:
  GrpcListener(std::unique_ptr<Acceptor> acceptor, std::shared_ptr<void> unknown_methods,
               std::unique_ptr<grpc::Server> server, std::function<void(int fd)> hand_over,
               std::function<bool()> memory_short);

  const std::unique_ptr<Acceptor> acceptor_;
  const std::shared_ptr<void> unknown_methods_;  // outlives the server
  const std::unique_ptr<grpc::Server> server_;
  const std::function<void(int fd)> hand_over_;
  const std::function<bool()> memory_short_;
  bool shut_down_ = false;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_LISTENER_GRPC_LISTENER_H_
