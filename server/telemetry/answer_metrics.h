// How long questions and the parts of their answers take, by site. A part of Metrics.
#ifndef GOAD_SERVER_TELEMETRY_ANSWER_METRICS_H_
#define GOAD_SERVER_TELEMETRY_ANSWER_METRICS_H_

#include <array>
#include <string>

#include "prometheus/family.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"

namespace goad::server {

enum class Terminal {
  kLocal,
  kCompleted,
  kFailed,        // of goad or of its LLM servers
  kDeviceFailed,  // of the device or its prompt: refused, not uploaded, not read
  kCancelled,
  kLost,  // the stream ended first
};
inline constexpr size_t kTerminals = static_cast<size_t>(Terminal::kLost) + 1;

// Thread-safe, but for AddSite.
class AnswerMetrics {
 public:
  struct Site {
    std::array<prometheus::Histogram*, kTerminals> duration{};  // null: cannot be
    prometheus::Histogram *upload = nullptr, *ttft = nullptr, *tpot = nullptr;
  };

  explicit AnswerMetrics(prometheus::Registry& registry);
  Site AddSite(const std::string& name);

  Site nowhere;  // of queries that no site has: durations only

 private:
  prometheus::Family<prometheus::Histogram>&durations_, &uploads_, &ttfts_, &tpots_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_TELEMETRY_ANSWER_METRICS_H_
