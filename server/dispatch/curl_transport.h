// HttpTransport over libcurl multi, driven by epoll on the dispatch thread.
#ifndef GOAD_SERVER_DISPATCH_CURL_TRANSPORT_H_
#define GOAD_SERVER_DISPATCH_CURL_TRANSPORT_H_

#include <memory>

#include "absl/status/statusor.h"
#include "server/base/monotonic_time.h"
#include "server/dispatch/http_transport.h"

namespace goad::server {

// Thread-compatible but for Wake, which any thread may call. Listeners are called only from Poll.
class CurlTransport final : public HttpTransport {
 public:
  // RESOURCE_EXHAUSTED without descriptors or memory.
  static absl::StatusOr<std::unique_ptr<CurlTransport>> Open();
  ~CurlTransport() override;

  CallId Start(HttpRequest request, HttpListener* listener) override;
  void Abort(CallId id) override;
  void SetPaused(CallId id, bool paused) override;

  // Waits for sockets, a Wake, or `until`, and reports what happened.
  void Poll(MonotonicTime until);
  void Wake();

 private:
  struct Impl;
  CurlTransport();

  std::unique_ptr<Impl> impl_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_DISPATCH_CURL_TRANSPORT_H_
