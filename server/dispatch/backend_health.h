// Whether a backend can be used: probes, consecutive failures, and the circuit they open. Pure.
#ifndef GOAD_SERVER_DISPATCH_BACKEND_HEALTH_H_
#define GOAD_SERVER_DISPATCH_BACKEND_HEALTH_H_

#include <string>

#include "server/base/monotonic_time.h"

namespace goad::server {

// Down until the first good probe. Each probe asks /health; a server without it (404, 405) is asked for /v1/models from
// then on; after a probe succeeded on a backend that was down, /props is read once for llama-server's slots.
// `failures_to_open` consecutive failures of probes or requests open the circuit (down); one good probe closes it.
// Thread-compatible.
class BackendHealth {
 public:
  bool up() const { return up_; }
  bool probing() const { return probing_; }
  MonotonicTime next_probe() const { return probing_ ? MonotonicTime::Infinite() : next_probe_; }

  // The path to ask for now; the answer must be reported.
  std::string StartProbe() {
    probing_ = true;
    return ask_props_ ? "/props" : ask_models_ ? "/v1/models" : "/health";
  }
  // `http_status` 0 = no answer. Returns true when the body is that of /props.
  bool ProbeDone(int http_status, int failures_to_open, MonotonicTime now, absl::Duration period) {
    probing_ = false;
    next_probe_ = now + period;
    if (ask_props_) {
      ask_props_ = false;
      return http_status == 200;
    }
    if (!ask_models_ && (http_status == 404 || http_status == 405)) {
      ask_models_ = true;
      next_probe_ = now;
    } else if (http_status == 200) {
      if (!up_) {
        ask_props_ = true;
        next_probe_ = now;
      }
      up_ = true;
      failures_ = 0;
    } else {
      Failed(failures_to_open);
    }
    return false;
  }

  void Failed(int failures_to_open) {
    if (++failures_ >= failures_to_open) up_ = false;
  }
  void Succeeded() { failures_ = 0; }

 private:
  bool up_ = false;
  bool probing_ = false;
  bool ask_models_ = false;
  bool ask_props_ = false;
  int failures_ = 0;
  MonotonicTime next_probe_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_DISPATCH_BACKEND_HEALTH_H_
