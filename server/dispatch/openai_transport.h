// HttpTransport over libcurl multi, driven by epoll on the dispatch thread.
#ifndef GOAD_SERVER_DISPATCH_OPENAI_TRANSPORT_H_
#define GOAD_SERVER_DISPATCH_OPENAI_TRANSPORT_H_

#include <memory>

#include "server/base/monotonic_time.h"
#include "server/dispatch/llm_backend.h"

namespace goad::server {

// Thread-compatible but for Wake, which any thread may call. `listener` is not owned and is called only from Poll.
class OpenAiTransport final : public HttpTransport {
 public:
  OpenAiTransport();
  ~OpenAiTransport() override;
  void set_listener(HttpListener* listener);

  void Start(CallId id, HttpRequest request) override;
  void Abort(CallId id) override;
  void SetPaused(CallId id, bool paused) override;

  // Waits for sockets, a Wake, or `until`, and reports what happened.
  void Poll(MonotonicTime until);
  void Wake();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_DISPATCH_OPENAI_TRANSPORT_H_
