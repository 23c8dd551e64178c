// How far predicted delays are from measured ones, and what compute is predicted from. A part of Metrics.
#ifndef GOAD_SERVER_TELEMETRY_PREDICTION_METRICS_H_
#define GOAD_SERVER_TELEMETRY_PREDICTION_METRICS_H_

#include <array>
#include <cstdint>
#include <string>

#include "prometheus/family.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"
#include "scheduler/types.h"

namespace goad::server {

enum class PredictedPart { kUpload, kCompute };

// Thread-safe, but for AddSite.
class PredictionMetrics {
 public:
  struct Site {
    std::array<prometheus::Histogram*, 2> error{}, relative_error{};  // by part
    std::array<prometheus::Gauge*, 4> service{};                      // in the order of ServiceTimes
    prometheus::Gauge* samples = nullptr;
  };

  explicit PredictionMetrics(prometheus::Registry& registry);
  Site AddSite(const std::string& name);

  void Measured(const Site& site, PredictedPart part, double measured_s, double predicted_s) const;
  void ServiceTimes(const Site& site, const sched::SiteState& state, uint64_t samples) const;

 private:
  prometheus::Family<prometheus::Histogram>&errors_, &relative_errors_;
  prometheus::Family<prometheus::Gauge>&service_, &samples_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_TELEMETRY_PREDICTION_METRICS_H_
