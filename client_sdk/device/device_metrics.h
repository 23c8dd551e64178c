// What goad-device counts, for Prometheus.
#ifndef GOAD_CLIENT_SDK_DEVICE_DEVICE_METRICS_H_
#define GOAD_CLIENT_SDK_DEVICE_DEVICE_METRICS_H_

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <mutex>
#include <set>
#include <string>

#include "goad/runtime.h"

namespace goad::device {

// Thread-safe.
class DeviceMetrics {
 public:
  DeviceMetrics();

  void Began() { running_.Increment(); }
  // `first_piece_s`: since the request was read; negative: nothing was shown.
  void Ended(const Answering& answering, double first_piece_s);
  void Refused(const std::string& reason);  // one of a few of our own
  std::string Page(bool goad_connected, bool local_found);

 private:
  std::string Known(const std::string& reason);  // "OTHER" for the 65th: reasons may come from outside

  prometheus::Registry registry_;
  prometheus::Family<prometheus::Counter>&answers_, &refused_;
  prometheus::Gauge &running_, &connected_, &local_;
  prometheus::Histogram& uncertainty_;
  prometheus::Family<prometheus::Histogram>& first_piece_;
  std::mutex mutex_;
  std::set<std::string> reasons_;
};

}  // namespace goad::device

#endif  // GOAD_CLIENT_SDK_DEVICE_DEVICE_METRICS_H_
