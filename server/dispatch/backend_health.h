// Whether a backend can be used: probes, consecutive failures, and the circuit they open. Pure.
#ifndef GOAD_SERVER_DISPATCH_BACKEND_HEALTH_H_
#define GOAD_SERVER_DISPATCH_BACKEND_HEALTH_H_

#include <string>

#include "server/base/monotonic_time.h"

namespace goad::server {

// Down until the first good probe. Each round asks /health; a server without it (404, 405) is asked for /v1/models from
// then on. A good answer is followed by /props where the server was down (llama-server's slots), then by /metrics, each at once;
// a server without load in its /metrics is not asked for them again until it was down.
// `failures_to_open` consecutive failures of rounds or requests open the circuit (down); one good round closes it.
// Thread-compatible.
class BackendHealth {
 public:
  enum class Answer { kHealth, kProps, kMetrics };

  bool up() const { return up_; }
  MonotonicTime next_probe() const { return probing_ ? MonotonicTime::Infinite() : next_probe_; }

  // The path to ask for now; the answer must be reported.
  std::string StartProbe() {
    probing_ = true;
    if (ask_props_) return "/props";
    if (ask_metrics_) return "/metrics";
    return ask_models_ ? "/v1/models" : "/health";
  }
  // `http_status` 0 = no answer. Returns what had been asked for.
  Answer ProbeDone(int http_status, int failures_to_open, MonotonicTime now, absl::Duration period) {
    probing_ = false;
    next_probe_ = now + period;
    if (ask_props_) {
      ask_props_ = false;
      if (ask_metrics_) next_probe_ = now;
      return Answer::kProps;
    }
    if (ask_metrics_) {
      ask_metrics_ = false;
      return Answer::kMetrics;
    }
    if (!ask_models_ && (http_status == 404 || http_status == 405)) {
      ask_models_ = true;
      next_probe_ = now;
    } else if (http_status == 200) {
      if (!up_) ask_props_ = has_metrics_ = true;
      ask_metrics_ = has_metrics_;
      if (ask_props_ || ask_metrics_) next_probe_ = now;
      up_ = true;
      failures_ = 0;
    } else {
      Failed(failures_to_open);
    }
    return Answer::kHealth;
  }
  void NoMetrics() { has_metrics_ = false; }

  void Failed(int failures_to_open) {
    if (++failures_ >= failures_to_open) up_ = false;
  }
  void Succeeded() { failures_ = 0; }

 private:
  bool up_ = false;
  bool probing_ = false;
  bool ask_models_ = false;
  bool ask_props_ = false, ask_metrics_ = false;  // in this round, still
  bool has_metrics_ = true;
  int failures_ = 0;
  MonotonicTime next_probe_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_DISPATCH_BACKEND_HEALTH_H_
