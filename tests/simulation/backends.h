// Every backend of one goad's sites, answering by script and by the faults of the stage.
#ifndef GOAD_TESTS_SIMULATION_BACKENDS_H_
#define GOAD_TESTS_SIMULATION_BACKENDS_H_

#include <functional>
#include <map>
#include <string>

#include "server/dispatch/http_transport.h"
#include "tests/simulation/stage.h"

namespace goad::server {

// Thread-compatible. The stage is not owned and outlives this.
class SimBackends final : public HttpTransport {
 public:
  explicit SimBackends(Stage* stage) : stage_(stage) {}

  CallId Start(HttpRequest request, HttpListener* listener) override;
  void Abort(CallId id) override { live_.erase(id); }
  void SetPaused(CallId, bool) override {}
  void AbortAll() { live_.clear(); }

 private:
  void Script(CallId id, const HttpRequest& request);
  void Later(CallId id, absl::Duration delay, std::function<void(HttpListener&)> what);
  void Head(CallId id, absl::Duration delay, int status, absl::Duration retry_after = absl::ZeroDuration());
  void Body(CallId id, absl::Duration delay, const std::string& bytes);
  void End(CallId id, absl::Duration delay, TransportEnd end);

  Stage* const stage_;
  uint64_t last_id_ = 0;
  std::map<CallId, HttpListener*> live_;
  std::map<std::string, MonotonicTime> dead_until_;
};

}  // namespace goad::server

#endif  // GOAD_TESTS_SIMULATION_BACKENDS_H_
