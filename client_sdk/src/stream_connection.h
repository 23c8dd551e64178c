// One Offload.Session stream of the client: gRPC's callback reactor reduced to Write, Close and two reports.
#ifndef GOAD_CLIENT_SDK_SRC_STREAM_CONNECTION_H_
#define GOAD_CLIENT_SDK_SRC_STREAM_CONNECTION_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "goad/query.h"
#include "goad/v1/offload.pb.h"

namespace goad::internal {

// Thread-safe. Reads one frame at a time: the next is read when `read_next` is called, so a slow caller slows goad down
// instead of filling a queue.
class StreamConnection {
 public:
  struct Reports {  // on gRPC's threads; must not block
    std::function<void(v1::ServerFrame frame, std::function<void()> read_next)> on_frame;
    // Once, last. `retry_after`: goad wants to be left in peace for that long; 0 when it did not say.
    std::function<void(const std::string& why, absl::Duration retry_after)> on_lost;
  };
  virtual ~StreamConnection() = default;
  virtual void Write(v1::DeviceFrame frame) = 0;
  virtual void Close() = 0;
};

// Opens streams, those of an address over one connection. Thread-compatible.
class StreamOpener {
 public:
  virtual ~StreamOpener() = default;
  virtual std::shared_ptr<StreamConnection> Open(const std::string& address, StreamConnection::Reports reports) = 0;
};

// REQUIRES: CheckOptions(options).ok(). A status that names the file when one of them cannot be read or used.
absl::StatusOr<std::unique_ptr<StreamOpener>> MakeGrpcOpener(const ClientOptions& options);

}  // namespace goad::internal

#endif  // GOAD_CLIENT_SDK_SRC_STREAM_CONNECTION_H_
