// HTTP as the dispatcher sees it: start a request, hear of its head, body and end. Implemented by OpenAiTransport
// (libcurl) and by the simulation's scripted backend.
#ifndef GOAD_SERVER_DISPATCH_LLM_BACKEND_H_
#define GOAD_SERVER_DISPATCH_LLM_BACKEND_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "server/base/monotonic_time.h"
#include "server/config/config.h"

namespace goad::server {

enum class CallId : uint64_t {};

struct HttpRequest {
  const BackendConfig* backend = nullptr;  // outlives the call
  std::string path;                        // appended to backend->url
  std::string body;                        // empty = GET
  absl::Duration connect_timeout;
  std::string traceparent;                 // a header of this name; empty = none
};

// Thread-compatible; lives on the dispatch thread. It reports to a HttpListener, from within these calls only
// when SetPaused(false) hands out what was held back.
class HttpTransport {
 public:
  virtual ~HttpTransport() = default;
  virtual void Start(CallId id, HttpRequest request) = 0;
  virtual void Abort(CallId id) = 0;                   // closes the connection; nothing more is heard of the call
  virtual void SetPaused(CallId id, bool paused) = 0;  // paused: no OnBody
};

enum class TransportEnd { kComplete, kConnectFailed, kBroken };

class HttpListener {
 public:
  virtual ~HttpListener() = default;
  virtual void set_now(MonotonicTime now) = 0;         // the time of the reports that follow
  // `retry_after`: of a Retry-After header (RFC 9110, 10.2.3); 0 = none.
  virtual void OnHead(CallId id, int http_status, absl::Duration retry_after) = 0;
  virtual void OnBody(CallId id, std::string_view bytes) = 0;
  virtual void OnEnd(CallId id, TransportEnd end, const std::string& detail) = 0;  // exactly once, unless aborted
};

}  // namespace goad::server

#endif  // GOAD_SERVER_DISPATCH_LLM_BACKEND_H_
