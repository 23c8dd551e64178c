// HTTP as the dispatch room sees it: start a request, hear of its head, body and end. Implemented by CurlTransport
// (libcurl) and by the simulation's scripted backend.
#ifndef GOAD_SERVER_DISPATCH_HTTP_TRANSPORT_H_
#define GOAD_SERVER_DISPATCH_HTTP_TRANSPORT_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "server/base/monotonic_time.h"
#include "server/config/config.h"

namespace goad::server {

enum class CallId : uint64_t {};  // the transport's; 0 is none

struct HttpRequest {
  const BackendConfig* backend = nullptr;  // read by Start; a reload may replace it later
  std::string path;                        // appended to backend->url
  std::string body;                        // empty = GET
  absl::Duration connect_timeout;
  std::string traceparent;  // a header of this name; empty = none
};

// The head of the final answer; informational ones (1xx) are not reported.
struct HttpHead {
  int status = 0;
  std::string content_type;         // as sent, without parameters, in lower case; empty = not said
  absl::Duration retry_after;       // of a Retry-After header (RFC 9110, 10.2.3); 0 = none
  bool says_when_to_retry = false;  // it has a Retry-After, be it past or none that can be read
  std::string location;             // of a redirect, as sent; empty = none
  bool framed = true;               // the body's end is told by its length or chunks, not only by the connection's
};

enum class TransportEnd { kComplete, kConnectFailed, kBroken };

// One per call. Every report hands the time in.
class HttpListener {
 public:
  virtual ~HttpListener() = default;
  virtual void OnHead(const HttpHead& head, MonotonicTime now) = 0;
  virtual void OnBody(std::string_view bytes, MonotonicTime now) = 0;
  // Exactly once, unless aborted; nothing follows. `detail` is for operators: it may name addresses.
  virtual void OnEnd(TransportEnd end, const std::string& detail, MonotonicTime now) = 0;
};

// Thread-compatible; lives on the dispatch thread. It never reports from within these calls.
class HttpTransport {
 public:
  virtual ~HttpTransport() = default;
  // `listener` outlives the call, that is, until OnEnd or Abort; it may end its own life from within a report, after an
  // Abort or in OnEnd.
  virtual CallId Start(HttpRequest request, HttpListener* listener) = 0;
  virtual void Abort(CallId id) = 0;  // closes its connection, if it is not through; nothing more is heard of it
  virtual void SetPaused(CallId id, bool paused) = 0;  // paused: no OnBody
};

}  // namespace goad::server

#endif  // GOAD_SERVER_DISPATCH_HTTP_TRANSPORT_H_
