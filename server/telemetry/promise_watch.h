// Whether the accuracy that the configuration promises is kept: what had to be offloaded and was not, and what apps say
// of the answers. Decides nothing.
#ifndef GOAD_SERVER_TELEMETRY_PROMISE_WATCH_H_
#define GOAD_SERVER_TELEMETRY_PROMISE_WATCH_H_

#include <array>
#include <optional>

#include "prometheus/registry.h"
#include "scheduler/calibration/error_watch.h"
#include "server/base/mutex.h"
#include "server/config/config.h"

namespace prometheus {
class Counter;
class Gauge;
}  // namespace prometheus

namespace goad::server {

enum class AnsweredBy { kDevice, kEdge };
inline constexpr std::array<const char*, 2> kAnsweredBy = {"device", "edge"};

// Counts since the promise is in force.
struct PromiseState {
  std::optional<calibration::Certificate> certificate;  // nothing: nothing is promised, and the rest is 0
  uint64_t decisions = 0, offloaded = 0;
  uint64_t forced = 0, forced_local = 0, forced_failed = 0;  // had to be offloaded; of these not, or without an answer
  struct Rated {
    uint64_t answers = 0;
    double error = 0;  // sum of 1 - quality
  };
  std::array<Rated, 2> rated;  // by AnsweredBy
  double evidence = 1, alarm_at = 0;
  bool broken = false;
};

// Thread-safe.
class PromiseWatch {
 public:
  explicit PromiseWatch(prometheus::Registry& registry);

  // Starts anew where another certificate is in force.
  void SetConfig(const PolicyConfig& policy);
  void Decided(bool forced, bool offloaded);
  void Failed();                              // forced, offloaded, and no answer of the edge
  void Rated(AnsweredBy by, double quality);  // 0..1
  void NotCounted();                          // a rating of what is not known, not over or rated already
  PromiseState State() const;

 private:
  void Show() GOAD_REQUIRES(mutex_);

  mutable Mutex mutex_;
  PromiseState state_ GOAD_GUARDED_BY(mutex_);
  std::optional<calibration::ErrorWatch> watch_ GOAD_GUARDED_BY(mutex_);

  // Have their own synchronization.
  prometheus::Counter *forced_offloaded_, *forced_local_, *forced_failed_, *not_counted_;
  std::array<prometheus::Counter*, 2> ratings_{}, errors_{};
  prometheus::Gauge *accuracy_, *evidence_, *broken_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_TELEMETRY_PROMISE_WATCH_H_
